"""Reads the existing configuration of a site or of Zero to JupyterHub's chart, so that ours adds to it and does not replace it."""

from __future__ import annotations

from typing import Any

from traitlets.config.loader import LazyConfigValue


def listed(section: Any, name: str) -> list[Any]:
    """A list or set of the configuration, including one that was only appended to so far; empty if there is none."""
    value = section.get(name, [])
    return list(value.get_value([]) if isinstance(value, LazyConfigValue) else value)


def first(name: str, *sections: Any) -> Any:
    """The first of these sections' values; ``None`` if none has one."""
    return next((section[name] for section in sections if name in section), None)
