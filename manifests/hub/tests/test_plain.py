from pathlib import Path

import pytest
from traitlets.config import Config, PyFileConfigLoader

from labhands_hub import plain

HERE = Path(__file__).parent.parent


def configured(**environment):
    config = Config()
    plain.configure(config, environment)
    return config


def test_hub_and_proxy_find_each_other_by_their_services():
    config = configured(POD_NAMESPACE="labs")
    assert config.JupyterHub.hub_connect_url == "http://hub.labs:8081"
    assert config.ConfigurableHTTPProxy.api_url == "http://proxy-api.labs:8001"
    assert config.ConfigurableHTTPProxy.should_start is False
    assert config.KubeSpawner.namespace == "labs"
    # Otherwise a restart of the Hub would end all labs.
    assert config.JupyterHub.cleanup_servers is False


@pytest.mark.parametrize(
    ("environment", "url", "upgrade"),
    [
        ({}, "sqlite:////srv/jupyterhub/jupyterhub.sqlite", True),
        ({"HUB_DB_URL": "postgresql://hub@db/hub"}, "postgresql://hub@db/hub", False),
        ({"SESSION_DB_URL": "mysql+pymysql://hub@db/hub\n"}, "mysql+pymysql://hub@db/hub", False),
    ],
)
def test_the_database_is_a_file_or_a_url(environment, url, upgrade):
    config = configured(**environment)
    assert (config.JupyterHub.db_url, config.JupyterHub.upgrade_db) == (url, upgrade)


def test_idle_labs_are_stopped_after_an_hour():
    config = configured()
    (service,) = config.JupyterHub.services
    (role,) = config.JupyterHub.load_roles
    assert {"--timeout=3600", "--cull-every=600", "--max-age=0"} < set(service["command"])
    assert role["services"] == [service["name"]]
    assert "admin:users" not in role["scopes"]


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ({"LAB_CULL_IDLE": "20s"}, {"--timeout=20", "--cull-every=10", "--max-age=0"}),
        ({"LAB_CULL_IDLE": "0", "LAB_CULL_AGE": "7d"}, {"--timeout=3153600000", "--cull-every=600", "--max-age=604800"}),
        ({"LAB_CULL_AGE": "10s"}, {"--timeout=3600", "--cull-every=5", "--max-age=10"}),
    ],
)
def test_limits_of_idleness_and_age_are_settings(environment, flags):
    (service,) = configured(**environment).JupyterHub.services
    assert flags < set(service["command"])


def test_without_a_limit_there_is_no_culler():
    config = configured(LAB_CULL_IDLE="0")
    assert "services" not in config.JupyterHub and "load_roles" not in config.JupyterHub


def test_labs_prefer_the_nodes_for_users_and_tolerate_their_taints():
    config = configured()
    assert config.KubeSpawner.node_affinity_preferred[0]["preference"]["matchExpressions"][0]["values"] == ["user"]
    assert {toleration["key"] for toleration in config.KubeSpawner.tolerations} == {
        "hub.jupyter.org/dedicated",
        "hub.jupyter.org_dedicated",
    }


def test_nodes_and_taints_are_named_as_for_the_planner():
    config = configured(LAB_NODE_SELECTOR="pool=labs,zone=a", LAB_TOLERATIONS="gpu,pool=labs:NoSchedule,old:NoExecute")
    assert config.KubeSpawner.node_selector == {"pool": "labs", "zone": "a"}
    assert "node_affinity_preferred" not in config.KubeSpawner
    assert config.KubeSpawner.tolerations[2:] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "pool", "operator": "Equal", "value": "labs", "effect": "NoSchedule"},
        {"key": "old", "operator": "Exists", "effect": "NoExecute"},
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {"LAB_NODE_SELECTOR": "labs"},
        {"LAB_NODE_SELECTOR": "pool==labs"},
        {"LAB_TOLERATIONS": "pool=labs:Never"},
        {"LAB_TOLERATIONS": "=labs"},
        {"LAB_CULL_IDLE": "soon"},
    ],
)
def test_a_wrong_setting_ends_the_start(environment):
    (name,) = environment
    with pytest.raises(SystemExit, match=name):
        configured(**environment)


def test_the_configuration_of_a_hub_without_helm_reads_the_same_folder(monkeypatch):
    for name in ("GITHUB_ORGANIZATIONS", "GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET"):
        monkeypatch.setenv(name, "x")
    config = PyFileConfigLoader("jupyterhub_config.py", path=str(HERE)).load_config()
    assert config.JupyterHub.authenticator_class.__name__ == "GitHubWithGrace"
    assert callable(config.KubeSpawner.profile_list)


def test_the_component_has_every_file():
    listed = (HERE / "kustomization.yaml").read_text()
    files = [file for file in (HERE / "labhands_hub").iterdir() if file.suffix in (".py", ".sh")]
    assert len(files) > 10
    assert [file.name for file in files if f"- labhands_hub/{file.name}\n" not in listed] == []
