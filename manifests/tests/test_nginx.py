"""A real nginx with the component's files: TLS, redirect, HSTS, websockets, large bodies, and refused requests."""

import base64
import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import MANIFESTS

HOST = "labs.example.org"
COMPONENT = MANIFESTS / "components/nginx"


class Upstream(BaseHTTPRequestHandler):
    """Answers with what arrived, and echoes websocket bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.headers.get("Upgrade", "").lower() == "websocket":
            key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", self.headers["Connection"])
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
            self.end_headers()
            self.close_connection = True
            while data := self.connection.recv(1024):
                self.connection.sendall(data)
            return
        self.answer(
            f"{self.server.name} {self.path} {self.headers['Host']} {self.headers['X-Forwarded-Proto']} {self.headers['X-Forwarded-For']}"
        )

    def do_PUT(self) -> None:
        left, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        while left:
            part = self.rfile.read(min(left, 1 << 20))
            left -= len(part)
            digest.update(part)
        self.answer(digest.hexdigest())

    def answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Strict-Transport-Security", "max-age=1")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


def upstream(name: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.name = name
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_authority(folder: Path) -> None:
    """A root and an intermediate authority, like public ones."""
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=root", folder=folder)
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "middle.key", "-out", "middle.csr", "-subj", "/CN=middle", folder=folder)
    (folder / "ca.cnf").write_text("basicConstraints=critical,CA:TRUE\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "middle.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
        "-CAcreateserial",
        "-extfile",
        "ca.cnf",
        "-out",
        "root_chain.pem",
        folder=folder,
    )


def make_certificate(folder: Path, tls: Path) -> None:
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tls.key", "-out", "tls.csr", "-subj", f"/CN={HOST}", folder=folder)
    (folder / "tls.cnf").write_text(f"subjectAltName=DNS:{HOST}\n")
    openssl(
        "x509",
        "-req",
        "-in",
        "tls.csr",
        "-CA",
        "root_chain.pem",
        "-CAkey",
        "middle.key",
        "-CAcreateserial",
        "-extfile",
        "tls.cnf",
        "-out",
        "tls.crt",
        folder=folder,
    )
    # As pasted into a Secret: without the last newline.
    for name in ("tls.crt", "tls.key", "root_chain.pem"):
        (tls / name).write_text((folder / name).read_text().rstrip("\n"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Nginx:
    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.tls = folder, folder / "tls"
        self.http, self.https = free_port(), free_port()
        (folder / "resolv.conf").write_text("search labhands.svc.cluster.local svc.cluster.local cluster.local\nnameserver 127.0.0.1\n")
        self.environment = os.environ | {
            "FILES": str(COMPONENT), "TLS": str(self.tls), "RUN": str(folder / "run"), "RESOLV_CONF": str(folder / "resolv.conf"),
            "HTTP_PORT": f"127.0.0.1:{self.http}", "HTTPS_PORT": f"127.0.0.1:{self.https}", "CERTIFICATE_INTERVAL": "0.1",
            **settings,
        }  # fmt: skip
        self.log = (folder / "log").open("w+")
        self.process: subprocess.Popen | None = None

    def start(self) -> "Nginx":
        command = ["sh", COMPONENT / "start.sh"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)
        self.wait(lambda: self.get("/", port=self.http).status == 301)
        return self

    def wait(self, condition) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                if condition():
                    return
            except (OSError, ValueError):
                pass
            assert self.process and self.process.poll() is None and time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.folder / "root.pem")
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.https), timeout=30), server_hostname=HOST)

    def get(self, path: str, method: str = "GET", port: int | None = None, headers: str = "", body: bytes = b"") -> HTTPResponse:
        """Sends exactly this path."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        request = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{length}{headers}\r\n".encode()
        with socket.create_connection(("127.0.0.1", port), timeout=30) if port else self.connect() as connection:
            # A request that is refused before all of it was read.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request + body)
            with HTTPResponse(connection, method=method) as response:
                response.begin()
                response.text = response.read().decode()
        return response

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(20) == 0
        self.log.close()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    folder = tmp_path_factory.mktemp("nginx")
    (folder / "tls").mkdir()
    make_authority(folder)
    make_certificate(folder, folder / "tls")
    hub, firefly = upstream("hub"), upstream("firefly")
    hub_at, firefly_at = (f"127.0.0.1:{server.server_address[1]}" for server in (hub, firefly))
    nginx = Nginx(folder, HUB_SERVICE=hub_at, FIREFLY_SERVICE=firefly_at).start()
    yield nginx
    nginx.stop()
    for server in (hub, firefly):
        server.shutdown()
        server.server_close()


def test_tls_is_verified_and_the_hub_answers(nginx: Nginx) -> None:
    response = nginx.get("/hub/login?next=/hub/")
    assert (response.status, response.text) == (200, f"hub /hub/login?next=/hub/ {HOST} https 127.0.0.1")
    assert response.headers.get_all("Strict-Transport-Security") == ["max-age=63072000"]
    assert response.headers["Server"] == "nginx"


def test_old_tls_is_refused(nginx: Nginx) -> None:
    context = ssl.create_default_context(cafile=nginx.folder / "root.pem")
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", nginx.https)) as connection:
        context.wrap_socket(connection, server_hostname=HOST)


def test_port_80_leads_to_https(nginx: Nginx) -> None:
    response = nginx.get("/hub/spawn?x=1", port=nginx.http)
    assert (response.status, response.headers["Location"]) == (301, f"https://{HOST}/hub/spawn?x=1")
    assert nginx.get("/nginx-health", port=nginx.http).text == "ok\n"


