import asyncio
import time

import pytest
from tornado.web import HTTPError
from traitlets.config import Config

from conftest import Person
from fake_github import Account, GitHub, start
from labhands_hub import login
from labhands_hub.github import CHECKED, GROUPS
from labhands_hub.identity import Identity
from labhands_hub.settings import Environment


class Handler:
    """As much of the Hub's handler as a login needs."""

    def __init__(self, known=None):
        self.known = known

    def find_user(self, name):
        return self.known if self.known and self.known.name == name else None


class World:
    """A Hub's authenticator with a separate GitHub."""

    def __init__(self, github, **environment):
        self.github = github
        self.server, self.address = start(github)
        env = Environment({"GITHUB_ORGANIZATIONS": "org,other:team", **environment})
        settings, config = login.Settings.read(env), Config()
        assert not env.problems
        login.configure(config, settings)
        config.OAuthenticator.http_request_kwargs = {"connect_timeout": 1, "request_timeout": 1}
        config.OAuthenticator.client_id, config.OAuthenticator.client_secret = "id", "secret"
        self.authenticator = config.JupyterHub.authenticator_class(config=config, github_url=self.address)

    async def log_in(self, name, known=None):
        """The model of a login as the Hub makes it, or the refusal."""
        code = f"code-{time.monotonic_ns()}"
        self.github.codes[code] = name
        self.authenticator.build_access_tokens_request_params = lambda handler, data: {"code": code, "grant_type": "authorization_code"}
        model = await self.authenticator.authenticate(Handler(known))
        assert await self.authenticator.check_allowed(model["name"], model)
        return model

    async def refresh(self, state, name="ada"):
        return await self.authenticator.refresh_user(Person(name, state), Handler())


def ada(**fields):
    return Account("ada", **{"id": 4711, "name": "Ada L", "email": "ada@example.org", "organizations": {"org": 77}, **fields})


def run(work, account=None, **environment):
    """Runs ``work(world)`` with one account at GitHub."""

    async def inside():
        github = GitHub()
        github.add(account or ada())
        world = World(github, **environment)
        try:
            return await work(world)
        finally:
            world.server.stop()

    return asyncio.run(inside())


def refusal_of(work, account=None, **environment):
    with pytest.raises(HTTPError) as failure:
        run(work, account, **environment)
    return failure.value.status_code, failure.value.jupyterhub_message


def test_a_member_becomes_a_user_with_identity_and_groups():
    model = run(lambda world: world.log_in("ada"), ada(organizations={"Zoo": 5, "org": 77}, teams=["org:Big"]))
    assert Identity.from_state(model["auth_state"]).groups[0].name == "org"
    who = Identity.from_state(model["auth_state"])
    assert (who.name, who.uid, who.email, who.full_name) == ("ada", 4711, "ada@example.org", "Ada L")
    assert model["auth_state"][GROUPS] == ["org", "org:big", "zoo"]
    assert model["admin"] is None


def test_one_team_may_log_in_and_another_has_administrators():
    account = ada(organizations={"other": 8}, teams=["other:team", "other:operators"])
    assert run(lambda world: world.log_in("ada"), account, GITHUB_ADMIN_TEAMS="other:operators")["admin"] is True
    assert run(lambda world: world.log_in("ada"), account, GITHUB_ADMIN_TEAMS="other:owners")["admin"] is False


@pytest.mark.parametrize("account", [ada(organizations={}), ada(organizations={"other": 8}), ada(organizations={"Organization": 9})])
def test_a_stranger_reads_why_and_what_to_do(account):
    status, words = refusal_of(lambda world: world.log_in("ada"), account)
    assert status == 403 and "org" in words and "approve this application" in words


@pytest.mark.parametrize("outage", [500, 502, 503, 429, 403, "silent", "garbage", "away"])
def test_a_login_during_an_outage_of_github_shows_it(outage):
    async def work(world):
        world.github.outage = outage
        if outage == "away":
            world.server.stop()
        return await world.log_in("ada")

    status, words = refusal_of(work)
    assert status == 503 and "GitHub does not answer now" in words


def test_private_and_missing_addresses_are_accepted():
    assert Identity.from_state(run(lambda w: w.log_in("ada"), ada(email=None, private_email="a@b"))["auth_state"]).email == "a@b"
    who = Identity.from_state(run(lambda w: w.log_in("ada"), ada(email=None, name=None))["auth_state"])
    assert (who.email, who.full_name) == ("", "ada")


