"""Why a lab does not start, said as soon as its pod shows it: KubeSpawner alone waits until the time for a start has passed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

from .refusal import refusal

HOME = "labhands-home"
"""The init container that makes the home."""

_LAB = "notebook"  # KubeSpawner's name
_INTERVAL = 1.0
_MOST_WORDS = 400
_NEVER_RAN = ("StartError", "ContainerCannotRun")
_PULL_FAILED = ("ErrImagePull", "ImagePullBackOff")
_IMAGE_GONE = ("not found", "manifest unknown", "NotFound", "repository does not exist", "name unknown")


def fault(pod: Mapping[str, Any]) -> str | None:
    """Why this pod will not become a lab, in words; ``None`` while it still may."""
    for container in _containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        words = str(waiting.get("message") or "")
        if waiting.get("reason") == "InvalidImageName":
            return f"This is no name of an image: {container.get('image')}. Please choose another lab."
        if waiting.get("reason") in _PULL_FAILED and any(sign in words for sign in _IMAGE_GONE):
            return f"The image is not in its registry any more: {container.get('image')}. Please choose another lab."
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


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status") or {}
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the container ended unwell last time; kubelet starts it again and again."""
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        terminated = state.get("terminated")
        if terminated and terminated.get("exitCode") != 0:
            return dict(terminated)
    return None


def _settled(pod: Mapping[str, Any]) -> bool:
    """Whether KubeSpawner needs no help any more: the lab runs, or is about to go."""
    lab = next((container for container in _containers(pod) if container.get("name") == _LAB), {})
    return bool("running" in (lab.get("state") or {}) or "deletionTimestamp" in pod["metadata"])


async def watch(spawner: Any, pod: Mapping[str, Any]) -> None:
    """Follows the pod of a start until its lab runs. Raises with words where it never will."""
    key, uid = f"{spawner.namespace}/{spawner.pod_name}", pod["metadata"]["uid"]
    end = time.monotonic() + spawner.start_timeout
    while time.monotonic() < end:
        seen = spawner.pod_reflector.pods.get(key)
        if seen is None or seen["metadata"].get("uid") != uid:
            return
        if words := fault(seen):
            raise refusal(500, words)
        if _settled(seen):
            return
        await asyncio.sleep(_INTERVAL)
