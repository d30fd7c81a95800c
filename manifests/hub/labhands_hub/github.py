"""GitHub login by organization and team that survives GitHub's outages.

Membership is checked at login, at each refresh and before each start, by calls that distinguish "no" from "no answer". Without an answer,
the last successful check counts for a while.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from oauthenticator.github import GitHubOAuthenticator
from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError
from traitlets import Float, Set, Unicode

from . import identity
from .identity import Identity
from .refusal import refusal

CHECKED = "labhands_checked"
"""When membership was last confirmed, in seconds since the epoch, in the auth state."""

GROUPS = "labhands_groups"
"""Organizations and teams (``organization:team``), in lower case, in the auth state."""


class NoAnswerError(Exception):
    """GitHub did not say yes or no."""


class GitHubWithGrace(GitHubOAuthenticator):
    """oauthenticator's GitHub login, with repeated checks of membership and a grace period for outages."""

    grace = Float(12 * 3600, config=True, help="For this many seconds after the last successful check, a missing answer changes nothing.")
    admin_teams = Set(Unicode(), config=True, help="Organizations and teams (organization:team) whose members administer the Hub.")

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> Any:
        """Refuses a name that belonged to another account: GitHub reassigns the names of renamed and deleted accounts."""
        try:
            model = await super().authenticate(handler, data, **kwargs)
        except HTTPClientError as error:
            if _is_refusal(error):
                raise
            raise refusal(503, f"GitHub does not answer now ({error.code}). Please try again in a minute.") from error
        except (OSError, ValueError) as error:  # no connection, or a body that is not JSON
            raise refusal(503, f"GitHub does not answer now ({type(error).__name__}). Please try again in a minute.") from error
        user = handler.find_user(model["name"]) if model else None
        known = await user.get_auth_state() if user else None
        if known and not self._is_same_account(known, model["auth_state"]):
            raise refusal(403, f"{model['name']} was the name of another GitHub account here. Please ask an administrator.")
        return model

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Adds identity, groups, administrator and the time of the check."""
        model = await super().update_auth_model(auth_model)
        state = model["auth_state"]
        user = state[self.user_auth_state_key]
        organizations = await self._list("/user/orgs", state)
        teams = await self._list("/user/teams", state)
        email = user.get("email") or await self._private_email(state)
        state[CHECKED] = time.time()
        state[GROUPS] = sorted(
            {organization["login"].lower() for organization in organizations}
            | {f"{team['organization']['login']}:{team['slug']}".lower() for team in teams}
        )
        numbers = [(organization["login"], int(organization["id"])) for organization in organizations]
        state |= Identity(
            name=model["name"],
            uid=identity.user_id(user["id"]),
            groups=identity.groups(numbers, sorted(self.allowed_organizations)),
            email=email,
            full_name=user.get("name") or user["login"],
        ).to_state()
        if self.admin_teams and not model["admin"]:
            model["admin"] = any(team.lower() in state[GROUPS] for team in self.admin_teams)
        return model

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Raises an error with a sentence if GitHub says no, or gives no answer."""
        if auth_model is None or self._is_named(username, auth_model):
            return True
        try:
            if await self._is_member(username, auth_model["auth_state"]):
                return True
        except NoAnswerError as error:
            raise refusal(503, f"GitHub does not answer now ({error}). Please try again in a minute.") from error
        wanted = " or ".join(sorted(self.allowed_organizations))
        raise refusal(
            403,
            f"{username} is not a member of {wanted} according to GitHub. If you are one, ask an owner of the organization to "
            "approve this application (organization settings, third-party access), then log in again.",
        )

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        """A new model, ``True`` for "as before", or ``False`` for "log in again"."""
        state = await user.get_auth_state()
        if not state:
            return False
        try:
            model = await self._current_model(handler, state)
            if model is None:
                self.log.info("GitHub no longer accepts the token of %s", user.name)
                return False
            if not self._is_same_account(state, model["auth_state"]):
                self.log.warning("%s is now another GitHub account", user.name)
                return False
            if self._is_named(user.name, model) or await self._is_member(user.name, model["auth_state"]):
                return model
            self.log.warning("%s is no longer a member of the allowed organizations", user.name)
            return False
        except Exception as error:  # no connection, a rate limit, a body that is not JSON: none of these means "no"
            age = time.time() - state.get(CHECKED, 0)
            if 0 <= age < self.grace:
                self.log.warning("GitHub does not answer (%s); %s was checked %.0f s ago and stays logged in", error, user.name, age)
                return True
            self.log.warning("GitHub does not answer (%s), and the last check of %s is too old", error, user.name)
            return False

    async def _current_model(self, handler: Any, state: Mapping[str, Any]) -> dict[str, Any] | None:
        """The user as GitHub knows them now, with a new token if the old one has expired; ``None`` if GitHub refuses both."""
        try:
            return await self._token_to_auth_model(state["token_response"])
        except HTTPClientError as error:
            if error.code != 401:
                raise
        renewal = state.get("refresh_token")
        if not renewal:
            return None
        try:
            token = await self.get_token_info(handler, self.build_refresh_token_request_params(renewal))
            return await self._token_to_auth_model({"refresh_token": renewal, **token})
        except HTTPError as error:  # GitHub's answer for an invalid refresh token
            if error.status_code == 403:
                return None
            raise
        except HTTPClientError as error:
            if _is_refusal(error):
                return None
            raise

    def _is_named(self, username: str, model: Mapping[str, Any]) -> bool:
        """Whether the site allows this user whatever GitHub says."""
        return bool(self.allow_all or username in self.allowed_users | self.admin_users or model["admin"])

    async def _is_member(self, username: str, state: Mapping[str, Any]) -> bool:
        unclear = []
        for entry in sorted(self.allowed_organizations):
            organization, _, team = entry.partition(":")
            path = f"/orgs/{organization}/teams/{team}" if team else f"/orgs/{organization}"
            code = await self._status(f"{path}/members/{username}", state)
            if code == 204:
                return True
            if code not in (302, 404):  # 302: the caller is not a member; 404: the user is not one
                unclear.append(f"{code} for {entry}")
        if unclear:
            raise NoAnswerError(", ".join(unclear))
        return False

    async def _status(self, path: str, state: Mapping[str, Any]) -> int:
        try:
            answer = await self.httpfetch(
                self.github_api + path, parse_json=False, raise_error=False, follow_redirects=False, headers=self._headers(state)
            )
        except Exception as error:
            raise NoAnswerError(str(error)) from error
        return int(answer.code)

    async def _list(self, path: str, state: Mapping[str, Any]) -> list[dict[str, Any]]:
        token = state["token_response"]
        found = await self._paginated_fetch(f"{self.github_api}{path}?per_page=100", token["access_token"], token["token_type"])
        return [entry for entry in found if isinstance(entry, dict)]

    async def _private_email(self, state: Mapping[str, Any]) -> str:
        """The primary address; none if the user or the application does not show it."""
        try:
            addresses = await self._list("/user/emails", state)
        except HTTPClientError as error:
            if _is_refusal(error) or error.code in (403, 404):
                return ""
            raise
        return next((str(address["email"]) for address in addresses if address.get("primary")), "")

    def _headers(self, state: Mapping[str, Any]) -> dict[str, str]:
        token = state["token_response"]
        return dict(self.build_userdata_request_headers(token["access_token"], token["token_type"]))

    def _is_same_account(self, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        return bool(one[self.user_auth_state_key]["id"] == other[self.user_auth_state_key]["id"])


def _is_refusal(error: HTTPClientError) -> bool:
    """Whether a status means no. 403 and 429 may be a rate limit; 5xx and 599 mean no answer."""
    return 400 <= error.code < 500 and error.code not in (403, 408, 429)
