"""Adds to a lab pod: the user's identity, the home, and the limits of Pod Security ``restricted``.

All of it happens in ``modify_pod_hook``: there the chosen image is known, and KubeSpawner has formatted all strings.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from kubernetes_asyncio.client import (
    V1Capabilities,
    V1Container,
    V1EmptyDirVolumeSource,
    V1EnvVar,
    V1PersistentVolumeClaimVolumeSource,
    V1PodSecurityContext,
    V1SeccompProfile,
    V1SecurityContext,
    V1Volume,
    V1VolumeMount,
)
from kubespawner.utils import get_k8s_model

from . import login, site, start
from .identity import Identity
from .refusal import refusal
from .settings import Environment

_HOMES = "labhands-homes"
_IDENTITY = "labhands-identity"
_START_TIMEOUT = 900  # seconds: an image of many gigabytes may have to be pulled
_MAPPED_IDS = 65_536  # of a pod with a user namespace
_CREDENTIAL = "/run/labhands/git-credential-hub"

# Jupyter keeps three sqlite files and IPython a fourth. On NFS their locks hang or break, so they live in the pod.
_STATE = "/tmp/.jupyter-state"
_JUPYTER = {
    "NotebookNotary": {"db_file": ":memory:"},
    "BaseFileIdManager": {"db_path": f"{_STATE}/file_id_manager.db"},
    "SQLiteYStore": {"db_path": f"{_STATE}/ystore.db"},
}
_IPYTHON = {"HistoryManager": {"hist_file": f"{_STATE}/history.sqlite"}}


@dataclass(frozen=True)
class Settings:
    """The place of homes."""

    claim: str
    folder: str
    mount: str
    start_timeout: int | None

    @classmethod
    def read(cls, env: Environment) -> Settings:
        """From the environment."""
        settings = cls(
            claim=env.text("HOME_CLAIM", default="homes"),
            folder=env.text("HOME_FOLDER").strip("/"),
            mount=env.text("HOME_MOUNT", default="/home").rstrip("/"),
            start_timeout=int(env.seconds("LAB_START_TIMEOUT", "15m", 10, 86400)) if env.text("LAB_START_TIMEOUT") else None,
        )
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", settings.claim):
            env.problem("HOME_CLAIM", f"{settings.claim!r} is not the name of a claim", "homes")
        if ".." in settings.folder.split("/"):
            env.problem("HOME_FOLDER", "it must stay inside the claim", "users")
        if not settings.mount.startswith("/"):
            env.problem("HOME_MOUNT", f"{settings.mount!r} is not an absolute path", "/home")
        return settings


def configure(c: Any, settings: Settings, login_settings: login.Settings) -> None:
    """Sets the spawner's hooks after those that the site has set."""
    c.JupyterHub.spawner_class = c.JupyterHub.get("spawner_class", "kubespawner.KubeSpawner")
    # Never a group for the volume: a driver with fsGroupPolicy File would give the whole share to it.
    c.KubeSpawner.fs_gid = None
    # JupyterHub counts a start that we refuse as failed, and would exit after a few of them.
    c.Spawner.consecutive_failure_limit = 0
    timeout = settings.start_timeout or site.first("start_timeout", c.KubeSpawner, c.Spawner) or _START_TIMEOUT
    c.KubeSpawner.start_timeout = timeout
    c.KubeSpawner.default_url = site.first("default_url", c.KubeSpawner, c.Spawner) or "/lab"
    if login_settings.push:
        _let_labs_read_their_auth_state(c)
    github = login_settings.push and login_settings.provider == "github"
    site_before = site.first("pre_spawn_hook", c.KubeSpawner, c.Spawner)
    site_pod, site_after = c.KubeSpawner.get("modify_pod_hook"), c.KubeSpawner.get("after_pod_created_hook")

    async def require_identity(spawner: Any) -> None:
        who = await _identity(spawner)
        if who is None:
            # Without it the lab would run as the image's user, with another user's home.
            raise refusal(403, "The Hub no longer knows who you are. Please log out and in again.")
        if site_before:
            await _done(site_before(spawner))

    async def modify(spawner: Any, pod: Any) -> Any:
        who = await _identity(spawner)
        if who is None:
            raise refusal(403, "The Hub no longer knows who you are. Please log out and in again.")
        prepare(pod, who, settings, _git_host(spawner) if github else None)
        pod = await _done(site_pod(spawner, pod)) if site_pod else pod
        if pod.spec.host_users is False and who.uid >= _MAPPED_IDS:
            raise refusal(403, f"Pods with a user namespace (hostUsers: false) have no user {who.uid}. Please ask an administrator.")
        return pod

    async def after(spawner: Any, pod: Any) -> None:
        if site_after:
            await _done(site_after(spawner, pod))
        await start.watch(spawner, pod)

    c.KubeSpawner.pre_spawn_hook = require_identity
    c.KubeSpawner.modify_pod_hook = modify
    c.KubeSpawner.after_pod_created_hook = after


def _let_labs_read_their_auth_state(c: Any) -> None:
    """A lab may read the auth state of its own user, and nothing else of the Hub."""
    roles = site.listed(c.JupyterHub, "load_roles")
    user = next((role for role in roles if role.get("name") == "user"), {"name": "user", "scopes": ["self"]})
    changed = {**user, "scopes": [*user.get("scopes", ["self"]), "admin:auth_state!user"]}
    c.JupyterHub.load_roles = [*(role for role in roles if role is not user), changed]
    c.Spawner.server_token_scopes = [
        *site.listed(c.Spawner, "server_token_scopes"),
        "users:activity!user",
        "access:servers!server",
        "read:users:name!user",
        "admin:auth_state!user",
    ]


async def _identity(spawner: Any) -> Identity | None:
    return Identity.from_state(await spawner.user.get_auth_state())


