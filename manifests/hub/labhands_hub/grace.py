"""Login by CILogon or any OpenID Connect provider that survives the provider's outages, and checks the allowed groups again."""

from __future__ import annotations

import time
from typing import Any

from oauthenticator.cilogon import CILogonOAuthenticator
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthenticator
from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError
from traitlets import Float

from .github import CHECKED
from .identity import Identity
from .refusal import refusal


class WithGrace(OAuthenticator):
    """oauthenticator's login, with groups checked at each refresh and a grace period for outages."""

    grace = Float(12 * 3600, config=True, help="For this many seconds after the last successful check, a missing answer changes nothing.")

    async def authenticate(self, handler: Any, data: Any = None, **kwargs: Any) -> Any:
        """Refuses a name whose uid has changed, because the home belongs to the uid."""
        try:
            model = await super().authenticate(handler, data, **kwargs)
        except (HTTPClientError, OSError, ValueError) as error:
            reason = str(error.code) if isinstance(error, HTTPClientError) else type(error).__name__
            raise refusal(503, f"The login provider does not answer now ({reason}). Please try again in a minute.") from error
        user = handler.find_user(model["name"]) if model else None
        known = await user.get_auth_state() if user else None
        if known and not _is_same_user(known, model["auth_state"]):
            raise refusal(403, f"{model['name']} was the name of another user here. Please ask an administrator.")
        return model

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> Any:
        """A new model, ``True`` for "as before", or ``False`` for "log in again"."""
        state = await user.get_auth_state()
        if not state:
            return False
        try:
            model = await super().refresh_user(user, handler, **kwargs)
        except HTTPError as error:  # our own refusal, for a claim that is missing now
            self.log.warning("%s may no longer log in: %s", user.name, error)
            return False
        except Exception as error:
            age = time.time() - state.get(CHECKED, 0)
            stays = 0 <= age < self.grace
            outcome = "stays logged in" if stays else "has to log in again"
            self.log.warning("The login provider does not answer (%s); %s was checked %.0f s ago and %s", error, user.name, age, outcome)
            return stays
        if isinstance(model, dict) and not await self._stays(user.name, state, model):
            self.log.warning("%s is no longer in the allowed groups, or has another uid", user.name)
            return False
        return model

    async def _stays(self, name: str, state: dict[str, Any], model: dict[str, Any]) -> bool:
        try:
            return _is_same_user(state, model["auth_state"]) and await self.check_allowed(name, model)
        except HTTPError:
            return False


class CILogonWithGrace(WithGrace, CILogonOAuthenticator):
    """CILogon."""


class OpenIDConnectWithGrace(WithGrace, GenericOAuthenticator):
    """Any OpenID Connect provider."""


def _is_same_user(one: dict[str, Any], other: dict[str, Any]) -> bool:
    before, now = Identity.from_state(one), Identity.from_state(other)
    return before is None or now is None or before.uid == now.uid
