import pytest
from tornado.web import HTTPError

from labhands_hub import identity
from labhands_hub.identity import Group, Identity
from labhands_hub.login import Settings, claims_state
from labhands_hub.settings import Environment


def test_an_identity_survives_the_auth_state():
    who = Identity("ada", 4711, (Group("org", 77),), "ada@example.org", "Ada L")
    assert Identity.from_state({**who.to_state(), "else": 1}) == who


@pytest.mark.parametrize("state", [None, {}, {"labhands_identity": None}])
def test_a_state_without_an_identity_has_none(state):
    assert Identity.from_state(state) is None


@pytest.mark.parametrize(("value", "uid"), [(1, 1), ("58001", 58001), (2**31 - 1, 2**31 - 1)])
def test_user_ids(value, uid):
    assert identity.user_id(value) == uid


@pytest.mark.parametrize("value", [0, "0", -1, 2**31, None, True, 1.5, "root", ""])
def test_root_and_invalid_ids_are_refused(value):
    with pytest.raises(ValueError, match="."):
        identity.user_id(value)


def test_groups_are_limited_allowed_ones_come_first_and_a_name_has_one_number():
    found = identity.groups([("a" * 40, 1), ("a" * 35, 2), ("Org", 3), *((f"o{n}", n) for n in range(10, 40))], ["org:team"])
    assert found[0] == Group("Org", 3) and found[1] == Group("a" * 32, 1)
    assert len(found) == identity.MOST_GROUPS and len({group.name for group in found}) == identity.MOST_GROUPS


def test_the_environment_of_a_lab():
    who = Identity("ada", 4711, (Group("org", 77), Group("zoo", 5)), "", "Ada L")
    variables = who.environment({"credential.https://github.com.helper": "/helper"})
    assert variables["EXTERNAL_GROUPS"] == "org:77,zoo:5"
    assert (variables["EXTERNAL_UID"], variables["GITHUB_NAME"], variables["GITHUB_EMAIL"]) == ("4711", "Ada L", "")
    pairs = {variables[f"GIT_CONFIG_KEY_{n}"]: variables[f"GIT_CONFIG_VALUE_{n}"] for n in range(int(variables["GIT_CONFIG_COUNT"]))}
    assert pairs == {"user.name": "Ada L", "credential.https://github.com.helper": "/helper"}


def claims(**values):
    environment = {"LOGIN_PROVIDER": "oidc", "LOGIN_UID_CLAIM": "uidNumber", "LOGIN_GROUPS": "astro"}
    return claims_state(values, Settings.read(Environment(environment)))


def test_claims_of_a_provider_become_an_identity():
    state = claims(preferred_username="Ada", uidNumber="58001", groups=["astro"], email="a@b")
    assert Identity.from_state(state) == Identity("ada", 58001, (), "a@b", "ada")
    assert state["labhands_groups"] == ["astro"]


@pytest.mark.parametrize("uid", [None, 0, "ada", ""])
def test_a_login_without_a_uid_is_refused_with_a_reason(uid):
    with pytest.raises(HTTPError) as failure:
        claims(preferred_username="ada", uidNumber=uid)
    assert failure.value.status_code == 403 and "uidNumber" in failure.value.jupyterhub_message