def test_a_websocket_goes_through(nginx: Nginx) -> None:
    request = f"GET /user/alice/api/kernels/1/channels HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with nginx.connect() as connection:
        connection.sendall((request + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(1024)
        assert answer.startswith(b"HTTP/1.1 101") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        connection.sendall(b"\x81\x05hello")
        assert connection.recv(1024) == b"\x81\x05hello"


def test_90_megabytes_arrive_and_more_than_100_do_not(nginx: Nginx) -> None:
    body = os.urandom(1 << 20) * 90
    connection = HTTPSConnection(HOST, context=ssl.create_default_context(cafile=nginx.folder / "root.pem"))
    with contextlib.closing(connection), nginx.connect() as connection.sock:
        connection.request("PUT", "/user/alice/api/contents/big.ipynb", body)
        response = connection.getresponse()
        assert (response.status, response.read().decode()) == (200, hashlib.sha256(body).hexdigest())
    assert nginx.get("/user/alice/api/contents/big", method="PUT", headers=f"Content-Length: {101 << 20}\r\n").status == 413


@pytest.mark.parametrize("path", ["/firefly/", "/firefly/sticky/firefly/events?a=b", "/firefly/administer-nothing/../x"])
def test_firefly_is_reached(nginx: Nginx, path: str) -> None:
    response = nginx.get(path)
    assert (response.status, response.text.split()[:2]) == (200, ["firefly", path])


def test_firefly_without_a_slash_and_paths_that_only_begin_alike(nginx: Nginx) -> None:
    assert nginx.get("/firefly").headers["Location"] == "/firefly/"
    assert nginx.get("/fireflies").text.startswith("hub ")


@pytest.mark.parametrize(
    "path",
    [
        "/firefly/admin", "/firefly/admin/", "/firefly/admin/status", "/firefly//admin", "/firefly/./admin", "/firefly/x/../admin",
        "/firefly/%61dmin", "/firefly/Admin", "/firefly/admin;x=1", "/firefly/;/admin", "/firefly/x/..;/admin",
        "/firefly/x/..%3b/admin", "/firefly/%2561dmin", "/firefly/x%2f..%2fadmin", "/firefly/x%5c..%5cadmin", "/x/../firefly/admin",
        "/%66irefly/admin", "//firefly/admin", "/firefly/admin%20", "/firefly/admin?x=1",
    ],
)  # fmt: skip
def test_firefly_admin_is_refused(nginx: Nginx, path: str) -> None:
    assert nginx.get(path).status in (400, 403)


def test_a_renewed_certificate_is_used_and_a_broken_one_is_not(nginx: Nginx) -> None:
    def served() -> bytes:
        with nginx.connect() as connection:
            return connection.getpeercert(binary_form=True)

    make_certificate(nginx.folder, nginx.tls)
    good = (nginx.tls / "tls.crt").read_text()
    renewed = ssl.PEM_cert_to_DER_cert(good)
    # While nginx reloads, a worker with the old certificate may answer once more after the first with the new one.
    nginx.wait(lambda: served() == renewed)
    (nginx.tls / "tls.crt").write_text("no certificate")
    try:
        nginx.wait(lambda: "the new certificate is invalid" in (nginx.folder / "log").read_text())
        assert served() == renewed
    finally:
        # The tests after this one use the same files.
        (nginx.tls / "tls.crt").write_text(good)


def test_tokens_are_not_in_the_log(nginx: Nginx) -> None:
    nginx.get("/user/alice/lab?token=secret-token")
    nginx.wait(lambda: '"path":"/user/alice/lab"' in (nginx.folder / "log").read_text())
    assert "secret-token" not in (nginx.folder / "log").read_text()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"HUB_SERVICE": "proxy-public"},
            'HUB_SERVICE: "proxy-public" is not NAMESPACE/SERVICE (example: HUB_SERVICE=jupyter/proxy-public)',
        ),
        ({"HUB_SERVICE": "a/b; return 200"}, "HUB_SERVICE:"),
        ({"FIREFLY_SERVICE": "firefly/firefly", "FIREFLY_CONTEXT": "/hub"}, "FIREFLY_CONTEXT:"),
        ({"SITE_HOST": "https://labs.example.org"}, "SITE_HOST:"),
    ],
)
def test_wrong_settings_are_refused(nginx: Nginx, tmp_path: Path, settings: dict[str, str], problem: str) -> None:
    environment = nginx.environment | {"RUN": str(tmp_path)} | settings
    run = subprocess.run(["sh", COMPONENT / "start.sh"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 64 and problem in run.stderr + run.stdout


def test_a_missing_certificate_is_named(tmp_path: Path, nginx: Nginx) -> None:
    environment = nginx.environment | {"RUN": str(tmp_path), "TLS": str(tmp_path)}
    run = subprocess.run(["sh", COMPONENT / "start.sh"], env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert run.returncode == 64 and "tls.crt is missing" in run.stderr + run.stdout


def test_services_have_their_whole_name(nginx: Nginx, tmp_path: Path) -> None:
    other = Nginx(tmp_path, HUB_SERVICE="hubs/proxy-public:8000", FIREFLY_SERVICE="")
    other.tls, other.environment["TLS"] = nginx.tls, str(nginx.tls)
    other.start()
    configuration = (tmp_path / "run/nginx.conf").read_text()
    other.stop()
    assert '"proxy-public.hubs.svc.cluster.local:8000"' in configuration
    assert "firefly" not in configuration and "@" not in configuration.replace("the names between @", "")