def test_two_hundred_organizations_become_sixteen_groups_with_the_allowed_ones_first():
    many = {f"organization-{number}": 1000 + number for number in range(200)} | {"org": 77}
    model = run(lambda world: world.log_in("ada"), ada(organizations=many))
    who = Identity.from_state(model["auth_state"])
    assert len(who.groups) == 16 and who.groups[0].gid == 77 and len(model["auth_state"][GROUPS]) == 201


def test_a_name_that_was_another_account_is_refused():
    async def work(world):
        model = await world.log_in("ada")
        world.github.add(ada(id=4712))
        return await world.log_in("ada", Person("ada", model["auth_state"]))

    status, words = refusal_of(work)
    assert status == 403 and "another GitHub account" in words


def test_a_refresh_renews_the_data_from_github():
    async def work(world):
        model = await world.log_in("ada")
        world.github.add(ada(name="Ada Lovelace", organizations={"org": 77, "new": 8}))
        return await world.refresh(model["auth_state"])

    model = run(work)
    who = Identity.from_state(model["auth_state"])
    assert who.full_name == "Ada Lovelace" and [group.gid for group in who.groups] == [77, 8]


@pytest.mark.parametrize("outage", [500, 502, 403, 429, "silent", "garbage", "stopped"])
def test_an_outage_changes_nothing_within_the_grace_period_and_ends_the_login_after_it(outage):
    async def work(world):
        state = (await world.log_in("ada"))["auth_state"]
        if outage == "stopped":
            world.server.stop()
        world.github.outage = outage
        within = await world.refresh(state)
        after = await world.refresh({**state, CHECKED: state[CHECKED] - 7200})
        ahead = await world.refresh({**state, CHECKED: state[CHECKED] + 86400})
        return within, after, ahead

    assert run(work, LOGIN_GRACE="1h") == (True, False, False)


def test_a_removed_member_is_logged_out_at_the_next_refresh_also_after_an_outage():
    async def work(world):
        state = (await world.log_in("ada"))["auth_state"]
        world.github.outage = 503
        during = await world.refresh(state)
        world.github.outage = None
        world.github.add(ada(organizations={}))
        return during, await world.refresh(state)

    assert run(work) == (True, False)


def test_a_recycled_name_a_revoked_token_and_no_state_end_the_login():
    async def work(world):
        state = (await world.log_in("ada"))["auth_state"]
        world.github.add(ada(id=4712))
        recycled = await world.refresh(state)
        world.github.tokens.clear()
        return recycled, await world.refresh(state), await world.refresh(None), await world.refresh({})

    assert run(work) == (False, False, False, False)


def test_an_expired_token_is_renewed_and_membership_checked_with_the_new_one():
    async def work(world):
        world.github.expiring = True
        state = (await world.log_in("ada"))["auth_state"]
        world.github.tokens.clear()
        renewed = await world.refresh(state)
        world.github.tokens.clear()
        world.github.add(ada(organizations={}))
        return state, renewed, await world.refresh(renewed["auth_state"])

    state, renewed, removed = run(work)
    assert renewed["auth_state"]["access_token"] != state["access_token"] and removed is False
    assert renewed["auth_state"]["refresh_token"] != state["refresh_token"]


def test_a_used_refresh_token_ends_the_login():
    async def work(world):
        world.github.expiring = True
        state = (await world.log_in("ada"))["auth_state"]
        world.github.tokens.clear()
        world.github.refresh_tokens.clear()
        return await world.refresh(state)

    assert run(work) is False


def test_no_scope_for_pushing_unless_configured():
    async def scopes(world):
        return world.authenticator.scope

    assert "public_repo" not in run(scopes)
    assert "public_repo" in run(scopes, GITHUB_PUSH="on")


def test_organizations_and_teams_become_the_hubs_groups_only_if_configured():
    account = ada(organizations={"org": 77, "Zoo": 78}, teams=["org:Big"])
    assert "groups" not in run(lambda world: world.log_in("ada"), account)
    model = run(lambda world: world.log_in("ada"), account, LOGIN_HUB_GROUPS="on")
    assert model["groups"] == ["org", "org:big", "zoo"]
