"""Who may log in, and how: GitHub, CILogon, any OpenID Connect provider, or a password for demonstrations."""

from __future__ import annotations

import inspect
import time
import zlib
from dataclasses import dataclass
from typing import Any

from jupyterhub.auth import Authenticator, DummyAuthenticator
from jupyterhub.handlers.base import BaseHandler

from . import identity, site
from .github import CHECKED, GROUPS, GitHubWithGrace
from .grace import CILogonWithGrace, OpenIDConnectWithGrace
from .identity import Identity
from .refusal import refusal
from .settings import Environment

PROVIDERS = ("github", "cilogon", "oidc", "dummy")

# A name becomes a folder, an entry of /etc/passwd and a label, so it must begin with a letter or digit and have no slash or colon.
_NAME = r"[a-z0-9][a-z0-9._@+-]{0,62}"


@dataclass(frozen=True)
class Settings:
    """Who may log in."""

    provider: str
    organizations: tuple[str, ...]
    admin_teams: tuple[str, ...]
    grace: float
    refresh: float
    push: bool
    hub_groups: bool
    uid_claim: str
    name_claim: str
    groups_claim: str
    groups: tuple[str, ...]
    identity_providers: tuple[str, ...]
    password: str

    @classmethod
    def read(cls, env: Environment) -> Settings:
        """From the environment. Client id, secret, callback and GitHub's host are read by oauthenticator itself."""
        settings = cls(
            provider=env.choice("LOGIN_PROVIDER", PROVIDERS),
            organizations=env.names("GITHUB_ORGANIZATIONS", "GITHUB_ORGANIZATION_WHITELIST"),
            admin_teams=env.names("GITHUB_ADMIN_TEAMS"),
            grace=env.seconds("LOGIN_GRACE", "12h", 0, 30 * 86400),
            refresh=env.seconds("LOGIN_REFRESH", "5m", 1, 86400),
            push=env.switch("GITHUB_PUSH"),
            hub_groups=env.switch("LOGIN_HUB_GROUPS"),
            uid_claim=env.text("LOGIN_UID_CLAIM"),
            name_claim=env.text("LOGIN_NAME_CLAIM", default="preferred_username"),
            groups_claim=env.text("LOGIN_GROUPS_CLAIM", default="groups"),
            groups=env.names("LOGIN_GROUPS"),
            identity_providers=env.names("CILOGON_IDENTITY_PROVIDERS"),
            password=env.text("LOGIN_PASSWORD"),
        )
        settings._check(env)
        return settings

    def _check(self, env: Environment) -> None:
        if self.provider == "github" and not self.organizations:
            env.problem("GITHUB_ORGANIZATIONS", "no user could log in", "my-organization,other-organization:team")
        if self.provider in ("cilogon", "oidc") and not self.uid_claim:
            what = "the claim with the numeric user id is not named, and labs need one"
            env.problem("LOGIN_UID_CLAIM", what, "uidNumber")
        if self.provider in ("cilogon", "oidc") and not self.groups:
            env.problem("LOGIN_GROUPS", "no user could log in", "astronomers")
        if self.provider == "cilogon" and not self.identity_providers:
            what = "CILogon needs to know whose users may log in"
            env.problem("CILOGON_IDENTITY_PROVIDERS", what, "https://idp.example.org/idp/shibboleth")
        if self.provider == "dummy" and not self.password:
            env.problem("LOGIN_PASSWORD", "a demonstration needs one password for all", "choose-a-long-one")
        for name, entries in (("GITHUB_ORGANIZATIONS", self.organizations), ("GITHUB_ADMIN_TEAMS", self.admin_teams)):
            for entry in entries:
                if entry.count(":") > 1 or "/" in entry or " " in entry or not all(entry.split(":")):
                    env.problem(name, f"{entry!r} is not an organization or organization:team", "my-organization:my-team")


def require_client(env: Environment, c: Any, settings: Settings) -> None:
    """Reports a client that neither the environment nor the site names. Users would see an error of the provider."""
    if settings.provider == "dummy":
        return
    prefix, section = {
        "github": ("GITHUB", c.GitHubOAuthenticator),
        "cilogon": ("CILOGON", c.CILogonOAuthenticator),
        "oidc": ("OAUTH", c.GenericOAuthenticator),
    }[settings.provider]
    for trait in ("client_id", "client_secret"):
        name = f"{prefix}_{trait.upper()}"
        if not env.text(name, f"OAUTH_{trait.upper()}") and not site.first(trait, section, c.OAuthenticator):
            env.problem(name, "the login provider gives it to you when you register the Hub there", "from-a-secret")


