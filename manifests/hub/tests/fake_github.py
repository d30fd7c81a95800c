"""A fake GitHub: login, users, organizations, teams, e-mails, tokens that expire, outages of each kind, and git over HTTP.

As a program it serves until it is ended: ``fake_github.py --help``. ``POST /control`` takes JSON that changes accounts and outages.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlencode

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler


@dataclass
class Account:
    """A user of GitHub."""

    login: str
    id: int
    name: str | None = None
    email: str | None = None
    private_email: str | None = None
    organizations: dict[str, int] = field(default_factory=dict)
    teams: list[str] = field(default_factory=list)


@dataclass
class GitHub:
    """Accounts, tokens, and the current outage."""

    accounts: dict[str, Account] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    browser_user: str | None = None
    outage: int | str | None = None
    expiring: bool = False
    requests: list[str] = field(default_factory=list)

    def add(self, account: Account) -> Account:
        self.accounts[account.login] = account
        return account

    def token(self, login: str) -> dict[str, Any]:
        """A token answer, as GitHub sends it: scopes are separated by commas."""
        token = "gho_" + secrets.token_hex(8)
        self.tokens[token] = login
        answer = {"access_token": token, "token_type": "bearer", "scope": "read:org,user:email"}
        if self.expiring:
            answer["refresh_token"] = "ghr_" + secrets.token_hex(8)
            self.refresh_tokens[answer["refresh_token"]] = login
        return answer

    def control(self, change: dict[str, Any]) -> None:
        """Replaces accounts, the outage, or revokes all tokens."""
        for account in change.get("accounts", []):
            self.add(Account(**account))
        if "outage" in change:
            self.outage = change["outage"]
        if "browser_user" in change:
            self.browser_user = change["browser_user"]
        if change.get("revoke"):
            self.tokens.clear()


class Handler(RequestHandler):
    """The base of all handlers."""

    def initialize(self, github: GitHub) -> None:
        self.github = github

    def check_xsrf_cookie(self) -> None:
        pass

    async def prepare(self) -> None:
        self.github.requests.append(self.request.path)
        if self.request.path == "/control":
            return
        if self.github.outage == "silent":
            await asyncio.Event().wait()
        if self.github.outage == "garbage":
            await self.finish("<html>unicorn</html>")
        elif isinstance(self.github.outage, int):
            self.set_status(self.github.outage)
            await self.finish({"message": "an outage"})

    def account(self) -> Account:
        token = self.request.headers.get("Authorization", "").split(" ")[-1]
        login = self.github.tokens.get(token)
        if login not in self.github.accounts:
            raise HTTPError(401)
        return self.github.accounts[login]

    def pages(self, entries: list[Any]) -> None:
        """GitHub returns at most 100 entries, and a link to the next page."""
        page, size = int(self.get_argument("page", "1")), min(int(self.get_argument("per_page", "30")), 100)
        if len(entries) > page * size:
            address = f"{self.request.protocol}://{self.request.host}{self.request.path}"
            self.set_header("Link", f'<{address}?{urlencode({"per_page": size, "page": page + 1})}>; rel="next"')
        self.finish(json.dumps(entries[(page - 1) * size : page * size]))


class Authorize(Handler):
    def get(self) -> None:
        code = secrets.token_hex(8)
        self.github.codes[code] = self.github.browser_user or next(iter(self.github.accounts))
        self.redirect(self.get_argument("redirect_uri") + "?" + urlencode({"code": code, "state": self.get_argument("state")}))


class Token(Handler):
    def post(self) -> None:
        known = self.github.refresh_tokens if self.get_argument("grant_type") == "refresh_token" else self.github.codes
        login = known.pop(self.get_argument("refresh_token", None) or self.get_argument("code", ""), None)
        self.finish(self.github.token(login) if login else {"error": "bad_refresh_token", "error_description": "The token is not valid."})


class CurrentUser(Handler):
    def get(self) -> None:
        account = self.account()
        self.finish({"login": account.login, "id": account.id, "name": account.name, "email": account.email})


class Organizations(Handler):
    def get(self) -> None:
        self.pages([{"login": name, "id": number} for name, number in self.account().organizations.items()])


class Teams(Handler):
    def get(self) -> None:
        pairs = (team.split(":") for team in self.account().teams)
        self.pages([{"slug": slug, "organization": {"login": organization}} for organization, slug in pairs])


class Emails(Handler):
    def get(self) -> None:
        address = self.account().private_email
        if address is None:
            raise HTTPError(404)
        self.pages([{"email": "old@example.org", "primary": False}, {"email": address, "primary": True}])


class Member(Handler):
    def get(self, organization: str, team: str | None, login: str) -> None:
        asked = self.github.accounts.get(login)
        self.account()
        entries = asked and (asked.teams if team else asked.organizations)
        name = f"{organization}:{team}" if team else organization
        self.set_status(204 if entries and name in entries else 404)
        self.finish()


class Git(Handler):
    """git's own server with a user's token as the password, as on GitHub."""

    def initialize(self, github: GitHub, repositories: str) -> None:
        super().initialize(github)
        self.repositories = repositories

    async def get(self) -> None:
        kind, _, words = self.request.headers.get("Authorization", "").partition(" ")
        token = base64.b64decode(words).decode().partition(":")[2] if kind == "Basic" else ""
        login = self.github.tokens.get(token)
        if login is None:
            self.set_status(401)
            self.set_header("WWW-Authenticate", 'Basic realm="git"')
            self.finish()
            return
        request = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.repositories,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.request.headers.get("Git-Protocol", ""),
            "PATH_INFO": self.request.path,
            "QUERY_STRING": self.request.query,
            "REQUEST_METHOD": self.request.method,
            "CONTENT_TYPE": self.request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.request.headers.get("Content-Encoding", ""),
            "REMOTE_USER": login,
        }
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec("git", "http-backend", stdin=pipe, stdout=pipe, env=request)
        output, _ = await process.communicate(self.request.body)
        head, _, body = output.partition(b"\r\n\r\n")
        for line in head.decode().splitlines():
            name, _, value = line.partition(": ")
            if name == "Status":
                self.set_status(int(value.split()[0]))
            else:
                self.set_header(name, value)
        self.finish(body)

    post = get


class Control(Handler):
    def post(self) -> None:
        self.github.control(json.loads(self.request.body))
        self.finish("ok")

    def get(self) -> None:
        self.finish({"accounts": [asdict(account) for account in self.github.accounts.values()], "requests": self.github.requests})


def start(
    github: GitHub, port: int = 0, address: str = "127.0.0.1", tls: dict[str, str] | None = None, repositories: str = "."
) -> tuple[HTTPServer, str]:
    """A server, on loopback by default, and its address."""
    routes: list[tuple[str, type[Handler]]] = [
        (r"/login/oauth/authorize", Authorize),
        (r"/login/oauth/access_token", Token),
        (r"/api/v3/user", CurrentUser),
        (r"/api/v3/user/orgs", Organizations),
        (r"/api/v3/user/teams", Teams),
        (r"/api/v3/user/emails", Emails),
        (r"/api/v3/orgs/([^/]+)(?:/teams/([^/]+))?/members/([^/]+)", Member),
        (r"/control", Control),
    ]
    application = Application(
        [
            *((path, handler, {"github": github}) for path, handler in routes),
            (r"/[^/]+/[^/]+\.git/(?:info/refs|git-upload-pack|git-receive-pack)", Git, {"github": github, "repositories": repositories}),
        ]
    )
    sockets = bind_sockets(port, address)
    server = HTTPServer(application, ssl_options=tls)
    server.add_sockets(sockets)
    return server, f"{'https' if tls else 'http'}://{address}:{sockets[0].getsockname()[1]}"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int, help="0 is any free one")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--certificate", help="to serve over TLS; with --key")
    parser.add_argument("--key")
    parser.add_argument("--repositories", default=".", help="the folder of OWNER/NAME.git")
    given = parser.parse_args()
    tls = {"certfile": given.certificate, "keyfile": given.key} if given.certificate else None
    _, address = start(GitHub(), given.port, given.address, tls, given.repositories)
    print(address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
