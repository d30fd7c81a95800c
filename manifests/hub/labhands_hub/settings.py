"""Settings from environment variables. All problems are collected, so that one start shows them all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Environment:
    """Reads settings by name and remembers what is wrong with them."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.problems: list[str] = []

    def text(self, *names: str, default: str = "") -> str:
        """The first of these variables that is set and not blank. Line ends around a value do no harm."""
        for name in names:
            value = self._values.get(name, "").strip()
            if value:
                return value
        return default

    def names(self, *names: str) -> tuple[str, ...]:
        """A comma-separated list without duplicates."""
        parts = (part.strip() for part in self.text(*names).split(","))
        return tuple(dict.fromkeys(part for part in parts if part))

    def switch(self, name: str) -> bool:
        """``on`` or ``off`` (the default)."""
        return self._parse(name, "off", _switch, "on or off", "on")

    def seconds(self, name: str, default: str, least: float, most: float) -> float:
        """A duration such as ``90s``, ``5m`` or ``12h``, in seconds, between ``least`` and ``most``."""
        value = self._parse(name, default, duration, "a duration", default)
        if not least <= value <= most:
            self.problem(name, f"{self.text(name)} is not between {least:g} and {most:g} seconds", default)
            return duration(default)
        return value

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of several words; the first is the default."""
        value = self.text(name, default=choices[0]).lower()
        if value not in choices:
            self.problem(name, f"{value!r} is not one of {', '.join(choices)}", choices[0])
            return choices[0]
        return value

    def json_object(self, name: str, example: str) -> dict[str, Any]:
        """A JSON object; empty where the variable is not set."""
        return self._parse(name, "{}", _json_object, "a JSON object", example)

    def problem(self, name: str, what: str, example: str) -> None:
        """Remembers that a setting is wrong."""
        self.problems.append(f"{name}: {what} (example: {name}={example})")

    def refuse_problems(self) -> None:
        """Ends the Hub's start if any setting is wrong."""
        if self.problems:
            raise SystemExit("\n".join(["labhands: wrong settings", *self.problems]))

    def _parse(self, name: str, default: str, parse: Callable[[str], T], what: str, example: str) -> T:
        value = self.text(name, default=default)
        try:
            return parse(value)
        except ValueError as error:
            self.problem(name, f"{value!r} is not {what}: {error}", example)
            return parse(default)


def duration(text: str) -> float:
    """Seconds from ``90``, ``90s``, ``1h30m`` and the like."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise ValueError("write a number with ms, s, m, h or d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _switch(text: str) -> bool:
    if text.lower() in ("on", "true", "yes", "1"):
        return True
    if text.lower() in ("off", "false", "no", "0"):
        return False
    raise ValueError("write on or off")


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("write an object in braces")
    return value
