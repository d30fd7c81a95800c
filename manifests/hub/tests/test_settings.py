import pytest
from traitlets.config import Config

from labhands_hub import login, menu, pod, sizes
from labhands_hub.settings import Environment, duration


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("12h", 43200), ("1d", 86400)])
def test_durations_are_read(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 fortnights", "-5m", "5mm", "m"])
def test_an_invalid_duration_is_refused(text):
    with pytest.raises(ValueError, match="number"):
        duration(text)


def test_all_problems_are_shown_at_once_with_an_example():
    env = Environment({"LOGIN_GRACE": "soon", "LAB_SIZES": "[]", "LOGIN_PROVIDER": "facebook", "HOME_CLAIM": "My Claim"})
    menu.Settings.read(env), login.Settings.read(env), pod.Settings.read(env)
    with pytest.raises(SystemExit) as end:
        env.refuse_problems()
    words = str(end.value)
    for name in ("LOGIN_GRACE", "LAB_SIZES", "LOGIN_PROVIDER", "HOME_CLAIM", "GITHUB_ORGANIZATIONS"):
        assert f"\n{name}: " in words and f"example: {name}=" in words


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("github", ["GITHUB_ORGANIZATIONS"]),
        ("oidc", ["LOGIN_UID_CLAIM", "LOGIN_GROUPS"]),
        ("cilogon", ["LOGIN_UID_CLAIM", "LOGIN_GROUPS", "CILOGON_IDENTITY_PROVIDERS"]),
        ("dummy", ["LOGIN_PASSWORD"]),
    ],
)
def test_a_login_without_a_required_setting_is_refused(provider, missing):
    env = Environment({"LOGIN_PROVIDER": provider})
    login.Settings.read(env)
    assert [problem.split(":")[0] for problem in env.problems] == missing


@pytest.mark.parametrize(
    ("provider", "needed"),
    [
        ("github", ["GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"]),
        ("cilogon", ["CILOGON_CLIENT_ID", "CILOGON_CLIENT_SECRET"]),
        ("oidc", ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET"]),
        ("dummy", []),
    ],
)
def test_a_client_is_named_by_the_environment_or_by_the_site(provider, needed):
    def problems(config, **environment):
        env = Environment({"LOGIN_PROVIDER": provider, **environment})
        settings = login.Settings.read(env)
        env.problems.clear()
        login.require_client(env, config, settings)
        return [problem.split(":")[0] for problem in env.problems]

    assert problems(Config()) == needed
    assert problems(Config(), **dict.fromkeys(needed, "x")) == []
    assert problems(Config(OAuthenticator={"client_id": "x", "client_secret": "y"})) == []


def test_the_older_names_of_one_size_are_read():
    env = Environment({"LAB_CPU_LIMIT": "3", "LAB_MEM_LIMIT": "4G", "LAB_CPU_GUARANTEE": "0.5", "LAB_MEM_GUARANTEE": "1G"})
    (size,) = sizes.read(env)
    assert not env.problems
    assert size.override() == {"cpu_guarantee": 0.5, "cpu_limit": 3.0, "mem_guarantee": "1G", "mem_limit": "4G"}


@pytest.mark.parametrize(
    "written",
    [
        '{"small": {"cpu": [2, 1], "memory": ["1G", "2G"]}}',
        '{"small": {"cpu": [0, 1], "memory": ["1G", "2G"]}}',
        '{"small": {"cpu": [1, 1], "memory": ["3G", "2G"]}}',
        '{"small": {"cpu": [1, 1], "memory": ["1Gi", "2G"]}}',
        '{"small": {"cpu": 1, "memory": ["1G", "2G"]}}',
        '{"small": {"cpu": [1, 1]}}',
        '{"Small one": {"cpu": [1, 1], "memory": ["1G", "2G"]}}',
        '{"small": {"cpu": [1, 1], "memory": ["1G", "2G"], "groups": "org"}}',
        '{"small": []}',
        '{"small": {"cpu": ["nan", "nan"], "memory": ["1G", "2G"]}}',
    ],
)
def test_an_impossible_size_is_refused(written):
    env = Environment({"LAB_SIZES": written})
    sizes.read(env)
    assert len(env.problems) == 1 and env.problems[0].startswith("LAB_SIZES: size")
