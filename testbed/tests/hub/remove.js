// Removes that file. Gives back the answer's status.
(async () => {
  const base = location.pathname.split("/").slice(0, 3).join("/") + "/";
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]+)/)?.[1] ?? "";
  return (await fetch(base + "api/contents/large.txt", { method: "DELETE", headers: { "X-XSRFToken": xsrf } })).status;
})()