async def _done(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _git_host(spawner: Any) -> str:
    return str(spawner.authenticator.github_url).rstrip("/")


def prepare(pod: Any, who: Identity, settings: Settings, git_host: str | None) -> None:
    """Adds identity and home to a pod made by KubeSpawner. ``git_host`` is the address whose pushes use the Hub's token."""
    lab = pod.spec.containers[0]
    home = f"{settings.mount}/{who.name}"
    pod.spec.enable_service_links = False
    pod.spec.security_context = _pod_security(pod.spec.security_context, who)
    for container in [*(pod.spec.init_containers or []), *pod.spec.containers]:
        container.security_context = _restricted(container.security_context)
    lab.security_context.run_as_user = lab.security_context.run_as_group = who.uid
    lab.working_dir = home
    pod.spec.volumes = [*(pod.spec.volumes or []), *_volumes(settings)]
    lab.volume_mounts = [*(lab.volume_mounts or []), *_mounts(who, home, settings)]
    lab.env = _environment(lab.env or [], who, home, git_host)
    pod.spec.init_containers = [*(pod.spec.init_containers or []), _init_container(lab, who, home, settings)]
    pod.metadata.labels = {
        **(pod.metadata.labels or {}),
        "labhands.dev/user": _label(who.name),
        "labhands.dev/image": _label(lab.image),
    }
    pod.metadata.annotations = {
        **(pod.metadata.annotations or {}),
        "labhands.dev/user": who.name,
        "labhands.dev/pulled-image": lab.image,
    }


def _pod_security(given: Any, who: Identity) -> V1PodSecurityContext:
    context = get_k8s_model(V1PodSecurityContext, given or {})
    context.fs_group = None
    context.run_as_non_root = True
    context.supplemental_groups = [group.gid for group in who.groups]
    context.seccomp_profile = context.seccomp_profile or V1SeccompProfile(type="RuntimeDefault")
    return context


def _restricted(given: Any) -> V1SecurityContext:
    """KubeSpawner passes plain values or a model, whichever the site has set."""
    context = get_k8s_model(V1SecurityContext, given or {})
    context.allow_privilege_escalation = False
    context.capabilities = V1Capabilities(drop=["ALL"])
    return context


def _volumes(settings: Settings) -> list[V1Volume]:
    claim = V1PersistentVolumeClaimVolumeSource(claim_name=settings.claim)
    return [
        V1Volume(name=_HOMES, persistent_volume_claim=claim),
        V1Volume(name=_IDENTITY, empty_dir=V1EmptyDirVolumeSource(size_limit="1Mi")),
    ]


def _mounts(who: Identity, home: str, settings: Settings) -> list[V1VolumeMount]:
    """The user's own folder alone, under the plain name of the Hub: KubeSpawner's templates escape names in ways that changed."""
    own = f"{settings.folder}/{who.name}".lstrip("/")
    files = {
        "/etc/passwd": "passwd",
        "/etc/group": "group",
        "/etc/ipython/ipython_config.json": "ipython_config.json",
        "/run/labhands/jupyter/jupyter_config.json": "jupyter_config.json",
        _CREDENTIAL: "git-credential-hub",
    }
    return [
        V1VolumeMount(name=_HOMES, mount_path=home, sub_path=own),
        *(V1VolumeMount(name=_IDENTITY, mount_path=path, sub_path=file, read_only=True) for path, file in files.items()),
    ]


def _environment(existing: list[Any], who: Identity, home: str, git_host: str | None) -> list[Any]:
    variables = {
        **who.environment({f"credential.{git_host}.helper": _CREDENTIAL} if git_host else {}),
        "HOME": home,
        "JUPYTER_RUNTIME_DIR": f"{_STATE}/runtime",
        "JUPYTER_CONFIG_PATH": "/run/labhands/jupyter",
    }
    kept = [variable for variable in existing if variable.name not in variables]
    return [*kept, *(V1EnvVar(name=name, value=value) for name, value in variables.items())]


def _init_container(lab: Any, who: Identity, home: str, settings: Settings) -> V1Container:
    package = resources.files(__package__ or "labhands_hub")
    members = "".join(f"{group.name}:x:{group.gid}:{who.name}\n" for group in who.groups)
    variables = {
        "LAB_USER": who.name,
        "LAB_UID": str(who.uid),
        "LAB_FULL_NAME": re.sub(r"[:\n\r]", " ", who.full_name),
        "LAB_GROUPS": members,
        "LAB_HOME": home,
        "LAB_HOMES": settings.folder,
        "JUPYTER_CONFIGURATION": json.dumps(_JUPYTER),
        "IPYTHON_CONFIGURATION": json.dumps(_IPYTHON),
        "GIT_CREDENTIAL": (package / "git_credential.py").read_text(),
    }
    security = _restricted(None)
    security.run_as_user = security.run_as_group = who.uid
    security.run_as_non_root = True
    return V1Container(
        name=start.HOME,
        image=lab.image,
        image_pull_policy=lab.image_pull_policy,
        command=["sh", "-c", (package / "home.sh").read_text()],
        # Kubernetes expands $(NAME) in values, and $$ is a dollar.
        env=[V1EnvVar(name=name, value=value.replace("$", "$$")) for name, value in variables.items()],
        resources=lab.resources,
        security_context=security,
        termination_message_policy="FallbackToLogsOnError",
        volume_mounts=[
            V1VolumeMount(name=_HOMES, mount_path="/homes"),
            V1VolumeMount(name=_IDENTITY, mount_path="/identity"),
        ],
    )


def _label(text: str) -> str:
    """A text as the value of a label: at most 63 letters, digits, ``-``, ``_`` and ``.``, from letter or digit to letter or digit."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[-63:].strip("-._")
