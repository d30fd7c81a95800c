"""Reports why a lab does not start as soon as its pod shows it. KubeSpawner alone waits until the time limit for a start."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import refusal

HOME = "labhands-home"
"""The init container that creates the home."""

_LAB = "notebook"  # KubeSpawner's name
_INTERVAL = 1.0
_HOME_LIMIT = 120.0  # seconds: it creates a few folders and files
_VOLUMES_LIMIT = 300.0  # seconds: one of the site's cloud disks may have to be attached, too
_MOST_WORDS = 400
_NEVER_RAN = ("StartError", "ContainerCannotRun")
_PULL_FAILED = ("ErrImagePull", "ImagePullBackOff")
_IMAGE_GONE = ("not found", "manifest unknown", "NotFound", "repository does not exist", "name unknown")


def fault(pod: Mapping[str, Any]) -> str | None:
    """Why this pod will not become a lab, as a sentence; ``None`` while it still may."""
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        words = str(waiting.get("message") or "")
        if waiting.get("reason") == "InvalidImageName":
            return f"This is not the name of an image: {container.get('image')}. Please choose another lab."
        if waiting.get("reason") in _PULL_FAILED and any(sign in words for sign in _IMAGE_GONE):
            return f"The image is no longer in its registry: {container.get('image')}. Please choose another lab."
        ended = _ended(container)
        if ended is None:
            continue
        words = str(ended.get("message") or "").strip()[-_MOST_WORDS:]
        if ended.get("reason") in _NEVER_RAN:
            return f"This image can't run as a lab: {words}. Please choose another one."
        if container.get("name") == HOME:
            return words or f"Your home could not be prepared: the container {HOME} ended with code {ended.get('exitCode')}."
        if container.get("name") == _LAB:
            reason = f"{ended.get('reason') or 'Error'}, exit code {ended.get('exitCode')}"
            return f"The lab ended before it was ready ({reason}). {words}".strip()
    return None


@dataclass(frozen=True)
class Wait:
    """A wait that ends in a healthy cluster. After ``limit`` seconds, ``words`` say why the lab does not start."""

    limit: float
    words: str


_HOME_WAIT = Wait(_HOME_LIMIT, "Your home's file server does not answer. Please try again later, and tell an administrator.")
_VOLUMES_WAIT = Wait(
    _VOLUMES_LIMIT,
    "The node can't connect the lab's volumes or network: is the file server of the homes down? Please tell an administrator.",
)


def wait(pod: Mapping[str, Any]) -> Wait | None:
    """The wait of a pod that would never end without a file server; ``None`` for a pull, a node, or the lab itself."""
    if any(container.get("name") == HOME and "running" in (container.get("state") or {}) for container in _containers(pod)):
        return _HOME_WAIT
    conditions = {condition["type"]: condition["status"] for condition in (pod.get("status") or {}).get("conditions") or []}
    # kubelet sets the second one once volumes and network are ready, before it pulls. Kubernetes before 1.29 does not set it.
    if conditions.get("PodScheduled") == "True" and conditions.get("PodReadyToStartContainers") == "False":
        return _VOLUMES_WAIT
    return None


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The last failure of the container, which kubelet restarts again and again."""
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        terminated = state.get("terminated")
        if terminated and terminated.get("exitCode") != 0:
            return dict(terminated)
    return None


def _settled(pod: Mapping[str, Any]) -> bool:
    """Whether KubeSpawner no longer needs help: the lab runs, or is being deleted."""
    lab = next((container for container in _containers(pod) if container.get("name") == _LAB), {})
    return bool("running" in (lab.get("state") or {}) or "deletionTimestamp" in pod["metadata"])


async def watch(spawner: Any, pod: Mapping[str, Any]) -> None:
    """Follows the pod of a start until its lab runs. Raises an error with a sentence if it never will."""
    key, uid = f"{spawner.namespace}/{spawner.pod_name}", pod["metadata"]["uid"]
    end = time.monotonic() + spawner.start_timeout
    waited_for, since = None, time.monotonic()
    while time.monotonic() < end:
        seen = spawner.pod_reflector.pods.get(key)
        if seen is None or seen["metadata"].get("uid") != uid:
            return
        if words := fault(seen):
            raise refusal(500, words)
        if _settled(seen):
            return
        if (waits_for := wait(seen)) != waited_for:
            waited_for, since = waits_for, time.monotonic()
        if waited_for and time.monotonic() - since >= waited_for.limit:
            raise refusal(504, waited_for.words)
        await asyncio.sleep(_INTERVAL)