class DemonstrationLogin(DummyAuthenticator):
    """One password for all names; each name has its own uid."""

    async def authenticate(self, handler: Any, data: Any = None) -> Any:
        """A model with an identity, as from a real provider."""
        name = await super().authenticate(handler, data)
        if not name:
            return None
        uid = 20_000 + zlib.crc32(name.encode()) % 40_000
        return {"name": name, "auth_state": {**Identity(name, uid).to_state(), GROUPS: []}}


def configure(c: Any, settings: Settings) -> None:
    """Sets the authenticator."""
    c.Authenticator.enable_auth_state = True
    c.Authenticator.username_pattern = _NAME
    # JupyterHub admits every user who ever logged in as soon as a site names one user.
    c.Authenticator.allow_existing_users = False
    c.Authenticator.refresh_pre_spawn = True
    # 0 would also switch off the check before a start.
    c.Authenticator.auth_refresh_age = int(settings.refresh)
    if Authenticator.class_traits().get("auth_refresh_strict"):
        c.Authenticator.auth_refresh_strict = True  # JupyterHub 6 would let an administrator start the lab of a removed member
    if not hasattr(BaseHandler, "_token_authenticated"):
        # JupyterHub 6.1 reads it before it is set when a login has ended, and answers 500 instead of the login page.
        BaseHandler._token_authenticated = False
    ours = {"connect_timeout": 5, "request_timeout": 10}
    c.OAuthenticator.http_request_kwargs = {**ours, **c.OAuthenticator.get("http_request_kwargs", {})}
    {"github": _github, "cilogon": _cilogon, "oidc": _oidc, "dummy": _dummy}[settings.provider](c, settings)


def _github(c: Any, settings: Settings) -> None:
    c.JupyterHub.authenticator_class = GitHubWithGrace
    c.GitHubWithGrace.allowed_organizations = set(settings.organizations)
    c.GitHubWithGrace.admin_teams = set(settings.admin_teams)
    c.GitHubWithGrace.grace = settings.grace
    asked = [*site.listed(c.OAuthenticator, "scope"), *site.listed(c.GitHubOAuthenticator, "scope")]
    ours = ["read:org", "user:email", *(["public_repo"] if settings.push else [])]
    c.GitHubWithGrace.scope = list(dict.fromkeys([*ours, *asked]))
    if settings.hub_groups:
        _hub_groups(c)


def _cilogon(c: Any, settings: Settings) -> None:
    c.JupyterHub.authenticator_class = CILogonWithGrace
    c.CILogonOAuthenticator.allowed_idps = {
        provider: {"username_derivation": {"username_claim": settings.name_claim}} for provider in settings.identity_providers
    }
    _claims(c, settings)


def _oidc(c: Any, settings: Settings) -> None:
    c.JupyterHub.authenticator_class = OpenIDConnectWithGrace
    c.GenericOAuthenticator.username_claim = settings.name_claim
    c.GenericOAuthenticator.scope = ["openid", "profile", "email"]
    _claims(c, settings)


def _claims(c: Any, settings: Settings) -> None:
    _hub_groups(c)
    c.WithGrace.grace = settings.grace
    c.OAuthenticator.allowed_groups = {group.lower() for group in settings.groups}
    site_hook = c.OAuthenticator.get("modify_auth_state_hook")

    async def add_identity(authenticator: Any, state: dict[str, Any]) -> dict[str, Any]:
        state = {**state, **claims_state(state[authenticator.user_auth_state_key], settings)}
        if site_hook is None:
            return state
        changed = site_hook(authenticator, state)
        return dict(await changed if inspect.isawaitable(changed) else changed)

    c.OAuthenticator.modify_auth_state_hook = add_identity


def _hub_groups(c: Any) -> None:
    """Organizations, teams or groups of the provider become JupyterHub's own groups, for its roles and for ``admin_groups``."""
    c.OAuthenticator.manage_groups = True
    c.OAuthenticator.auth_state_groups_key = lambda state: set(state[GROUPS])


def claims_state(claims: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Identity and groups from a provider's claims. Raises a 403 with a sentence if there is no usable uid."""
    name = str(claims.get(settings.name_claim, "")).lower()
    try:
        uid = identity.user_id(claims.get(settings.uid_claim))
    except ValueError as error:
        raise refusal(403, f"Your login has no usable {settings.uid_claim}: {error}. Please ask an administrator.") from error
    groups = claims.get(settings.groups_claim) or []
    groups = groups if isinstance(groups, list) else str(groups).split(",")
    who = Identity(name, uid, email=str(claims.get("email") or ""), full_name=str(claims.get("name") or name))
    lower = {str(group).strip().lower() for group in groups}
    return {**who.to_state(), GROUPS: sorted(lower - {""}), CHECKED: time.time()}


def _dummy(c: Any, settings: Settings) -> None:
    c.JupyterHub.authenticator_class = DemonstrationLogin
    c.DemonstrationLogin.password = settings.password
    c.DemonstrationLogin.allow_all = True
