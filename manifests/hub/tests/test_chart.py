"""The files as Zero to JupyterHub's chart loads them, in a real Hub. Only its proxy is a small fake."""

import html
import http.cookiejar
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from traitlets.config import Config, PyFileConfigLoader

from conftest import document, image

HERE = Path(__file__).parent
FILES = HERE.parent


class Proxy(BaseHTTPRequestHandler):
    """As much of configurable-http-proxy's API as a Hub without labs needs."""

    def answer(self, status=200):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer(201)

    def do_DELETE(self):
        self.answer(204)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Browser:
    """A browser without a window: it keeps cookies and follows redirects."""

    def __init__(self):
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, url, form=None):
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with self._opener.open(url, data, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The variables of a Hub's process; the fake GitHub and the proxy live until the end of the module."""
    folder = tmp_path_factory.mktemp("hub")
    catalogue = folder / "catalogue.json"
    catalogue.write_bytes(document(image("w_2026_47"), image("w_2026_46", wanted=False)))
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    github_port, hub_port = free_port(), free_port()
    github = subprocess.Popen([sys.executable, str(HERE / "fake_github.py"), str(github_port)], stdout=subprocess.PIPE)
    github.stdout.readline()
    yield {
        **os.environ,
        "PYTHONPATH": str(FILES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROXY_API": f"http://127.0.0.1:{proxy.server_port}",
        "CONFIGPROXY_AUTH_TOKEN": "token",
        "HUB_URL": f"http://127.0.0.1:{hub_port}",
        "CONFIG_D": str(FILES / "jupyterhub_config.d"),
        "LAB_CATALOGUE": catalogue.as_uri(),
        "GITHUB_ORGANIZATIONS": "org",
        "GITHUB_PUSH": "on",
        "GITHUB_URL": f"http://127.0.0.1:{github_port}",
        "OAUTH_CALLBACK_URL": f"http://127.0.0.1:{hub_port}/hub/oauth_callback",
    }
    github.kill()
    github.wait()
    proxy.shutdown()


@pytest.fixture(scope="module")
def hub(environment, tmp_path_factory):
    """A running Hub's address."""
    folder = tmp_path_factory.mktemp("log")
    with (folder / "hub.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterhub", "--config", str(HERE / "like_the_chart.py")]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        yield ready(process, environment["HUB_URL"], folder / "hub.log")
        process.terminate()
        process.wait(timeout=30)


def ready(process, url, log):
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url + "/hub/health", timeout=5)
            return url
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())


def control(environment, change):
    urllib.request.urlopen(environment["GITHUB_URL"] + "/control", json.dumps(change).encode(), timeout=10)


def log_in(environment, hub, account):
    """The page that a browser sees after a login."""
    return visit(environment, hub, account)[1]


def visit(environment, hub, account):
    """The browser, and what it sees."""
    control(environment, {"accounts": [account], "browser_user": account["login"]})
    browser = Browser()
    return browser, browser.get(f"{hub}/hub/oauth_login?next=%2Fhub%2Fspawn")


def test_a_member_sees_the_menu_of_a_hub_of_the_chart(environment, hub):
    status, page = log_in(environment, hub, {"login": "ada", "id": 4711, "organizations": {"org": 77}})
    assert status == 200, page
    assert re.findall(r'id="profile-item-([^"]+)"', page) == ["w_2026_47", "other"]
    assert "on 1 of 2 nodes" in page


def test_a_stranger_reads_why(environment, hub):
    status, page = log_in(environment, hub, {"login": "eve", "id": 4712, "organizations": {"elsewhere": 78}})
    assert status == 403
    assert "eve is not a member of org according to GitHub" in page


def until_settled(browser, address):
    """The page of a start or a stop once it is over."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        _, page = browser.get(address)
        if "is starting up" not in page and "is stopping" not in page:
            return page
    raise AssertionError(page)


@pytest.mark.parametrize("address", ["spawn/ada", "spawn/ada/second"])
def test_a_start_that_is_refused_can_be_tried_again(environment, hub, address):
    """For the default server and a named one: the reason, and the form once more."""
    browser, _ = visit(environment, hub, {"login": "ada", "id": 4711, "organizations": {"org": 77}})
    for _ in range(2):
        status, page = browser.get(f"{hub}/hub/{address}")
        assert status == 200
        action = html.unescape(re.search(r'<form[^>]+id="spawn_form"[^>]+action="([^"]+)"', page)[1])
        browser.get(hub + action, {"profile": "w_2020_01"})
        pending = f"{hub}/hub/{address.replace('spawn', 'spawn-pending')}"
        page = until_settled(browser, pending)
        assert page.count("“w_2020_01” is no longer on the menu of labs") == 1


def test_settings_of_the_chart_are_kept(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = PyFileConfigLoader("like_the_chart.py", path=str(HERE)).load_config()
    assert isinstance(config, Config)
    assert [service["name"] for service in config.JupyterHub.services] == ["site"]
    assert [role["name"] for role in config.JupyterHub.load_roles] == ["site", "user"]
    assert config.KubeSpawner.extra_labels == {"hub.jupyter.org/network-access-hub": "true"}
    assert list(config.KubeSpawner.volumes) == ["site"]
    assert "read:packages" in config.GitHubWithGrace.scope
    # The site's values, which override our defaults.
    assert (config.KubeSpawner.start_timeout, config.KubeSpawner.default_url) == (1200, "/tree")
    # And values that must not be kept.
    assert (config.KubeSpawner.fs_gid, config.Spawner.consecutive_failure_limit) == (None, 0)


def test_the_values_pass_every_file():
    values = (FILES / "zero-to-jupyterhub/values.yaml").read_text()
    options = subprocess.run([FILES / "zero-to-jupyterhub/files"], capture_output=True, text=True, check=True).stdout.split()
    given = dict(re.fullmatch(r"--set-file=hub\.extraFiles\.([a-z-]+)\.stringData=(.+)", option).groups() for option in options)
    mounted = dict(re.findall(r"(labhands-[a-z-]+): \{ mountPath: /usr/local/etc/jupyterhub/(\S+) \}", values))
    assert {key: Path(path).relative_to(FILES).as_posix() for key, path in given.items()} == mounted
    package = {f"labhands_hub/{file.name}" for file in (FILES / "labhands_hub").iterdir() if file.suffix in (".py", ".sh")}
    # plain.py is for a Hub without the chart.
    assert set(mounted.values()) == package - {"labhands_hub/plain.py"} | {"jupyterhub_config.d/50-labhands.py"}
