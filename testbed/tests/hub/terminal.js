// Runs COMMAND in a terminal of the lab whose page this is, and gives back what it wrote.
(async () => {
  const base = location.pathname.split("/").slice(0, 3).join("/") + "/";
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1] ?? "";
  const made = await fetch(base + "api/terminals", { method: "POST", headers: { "X-XSRFToken": xsrf } });
  if (!made.ok) throw new Error(`terminals: ${made.status} ${await made.text()}`);
  const { name } = await made.json();
  return await new Promise((done, failed) => {
    const socket = new WebSocket(`wss://${location.host}${base}terminals/websocket/${name}`);
    let text = "";
    // The end is a sum, so that the command's echo does not look like it.
    socket.onopen = () => socket.send(JSON.stringify(["stdin", `stty -echo; echo begin-$((40 + 2)); { COMMAND; } 2>&1; echo end-$((40 + 2))\r`]));
    socket.onmessage = ({ data }) => {
      const [kind, written] = JSON.parse(data);
      if (kind === "stdout") text += written;
      const found = text.match(/begin-42\s*([\s\S]*)end-42/);
      if (found) {
        socket.close();
        done(found[1].replace(/\r/g, "").replace(/\x1b\[[?0-9;]*[a-zA-Z]/g, ""));
      }
    };
    socket.onclose = () => failed(new Error("the terminal closed: " + text));
    setTimeout(() => failed(new Error("no end of: " + text)), 200000);
  });
})()
