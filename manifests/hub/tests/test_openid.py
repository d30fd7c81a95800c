import asyncio
import time
from types import SimpleNamespace

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError, RequestHandler
from traitlets.config import Config

from conftest import Person
from labhands_hub import login
from labhands_hub.github import CHECKED, GROUPS
from labhands_hub.grace import CILogonWithGrace
from labhands_hub.identity import Identity
from labhands_hub.settings import Environment

SETTINGS = {"LOGIN_PROVIDER": "oidc", "LOGIN_UID_CLAIM": "uidNumber", "LOGIN_GROUPS": "Astronomers"}
ADA = {"preferred_username": "Ada", "uidNumber": "4711", "email": "ada@example.org", "name": "Ada L", "groups": ["Astronomers", "Staff"]}


class UserInfo(RequestHandler):
    """The claims of the current user, or the current outage."""

    def get(self):
        provider = self.application.settings["provider"]
        if provider.outage:
            raise HTTPError(provider.outage)
        self.finish(provider.claims)


class Token(RequestHandler):
    def post(self):
        self.finish({"access_token": "token", "token_type": "Bearer"})


def run(work, claims=ADA, **environment):
    """Runs ``work(world)`` beside a provider on loopback."""

    async def inside():
        provider = SimpleNamespace(claims=dict(claims), outage=None)
        server = HTTPServer(Application([("/token", Token), ("/userinfo", UserInfo)], provider=provider))
        sockets = bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        env, config = Environment({**SETTINGS, **environment}), Config()
        login.configure(config, login.Settings.read(env))
        assert not env.problems
        config.OAuthenticator.update({"client_id": "id", "client_secret": "secret"})
        urls = {"authorize_url": address, "token_url": address + "/token", "userdata_url": address + "/userinfo"}
        try:
            return await work(World(provider, config.JupyterHub.authenticator_class(config=config, **urls)))
        finally:
            server.stop()

    return asyncio.run(inside())


class World:
    """A Hub's authenticator with a separate provider."""

    def __init__(self, provider, authenticator):
        self.provider, self.authenticator = provider, authenticator
        authenticator.build_access_tokens_request_params = lambda handler, data: {"code": "code"}

    async def log_in(self, known=None):
        handler = SimpleNamespace(find_user=lambda name: known)
        model = await self.authenticator.authenticate(handler)
        return model if await self.authenticator.check_allowed(model["name"], model) else None

    async def refresh(self, state):
        return await self.authenticator.refresh_user(Person("ada", state), None)


def test_claims_become_a_user_and_groups_are_compared_in_any_case():
    model = run(lambda world: world.log_in())
    who = Identity.from_state(model["auth_state"])
    assert (model["name"], who.name, who.uid, who.email) == ("ada", "ada", 4711, "ada@example.org")
    assert model["groups"] == model["auth_state"][GROUPS] == ["astronomers", "staff"]


def test_a_user_in_no_allowed_group_is_refused():
    assert run(lambda world: world.log_in(), {**ADA, "groups": "staff, guests"}) is None


def test_a_name_with_another_uid_is_refused():
    async def work(world):
        known = Person("ada", (await world.log_in())["auth_state"])
        world.provider.claims["uidNumber"] = "4712"
        assert await world.refresh(known.state) is False
        await world.log_in(known)

    with pytest.raises(HTTPError, match="another user here"):
        run(work)


@pytest.mark.parametrize("outage", [500, 503])
def test_an_outage_changes_nothing_within_the_grace_period_and_ends_the_login_after_it(outage):
    async def work(world):
        state = (await world.log_in())["auth_state"]
        world.provider.outage = outage
        return await world.refresh(state), await world.refresh({**state, CHECKED: time.time() - 3601})

    assert run(work, LOGIN_GRACE="1h") == (True, False)


def test_a_login_during_an_outage_of_the_provider_shows_it():
    async def work(world):
        world.provider.outage = 502
        await world.log_in()

    with pytest.raises(HTTPError) as failure:
        run(work)
    assert failure.value.status_code == 503 and "does not answer now (502)" in failure.value.jupyterhub_message


@pytest.mark.parametrize("change", [{"groups": ["Staff"]}, {"groups": None}, {"uidNumber": None}])
def test_a_user_without_a_required_claim_is_logged_out_at_the_next_refresh(change):
    async def work(world):
        state = (await world.log_in())["auth_state"]
        assert (await world.refresh(state))["name"] == "ada"
        world.provider.claims |= change
        return await world.refresh(state)

    assert run(work) is False


def test_a_revoked_token_and_no_state_end_the_login():
    async def work(world):
        state = (await world.log_in())["auth_state"]
        world.provider.outage = 401
        return await world.refresh(state), await world.refresh(None)

    assert run(work) == (False, False)


def test_cilogon_has_the_same():
    environment = {"LOGIN_PROVIDER": "cilogon", "CILOGON_IDENTITY_PROVIDERS": "https://idp.example.org/shibboleth", "LOGIN_GRACE": "1h"}
    env, config = Environment({**SETTINGS, **environment}), Config()
    login.configure(config, login.Settings.read(env))
    authenticator = config.JupyterHub.authenticator_class(config=config)
    assert isinstance(authenticator, CILogonWithGrace)
    assert (authenticator.grace, authenticator.allowed_groups) == (3600, {"astronomers"})
