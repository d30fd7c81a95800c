"""The menu of labs: KubeSpawner's ``profile_list`` from the planner's catalogue.

Wanted labs are radio buttons, all others are in one drop-down. A choice that a user saved follows its image when it moves between the
two. A missing one resets the form and refuses a start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import sizes
from .catalogue import Catalogue, FileFetch, HttpFetch, Image, Source
from .refusal import refusal
from .settings import Environment
from .sizes import Size

MOST_CHOICES = 500
"""The drop-down holds this many labs, and the saved one."""

OTHER = "other"
"""The slug of the radio button with the drop-down."""

# Recommended ones first, then what users know by name.
_ORDER = ("alias", "release", "weekly", "daily")

# KubeSpawner's own form below a title. KubeSpawner replaces the expressions in braces.
_FORM = '<h2>{title}</h2>\n{{% include "form.html" %}}'


@dataclass(frozen=True)
class Settings:
    """The content of the menu, and its source."""

    catalogue: str
    refresh: float
    stale_after: float
    title: str
    preferred: str
    sizes: tuple[Size, ...]
    class_groups: dict[str, tuple[str, ...]]

    @classmethod
    def read(cls, env: Environment) -> Settings:
        """From the environment."""
        catalogue = env.text("LAB_CATALOGUE", default="http://prepuller.labhands/catalogue.json")
        if urlsplit(catalogue).scheme not in ("http", "https", "file"):
            env.problem("LAB_CATALOGUE", f"{catalogue!r} is not an address", "http://prepuller.labhands/catalogue.json")
        return cls(
            catalogue=catalogue,
            refresh=env.seconds("LAB_CATALOGUE_REFRESH", "60s", 1, 3600),
            stale_after=env.seconds("LAB_CATALOGUE_STALE", "6h", 60, 30 * 86400),
            title=env.text("LAB_SELECTOR_TITLE", default="Choose a lab"),
            preferred=env.text("LAB_IMAGE"),
            sizes=sizes.read(env),
            class_groups=_class_groups(env),
        )


def _class_groups(env: Environment) -> dict[str, tuple[str, ...]]:
    name, example = "LAB_CLASS_GROUPS", '\'{"daily": ["organization:team"]}\''
    groups = {}
    for kind, value in env.json_object(name, example).items():
        if isinstance(value, list) and value and all(isinstance(group, str) for group in value):
            groups[kind] = tuple(group.lower() for group in value)
        else:
            env.problem(name, f"{kind!r} needs a list of organizations and teams", example)
    return groups


@dataclass(frozen=True)
class Choice:
    """What a user saved: an image by its slug, and a size."""

    image: str | None
    size: str | None

    @classmethod
    def read(cls, options: Mapping[str, Any] | None) -> Choice:
        """From KubeSpawner's user options, which may contain anything that a REST call sent."""
        profile, other, size = ((options or {}).get(key) for key in ("profile", "image", "size"))
        image = other if profile == OTHER else profile
        return cls(str(image) if image else None, str(size) if size else None)


@dataclass(frozen=True)
class Menu:
    """KubeSpawner's profiles, and for each image the user options that choose it."""

    profiles: list[dict[str, Any]]
    options: dict[str, dict[str, str]]
    sizes: tuple[str, ...]

    def fault(self, choice: Choice) -> str | None:
        """Why a choice can't be started, as a phrase."""
        if choice.image and choice.image not in self.options:
            return f"“{choice.image}” is no longer on the menu of labs, or not for you"
        if choice.size and choice.size not in self.sizes:
            return f"there is no size “{choice.size}” for you"
        return None

    def settle(self, choice: Choice) -> dict[str, str]:
        """The user options for this choice on this menu; none if it can't be started."""
        if self.fault(choice):
            return {}
        size = {"size": choice.size} if choice.size else {}
        return {**self.options.get(choice.image or "", {}), **size}


def build(
    catalogue: Catalogue,
    settings: Settings,
    choice: Choice,
    groups: Collection[str] | None,
    note: str = "",
    today: date | None = None,
) -> Menu:
    """The menu of one user, who is in these organizations and teams (``None``: not known)."""
    allowed = [image for image in catalogue.images if _is_for(image, settings.class_groups, groups)]
    offered = tuple(size for size in settings.sizes if size.is_for(groups))
    if not allowed or not offered:
        raise refusal(403, "No lab is on the menu for your organizations and teams. Please log out and in again, or ask an administrator.")
    slugs = _slugs(allowed)
    size_option = {"size": {"display_name": "Size", "choices": {size.name: size.choice() for size in offered}}}
    wanted = sorted((image for image in allowed if image.wanted), key=lambda image: _rank(image.kind_of_tag))
    profiles: list[dict[str, Any]] = []
    options: dict[str, dict[str, str]] = {}
    for image in wanted:
        slug = slugs[image.reference]
        options[slug] = {"profile": slug}
        profiles.append(
            {
                "slug": slug,
                "display_name": escape(image.name),
                "description": escape(_description(image, today) + note),
                "default": _is_preferred(image, settings.preferred),
                "kubespawner_override": override(image),
                "profile_options": size_option,
            }
        )
    others = [image for image in allowed if not image.wanted]
    choices = {
        slugs[image.reference]: {
            "display_name": escape(f"{image.name} ({_size(image) or 'slow start'})"),
            "kubespawner_override": override(image),
        }
        for position, image in enumerate(others)
        if position < MOST_CHOICES or slugs[image.reference] == choice.image
    }
    if choices:
        options |= {slug: {"profile": OTHER, "image": slug} for slug in choices}
        profiles.append(
            {
                "slug": OTHER,
                "display_name": "Another version",
                "description": escape("Not on the nodes: the first start takes minutes." + note),
                "profile_options": {"image": {"display_name": "Version", "choices": choices}, **size_option},
            }
        )
    _keep_one_default(profiles)
    return Menu(profiles, options, tuple(size.name for size in offered))


