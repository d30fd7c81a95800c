"""A Hub without Helm: its proxy, its database, idle labs, and the nodes for labs. Zero to JupyterHub's chart has settings for all this."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .settings import Environment

_SQLITE = "sqlite:////srv/jupyterhub/jupyterhub.sqlite"

# The taints that Zero to JupyterHub gives to nodes for users; some clouds have no slash in a taint's name.
_TAINTS = tuple(
    {"key": key, "operator": "Equal", "value": "user", "effect": "NoSchedule"}
    for key in ("hub.jupyter.org/dedicated", "hub.jupyter.org_dedicated")
)
_USER_NODES = {"matchExpressions": [{"key": "hub.jupyter.org/node-purpose", "operator": "In", "values": ["user"]}]}
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclass(frozen=True)
class Settings:
    """Settings that the chart would provide."""

    namespace: str
    database: str
    cull_idle: float
    cull_age: float
    node_selector: dict[str, str]
    tolerations: tuple[dict[str, str], ...]

    @classmethod
    def read(cls, env: Environment) -> Settings:
        """From the environment."""
        return cls(
            namespace=env.text("POD_NAMESPACE", "K8S_NAMESPACE", default="jupyter"),
            database=env.text("HUB_DB_URL", "SESSION_DB_URL", default=_SQLITE),
            cull_idle=env.seconds("LAB_CULL_IDLE", "1h", 0, 365 * 86400),
            cull_age=env.seconds("LAB_CULL_AGE", "0s", 0, 365 * 86400),
            node_selector=_node_selector(env),
            tolerations=_tolerations(env),
        )


def configure(c: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Configures a Hub whose proxy is another pod. ``labhands_hub.configure`` comes after it.

    Raises ``SystemExit`` with one line for each wrong setting.
    """
    env = Environment(environment)
    settings = Settings.read(env)
    env.refuse_problems()
    c.JupyterHub.hub_bind_url = "http://:8081"
    c.JupyterHub.hub_connect_url = f"http://hub.{settings.namespace}:8081"
    c.JupyterHub.cleanup_servers = False  # labs outlive a restart of the Hub
    c.JupyterHub.last_activity_interval = 60
    c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
    c.JupyterHub.db_url = settings.database
    # JupyterHub keeps a copy of a sqlite file that it upgrades, and of no other database.
    c.JupyterHub.upgrade_db = settings.database.startswith("sqlite")
    c.ConfigurableHTTPProxy.should_start = False
    c.ConfigurableHTTPProxy.api_url = f"http://proxy-api.{settings.namespace}:8001"
    c.KubeSpawner.namespace = settings.namespace
    c.KubeSpawner.cmd = ["jupyterhub-singleuser"]
    c.KubeSpawner.tolerations = [*_TAINTS, *settings.tolerations]
    if settings.node_selector:
        c.KubeSpawner.node_selector = settings.node_selector
    else:
        c.KubeSpawner.node_affinity_preferred = [{"weight": 100, "preference": _USER_NODES}]
    if settings.cull_idle or settings.cull_age:
        _cull(c, settings)


def _cull(c: Any, settings: Settings) -> None:
    """The idle culler, run by the Hub, with only the rights to see and stop labs."""
    # Without an idle limit, labs end by their age alone: nothing is idle for 100 years.
    idle = settings.cull_idle or 100 * 365 * 86400
    shortest = min(limit for limit in (settings.cull_idle, settings.cull_age) if limit)
    command = ["python3", "-m", "jupyterhub_idle_culler", "--url=http://localhost:8081/hub/api", f"--timeout={idle:.0f}"]
    command += [f"--cull-every={min(600, max(1, shortest / 2)):.0f}", f"--max-age={settings.cull_age:.0f}"]
    c.JupyterHub.services = [{"name": "idle-culler", "command": command}]
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    c.JupyterHub.load_roles = [{"name": "idle-culler", "services": ["idle-culler"], "scopes": scopes}]


def _node_selector(env: Environment) -> dict[str, str]:
    selector = {}
    for entry in env.names("LAB_NODE_SELECTOR"):
        label, equals, value = entry.partition("=")
        if not equals or not label or "=" in value:
            env.problem("LAB_NODE_SELECTOR", f"{entry!r} is not label=value", "example.org/labs=true")
        selector[label] = value
    return selector


def _tolerations(env: Environment) -> tuple[dict[str, str], ...]:
    """``key``, ``key=value``, each with ``:effect`` or without, which means every effect."""
    tolerations = []
    for entry in env.names("LAB_TOLERATIONS"):
        found = re.fullmatch(r"([^=:]+)(?:=([^=:]*))?(?::([A-Za-z]+))?", entry)
        if not found or (found[3] and found[3] not in _EFFECTS):
            env.problem("LAB_TOLERATIONS", f"{entry!r} is not key=value:effect", "example.org/labs=true:NoSchedule")
            continue
        toleration = (
            {"key": found[1], "operator": "Exists"} if found[2] is None else {"key": found[1], "operator": "Equal", "value": found[2]}
        )
        tolerations.append({**toleration, "effect": found[3]} if found[3] else toleration)
    return tuple(tolerations)
