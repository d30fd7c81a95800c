// Runs CODE in a kernel of the lab whose page this is: the first one that runs, or a new one. Gives back what it printed.
(async () => {
  const base = location.pathname.split("/").slice(0, 3).join("/") + "/";
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1] ?? "";
  // Over TLS a browser says what a request is for, and the Hub then wants the token for reads, too.
  const headers = { "X-XSRFToken": xsrf };
  const running = await (await fetch(base + "api/kernels", { headers })).json();
  const start = () => fetch(base + "api/kernels", { method: "POST", headers }).then((made) => made.json());
  const { id } = running[0] ?? (await start());
  return await new Promise((done, failed) => {
    const session = crypto.getRandomValues(new Uint32Array(2)).join("-");
    const socket = new WebSocket(`wss://${location.host}${base}api/kernels/${id}/channels?session_id=${session}`);
    const header = { msg_id: session + "-1", msg_type: "execute_request", session, username: "", date: new Date().toISOString(), version: "5.3" };
    const content = { code: CODE, silent: false, store_history: false, user_expressions: {}, allow_stdin: false, stop_on_error: true };
    socket.onopen = () => socket.send(JSON.stringify({ header, parent_header: {}, metadata: {}, channel: "shell", buffers: [], content }));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.parent_header.msg_id !== header.msg_id) return;
      if (message.msg_type === "stream") done(message.content.text);
      if (message.msg_type === "error") failed(new Error(message.content.evalue));
    };
    setTimeout(() => failed(new Error("the kernel does not answer")), 200000);
  });
})()