def override(image: Image) -> dict[str, Any]:
    """KubeSpawner's settings for an image. A name by digest needs no request to the registry; a tag may have moved."""
    return {
        "image": image.pinned,
        "image_pull_policy": "IfNotPresent" if image.digest else "Always",
        "extra_annotations": {"labhands.dev/image": image.reference},
        "environment": {"JUPYTER_IMAGE_SPEC": image.reference, "JUPYTER_IMAGE": image.pinned},
    }


def _is_for(image: Image, class_groups: Mapping[str, tuple[str, ...]], groups: Collection[str] | None) -> bool:
    needed = class_groups.get(image.kind_of_tag)
    return needed is None or any(group in needed for group in groups or ())


def _is_preferred(image: Image, preferred: str) -> bool:
    return bool(preferred) and preferred in (image.reference, image.tag, *image.aliases)


def _keep_one_default(profiles: list[dict[str, Any]]) -> None:
    """KubeSpawner starts the first default, and shows the last one as chosen: so there must be exactly one."""
    first = next((profile for profile in profiles if profile.get("default")), profiles[0])
    for profile in profiles:
        profile["default"] = profile is first


def _rank(kind_of_tag: str) -> int:
    return _ORDER.index(kind_of_tag) if kind_of_tag in _ORDER else len(_ORDER)


def _description(image: Image, today: date | None) -> str:
    """On how many nodes it is, its size and its age."""
    parts = []
    if image.nodes_present is not None and image.nodes_eligible:
        parts.append(f"on {image.nodes_present} of {image.nodes_eligible} nodes")
    if size := _size(image):
        parts.append(size)
    if today and (age := _age(image.tag, today)):
        parts.append(age)
    if image.tag and image.tag not in image.name:
        parts.append(image.tag)
    return ", ".join(parts)


def _age(tag: str, today: date) -> str:
    """The age of an image, if its tag contains a day or a week; a registry does not report it."""
    day = re.search(r"(?<!\d)(20\d\d)[._-](\d\d)[._-](\d\d)(?!\d)", tag)
    week = re.match(r"w_(20\d\d)_(\d\d)(?!\d)", tag)
    try:
        if day:
            days = (today - date(int(day[1]), int(day[2]), int(day[3]))).days
            return "" if days < 0 else "of today" if days == 0 else f"{days} day{'s' * (days > 1)} old"
        if week:
            weeks = (today - date.fromisocalendar(int(week[1]), int(week[2]), 1)).days // 7
            return "" if weeks < 0 else "of this week" if weeks == 0 else f"{weeks} week{'s' * (weeks > 1)} old"
    except ValueError:  # no such day or week
        pass
    return ""


def _size(image: Image) -> str:
    return f"{image.size / 1e9:.1f} GB compressed" if image.size else ""


def _slugs(images: Collection[Image]) -> dict[str, str]:
    """A slug for each reference: the tag if it is safe in HTML, in a CSS selector and between KubeSpawner's ``--``; else a
    similar text and a hash, so that a slug means the same image on every menu."""
    tags = [image.tag for image in images]
    return {
        image.reference: image.tag
        if re.fullmatch(r"[a-z0-9_]{1,60}", image.tag) and image.tag != OTHER and tags.count(image.tag) == 1
        else _likeness(image)
        for image in images
    }


def _likeness(image: Image) -> str:
    words = re.findall(r"[a-z0-9_]+", image.tag.lower()[:40])
    return "-".join([*words, hashlib.sha256(image.reference.encode()).hexdigest()[:8]])


def staleness(catalogue: Catalogue, problem: str | None, stale_after: float, now: datetime) -> str:
    """The menu's note about its own age: empty while there is no problem."""
    late = (now - catalogue.generated).total_seconds() > stale_after
    reason = problem or ("; ".join(catalogue.problems) if catalogue.problems else "no newer scan" if late else None)
    return f" (as of {catalogue.generated:%Y-%m-%d %H:%M} UTC: {reason})" if reason else ""


def configure(c: Any, settings: Settings) -> None:
    """Sets ``profile_list`` and the title above it."""
    address = urlsplit(settings.catalogue)
    fetch = FileFetch(Path(address.path)) if address.scheme == "file" else HttpFetch(settings.catalogue)
    source = Source(fetch, settings.refresh)

    async def profile_list(spawner: Any) -> list[dict[str, Any]]:
        """Runs for each form and again for each start, whether by form, REST or admin page."""
        catalogue = await source.get()
        choice = Choice.read(spawner.user_options)
        now = datetime.now(UTC)
        note = staleness(catalogue, source.problem, settings.stale_after, now)
        menu = build(catalogue, settings, choice, await _groups(spawner), note, now.date())
        fault = menu.fault(choice)
        if fault and spawner.pending == "spawn":
            raise refusal(409, f"This lab can't start: {fault}. Please choose again.")
        spawner.user_options = menu.settle(choice)
        return menu.profiles

    c.KubeSpawner.profile_list = profile_list
    c.KubeSpawner.profile_form_template = _FORM.format(title=escape(settings.title).replace("{", "&#123;"))
    # KubeSpawner applies options in its start; without this the Hub warns about each option that it does not know.
    if "apply_user_options" not in c.Spawner and "apply_user_options" not in c.KubeSpawner:
        c.Spawner.apply_user_options = lambda spawner, options: None


async def _groups(spawner: Any) -> Collection[str] | None:
    state = await spawner.user.get_auth_state()
    return None if state is None else tuple(state.get("labhands_groups", ()))
