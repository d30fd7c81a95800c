"""A GitHub on loopback: login, users, organizations, teams, e-mails, tokens that end, and outages of each kind.

As a program: ``fake_github.py PORT`` serves until it is ended. ``POST /control`` takes JSON that changes accounts and outages.
"""

import asyncio
import json
import secrets
import sys
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
    """Accounts, tokens, and what is wrong today."""

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
        """A token answer, as GitHub gives it: scopes are separated by commas."""
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
    """What all addresses share."""

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
        """GitHub gives at most 100 entries and links to the next page."""
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


class Control(Handler):
    def post(self) -> None:
        self.github.control(json.loads(self.request.body))
        self.finish("ok")

    def get(self) -> None:
        self.finish({"accounts": [asdict(account) for account in self.github.accounts.values()], "requests": self.github.requests})


def start(github: GitHub, port: int = 0) -> tuple[HTTPServer, str]:
    """A server on loopback, and its address."""
    routes = [
        (r"/login/oauth/authorize", Authorize),
        (r"/login/oauth/access_token", Token),
        (r"/api/v3/user", CurrentUser),
        (r"/api/v3/user/orgs", Organizations),
        (r"/api/v3/user/teams", Teams),
        (r"/api/v3/user/emails", Emails),
        (r"/api/v3/orgs/([^/]+)(?:/teams/([^/]+))?/members/([^/]+)", Member),
        (r"/control", Control),
    ]
    application = Application([(path, handler, {"github": github}) for path, handler in routes])
    sockets = bind_sockets(port, "127.0.0.1")
    server = HTTPServer(application)
    server.add_sockets(sockets)
    return server, f"http://127.0.0.1:{sockets[0].getsockname()[1]}"


async def main() -> None:
    _, address = start(GitHub(), int(sys.argv[1]))
    print(address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
