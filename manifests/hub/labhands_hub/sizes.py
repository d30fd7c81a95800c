"""Sizes of labs: what a lab requests and what it may use at most."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from html import escape
from typing import Any

from .settings import Environment

_EXAMPLE = '\'{"small": {"cpu": [0.25, 1], "memory": ["1G", "2G"]}}\''
_DEFAULT: dict[str, Any] = {
    "small": {"cpu": [0.25, 1], "memory": ["1G", "2G"]},
    "medium": {"cpu": [0.5, 2], "memory": ["2G", "4G"]},
    "large": {"cpu": [1, 4], "memory": ["4G", "8G"]},
}
# KubeSpawner's units: K, M, G and T are powers of 1024.
_BYTES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Size:
    """CPUs and memory of a lab. The scheduler reserves the requests, and the lab may use up to the limits."""

    name: str
    cpu_request: float
    cpu_limit: float
    memory_request: str
    memory_limit: str
    groups: tuple[str, ...] = ()

    def is_for(self, groups: Collection[str] | None) -> bool:
        """Whether a user of these organizations and teams may choose it."""
        return not self.groups or any(group in self.groups for group in groups or ())

    def override(self) -> dict[str, Any]:
        """KubeSpawner's settings."""
        return {
            "cpu_guarantee": self.cpu_request,
            "cpu_limit": self.cpu_limit,
            "mem_guarantee": self.memory_request,
            "mem_limit": self.memory_limit,
        }

    def choice(self) -> dict[str, Any]:
        """This size as a choice of KubeSpawner's form."""
        words = f"{self.name}: up to {self.cpu_limit:g} CPU and {self.memory_limit} of memory"
        return {"display_name": escape(words), "kubespawner_override": self.override()}


def read(env: Environment) -> tuple[Size, ...]:
    """``LAB_SIZES``, or one size from the four older variables, or three defaults."""
    older = ("LAB_CPU_GUARANTEE", "LAB_CPU_LIMIT", "LAB_MEM_GUARANTEE", "LAB_MEM_LIMIT")
    if not env.text("LAB_SIZES") and any(env.text(name) for name in older):
        cpu_limit, memory_limit = env.text("LAB_CPU_LIMIT", default="1"), env.text("LAB_MEM_LIMIT", default="2G")
        cpu_request = env.text("LAB_CPU_GUARANTEE", default=cpu_limit)
        memory_request = env.text("LAB_MEM_GUARANTEE", default=memory_limit)
        written = {"cpu": [cpu_request, cpu_limit], "memory": [memory_request, memory_limit]}
        return _sizes(env, ", ".join(older), {"standard": written})
    return _sizes(env, "LAB_SIZES", env.json_object("LAB_SIZES", _EXAMPLE) or _DEFAULT)


def _sizes(env: Environment, setting: str, written: dict[str, Any]) -> tuple[Size, ...]:
    sizes = []
    for name, value in written.items():
        try:
            sizes.append(_size(name, value))
        except (KeyError, TypeError, ValueError) as error:
            env.problem(setting, f"size {name!r} is not usable: {error}", _EXAMPLE)
    return tuple(sizes)


def _size(name: str, value: Any) -> Size:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,30}", name):
        raise ValueError("a name has lower-case letters, digits and underscores")
    if not isinstance(value, dict) or not {"cpu", "memory"} <= set(value) <= {"cpu", "memory", "groups"}:
        raise ValueError("write cpu, memory and, if you like, groups")
    cpu_request, cpu_limit = (float(number) for number in _pair(value["cpu"]))
    memory_request, memory_limit = (str(amount) for amount in _pair(value["memory"]))
    if not 0 < cpu_request <= cpu_limit <= 1024:
        raise ValueError(f"cpu {cpu_request:g} to {cpu_limit:g}: the request must be above 0 and at most the limit")
    if not 0 < memory_bytes(memory_request) <= memory_bytes(memory_limit):
        raise ValueError(f"memory {memory_request} to {memory_limit}: the request must be above 0 and at most the limit")
    groups = value.get("groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) and group for group in groups):
        raise ValueError("groups is a list of organizations and teams (organization:team)")
    return Size(name, cpu_request, cpu_limit, memory_request, memory_limit, tuple(group.lower() for group in groups))


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("write [request, limit]")
    return value[0], value[1]


def memory_bytes(text: str) -> int:
    """Bytes from ``512M``, ``2G`` or a plain number, as KubeSpawner reads them."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if not found:
        raise ValueError(f"{text!r} is not an amount of memory; write a number with K, M, G or T")
    return int(float(found[1]) * _BYTES.get(found[2], 1))
