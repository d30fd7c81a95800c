// Live updates: the server sends the changing part of the page again, and only the differences are applied, so that focus,
// selection and scroll position are kept. Without this script the page shows the state at its loading.
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
      // Keeps what the reader has unfolded.
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
      // The browser itself reconnects after a broken connection, but not after a refusal.
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
  // A hidden page needs no updates.
  document.addEventListener("visibilitychange", () => {
    if (paused()) return;
    if (document.hidden) close("");
    else open();
  });
  open();
})();
