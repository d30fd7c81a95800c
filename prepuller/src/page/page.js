// Live updates: the server sends the changing part of the page again, and what differs is put in place, so that focus,
// selection and scroll position stay. Without this script the page is the same, as of its loading.
"use strict";
(() => {
  const state = document.getElementById("state");
  const pause = document.getElementById("pause");
  let source = null;
  let retry = 0;

  const patch = (old, next) => {
    for (const { name, value } of next.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    for (const { name } of [...old.attributes]) {
      // What a reader has unfolded stays so.
      if (!next.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    const olds = [...old.childNodes];
    const nexts = [...next.childNodes];
    nexts.forEach((child, index) => {
      const before = olds[index];
      if (!before) old.append(child);
      else if (before.nodeName !== child.nodeName) before.replaceWith(child);
      else if (child.nodeType === Node.ELEMENT_NODE) patch(before, child);
      else if (before.data !== child.data) before.data = child.data;
    });
    for (const gone of olds.slice(nexts.length)) gone.remove();
  };

  const close = (words) => {
    clearTimeout(retry);
    if (source) source.close();
    source = null;
    state.textContent = words;
    state.className = "";
  };

  const open = () => {
    close("Connecting…");
    source = new EventSource("events" + location.search);
    source.onopen = () => {
      state.textContent = "Live";
      state.className = "on";
    };
    source.onmessage = (event) => {
      const next = new DOMParser().parseFromString(event.data, "text/html").querySelector("main");
      patch(document.querySelector("main"), next);
      document.title = next.dataset.title;
    };
    source.onerror = () => {
      // The browser tries again by itself after a broken connection, but not after a refusal.
      const refused = source.readyState === EventSource.CLOSED;
      if (refused) close("");
      state.textContent = "Connection lost";
      state.className = "";
      if (refused) retry = setTimeout(open, 10000);
    };
  };

  const paused = () => pause.getAttribute("aria-pressed") === "true";
  pause.hidden = false;
  pause.addEventListener("click", () => {
    pause.setAttribute("aria-pressed", String(!paused()));
    if (paused()) close("Paused");
    else open();
  });
  // Nobody looks at a hidden page.
  document.addEventListener("visibilitychange", () => {
    if (paused()) return;
    if (document.hidden) close("");
    else open();
  });
  open();
})();
