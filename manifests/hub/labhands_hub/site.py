"""What a site or Zero to JupyterHub's chart has configured before, so that it is added to and not replaced."""

from __future__ import annotations

from typing import Any

from traitlets.config.loader import LazyConfigValue


def listed(section: Any, name: str) -> list[Any]:
    """A list or set of the configuration, also one that was only appended to so far; empty where there is none."""
    value = section.get(name, [])
    return list(value.get_value([]) if isinstance(value, LazyConfigValue) else value)


def first(name: str, *sections: Any) -> Any:
    """The first of these sections' values; ``None`` where none has one."""
    return next((section[name] for section in sections if name in section), None)
