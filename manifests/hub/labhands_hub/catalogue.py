"""The planner's catalogue of lab images: read every minute, the last good one kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tornado.simple_httpclient import SimpleAsyncHTTPClient

from .refusal import refusal

MOST_BYTES = 8 * 1024 * 1024
"""A catalogue of 10,000 tags has half of this."""

_PATIENCE = 1.0  # seconds that a user waits for a newer catalogue while there is an older one
_PATIENCE_FIRST = 8.0  # seconds that a user waits for the first one


@dataclass(frozen=True)
class Image:
    """One lab of the catalogue."""

    reference: str
    repository: str
    tag: str
    name: str
    kind_of_tag: str
    digest: str | None
    size: int | None
    wanted: bool
    aliases: tuple[str, ...]
    nodes_present: int | None
    nodes_eligible: int | None

    @property
    def pinned(self) -> str:
        """The name to start: by digest if it is known, so that a moved tag never starts another image than the one on the menu."""
        return f"{self.repository}@{self.digest}" if self.digest else self.reference


@dataclass(frozen=True)
class Catalogue:
    """The labs of one catalogue, newest first within each class."""

    images: tuple[Image, ...]
    generated: datetime
    problems: tuple[str, ...] = ()


def parse(raw: bytes) -> Catalogue:
    """Reads version 1 of the planner's catalogue; infrastructure images are left out.

    Raises ``ValueError`` with the reason for anything else.
    """
    if len(raw) > MOST_BYTES:
        raise ValueError(f"the catalogue has more than {MOST_BYTES} bytes")
    document = json.loads(raw)
    if not isinstance(document, dict) or document.get("version") != 1:
        raise ValueError("this is not a catalogue of version 1")
    listed = document.get("images")
    if not isinstance(listed, list):
        raise ValueError("the catalogue has no list of images")
    images = tuple(_image(entry) for entry in listed if _is_lab(entry))
    if not any(image.wanted for image in images):
        raise ValueError("no lab is wanted")
    generated = datetime.fromisoformat(_text(document, "generated").replace("Z", "+00:00"))
    if generated.tzinfo is None:
        generated = generated.replace(tzinfo=UTC)
    return Catalogue(images, generated, _problems(document.get("repositories")))


def _is_lab(entry: Any) -> bool:
    if not isinstance(entry, dict):
        raise ValueError("an image of the catalogue is not an object")
    return entry.get("kind", "lab") == "lab" and entry.get("why") != "infrastructure image"


def _image(entry: dict[str, Any]) -> Image:
    nodes = entry.get("nodes")
    nodes = nodes if isinstance(nodes, dict) else {}
    reference, digest = _text(entry, "reference"), entry.get("digest")
    if digest is not None and not isinstance(digest, str):
        raise ValueError(f"the digest of {reference} is not text")
    return Image(
        reference=reference,
        repository=_text(entry, "repository"),
        tag=_text(entry, "tag"),
        name=_text(entry, "name"),
        kind_of_tag=str(entry.get("class", "")),
        digest=digest,
        size=_count(entry.get("size")),
        wanted=entry.get("wanted") is True,
        aliases=tuple(str(alias) for alias in entry.get("aliases") or ()),
        nodes_present=_count(nodes.get("present")),
        nodes_eligible=_count(nodes.get("eligible")),
    )


def _text(entry: dict[str, Any], field: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str):
        raise ValueError(f"{field} of an image is not text" if field != "generated" else "generated is not a time")
    return value


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _problems(repositories: Any) -> tuple[str, ...]:
    if not isinstance(repositories, list):
        return ()
    parts = (part for part in repositories if isinstance(part, dict) and part.get("problem"))
    return tuple(f"{part.get('name')}: {part['problem']}" for part in parts)


class Source:
    """Holds the last good catalogue. A request fetches a newer one if ``refresh`` seconds have passed.

    ``fetch`` returns a catalogue, or ``None`` for "not changed". At most one fetch runs at a time.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Catalogue | None]], refresh: float) -> None:
        self._fetch = fetch
        self._refresh = refresh
        self._last_look = float("-inf")
        self._look: asyncio.Future[None] | None = None
        self.last_good: Catalogue | None = None
        self.problem: str | None = None

    async def get(self) -> Catalogue:
        """The last good catalogue. If there is an older one, no user waits longer than a second.

        Raises a 503 with a sentence if there has never been a good one.
        """
        if time.monotonic() - self._last_look >= self._refresh and (self._look is None or self._look.done()):
            self._look = asyncio.ensure_future(self._refresh_once())
        if self._look is not None and not self._look.done():
            await asyncio.wait({self._look}, timeout=_PATIENCE if self.last_good else _PATIENCE_FIRST)
        if self.last_good is None:
            reason = self.problem or "the planner has not answered yet"
            raise refusal(503, f"The list of labs is not available now. Please try again in a minute. ({reason})")
        return self.last_good

    async def _refresh_once(self) -> None:
        try:
            self.last_good = await self._fetch() or self.last_good
            self.problem = None
        except Exception as error:  # any error: the last good catalogue is kept, and the reason is shown
            self.problem = f"{type(error).__name__}: {error}"[:200]
        # Without a good catalogue, the next request fetches again at once.
        self._last_look = time.monotonic() if self.last_good else float("-inf")


class HttpFetch:
    """Fetches a catalogue over HTTP, with its ETag.

    Tornado's own client: the chart configures curl, which has no limit for a body.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._etag: str | None = None

    async def __call__(self) -> Catalogue | None:
        client = SimpleAsyncHTTPClient(force_instance=True, max_body_size=MOST_BYTES)
        headers = {"If-None-Match": self._etag} if self._etag else {}
        try:
            answer = await client.fetch(
                self._url, raise_error=False, headers=headers, connect_timeout=2, request_timeout=5, follow_redirects=False
            )
        finally:
            client.close()
        if answer.code == 304:
            return None
        self._etag = None
        if answer.code != 200:
            raise ValueError(f"{self._url} answers {answer.error or answer.code}")
        catalogue = parse(answer.body)
        self._etag = answer.headers.get("ETag")  # only of a good body: a bad one must be fetched again
        return catalogue


class FileFetch:
    """Reads a catalogue from a file, on a thread: a file system may hang."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self) -> Catalogue | None:
        return parse(await asyncio.wait_for(asyncio.to_thread(self._read), timeout=5))

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
