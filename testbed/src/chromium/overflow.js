(() => {
    const page = document.documentElement, found = [];
    if (page.scrollWidth > innerWidth) found.push(`the page is ${page.scrollWidth} wide, the window ${innerWidth}`);
    // What is only for screen readers is clipped to a pixel.
    const clipped = element => element.getBoundingClientRect().width <= 1 || (element.parentElement && clipped(element.parentElement));
    for (const element of document.body.querySelectorAll("*")) {
        const box = element.getBoundingClientRect(), style = getComputedStyle(element);
        const scrolls = ["auto", "scroll"].includes(style.overflowX) && element.scrollWidth > element.clientWidth;
        const outside = box.right > innerWidth + 0.5 || box.left < -0.5;
        if ((scrolls || outside) && style.visibility !== "hidden" && !clipped(element)) found.push(element.outerHTML.slice(0, 120));
    }
    return found;
})()
