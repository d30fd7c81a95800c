"""Who a user is on the file system: name, uid, groups, and what git calls them. Kept in the Hub's encrypted auth state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

MOST_GROUPS = 16
"""NFS with ``sec=sys`` carries this many supplementary groups (RFC 5531, appendix A)."""

_NAME_LENGTH = 32  # of a group, as useradd(8) has it
_LARGEST_ID = 2**31 - 1
_STATE = "labhands_identity"


@dataclass(frozen=True)
class Group:
    """A supplementary group."""

    name: str
    gid: int


@dataclass(frozen=True)
class Identity:
    """A user. The primary group has the same number as the uid."""

    name: str
    uid: int
    groups: tuple[Group, ...] = ()
    email: str = ""
    full_name: str = ""

    def environment(self, git: Mapping[str, str]) -> dict[str, str]:
        """A lab's variables, some with names of an older system; ``git`` has more settings of git."""
        git = {"user.name": self.full_name or self.name, "user.email": self.email, **git}
        return {
            "EXTERNAL_UID": str(self.uid),
            "EXTERNAL_GROUPS": ",".join(f"{group.name}:{group.gid}" for group in self.groups),
            "GITHUB_NAME": self.full_name or self.name,
            "GITHUB_EMAIL": self.email,
            **git_configuration({key: value for key, value in git.items() if value}),
        }

    def to_state(self) -> dict[str, Any]:
        """As part of the auth state."""
        return {_STATE: asdict(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None) -> Identity | None:
        """From an auth state; ``None`` if it has none, as for a user who never logged in or whose key is lost."""
        kept = (state or {}).get(_STATE)
        if not isinstance(kept, dict):
            return None
        return cls(**{**kept, "groups": tuple(Group(**group) for group in kept["groups"])})


def git_configuration(values: Mapping[str, str]) -> dict[str, str]:
    """Git's configuration by environment variables (git-config(1), GIT_CONFIG_COUNT)."""
    variables = {"GIT_CONFIG_COUNT": str(len(values))}
    for number, (key, value) in enumerate(values.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return variables


def user_id(value: Any) -> int:
    """A uid from a login provider, which may write it as text.

    Raises ``ValueError`` for root and for anything that is not a uid.
    """
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"{value!r} is not a number")
    number = int(value)
    if not 1 <= number <= _LARGEST_ID:
        raise ValueError(f"{number} is not between 1 and {_LARGEST_ID}")
    return number


def groups(organizations: Iterable[tuple[str, int]], first: Iterable[str]) -> tuple[Group, ...]:
    """At most 16 groups from organizations: those named ``first`` come first, the others in their order.

    Names are cut at 32 characters; one that then occurs twice keeps its first group only, since a name must mean one number.
    """
    preferred = {name.partition(":")[0].lower() for name in first}
    ordered = sorted(organizations, key=lambda organization: organization[0].lower() not in preferred)
    by_name: dict[str, Group] = {}
    for name, gid in ordered:
        by_name.setdefault(name[:_NAME_LENGTH], Group(name[:_NAME_LENGTH], gid))
    return tuple(by_name.values())[:MOST_GROUPS]
