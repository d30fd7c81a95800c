import asyncio
import json

import pytest
from tornado.web import HTTPError

from conftest import document, image
from labhands_hub.catalogue import MOST_BYTES, FileFetch, HttpFetch, Source, parse


def test_infrastructure_images_are_not_labs():
    catalogue = parse(document(image("w_2026_47"), image("4.4.0", kind="infrastructure"), image("5.3.0", why="infrastructure image")))
    assert [lab.tag for lab in catalogue.images] == ["w_2026_47"]


def test_missing_fields_stay_unknown():
    (lab,) = parse(document(image("w_2026_47", size=None, nodes=None, digest=None, extra="field"))).images
    assert (lab.size, lab.nodes_present, lab.nodes_eligible, lab.pinned) == (None, None, None, "registry.example.org/lsst/lab:w_2026_47")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>login</html>",
        b"[]",
        b"null",
        b'{"version": 2, "images": []}',
        b'{"version": 1}',
        document(),
        document(image("w_2026_47", wanted=False)),
        document({**image("w_2026_47"), "tag": 47}),
        document(image("w_2026_47", digest=47)),
        document(None),
        document(image("w_2026_47"), generated="yesterday"),
        b" " * (MOST_BYTES + 1),
    ],
    ids=lambda raw: raw[:30].decode(errors="replace"),
)
def test_an_invalid_catalogue_is_refused_with_a_reason(raw):
    with pytest.raises(ValueError, match="."):
        parse(raw)


def source_of(*answers, refresh=0.0):
    """A source whose fetches return these answers, one after the other."""
    left = list(answers)

    async def fetch():
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer and parse(answer)

    return Source(fetch, refresh)


def test_the_last_good_catalogue_is_kept_with_the_reason(two_labs):
    async def run():
        source = source_of(two_labs, ValueError("gone"), None)
        first = await source.get()
        assert await source.get() is first and "gone" in source.problem
        assert await source.get() is first and source.problem is None

    asyncio.run(run())


def test_without_any_good_catalogue_users_read_why_and_the_next_one_fetches_again(two_labs):
    async def run():
        source = source_of(ConnectionRefusedError("refused"), two_labs, refresh=3600)
        with pytest.raises(HTTPError) as failure:
            await source.get()
        assert failure.value.status_code == 503 and "refused" in failure.value.jupyterhub_message
        assert (await source.get()).images

    asyncio.run(run())


def test_a_planner_that_hangs_delays_no_user_and_is_asked_once(two_labs):
    async def run():
        looks = 0

        async def fetch():
            nonlocal looks
            looks += 1
            if looks > 1:
                await asyncio.Event().wait()
            return parse(two_labs)

        source = Source(fetch, 0.0)
        first = await source.get()
        answers = await asyncio.wait_for(asyncio.gather(*(source.get() for _ in range(40))), timeout=30)
        assert all(answer is first for answer in answers) and looks == 2

    asyncio.run(run())


async def serve(answer):
    """A server that sends ``answer(request_head)``, and its address."""

    async def client(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(head.decode()))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/catalogue.json"


def http(status, body=b"", *headers):
    head = [f"HTTP/1.1 {status} x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def test_an_unchanged_catalogue_is_not_read_again_and_a_bad_one_is(two_labs):
    async def run():
        asked, bodies = [], [two_labs, b"{}"]

        def answer(head):
            asked.append("If-None-Match" in head)
            return http(304) if asked[-1] and len(asked) == 2 else http(200, bodies.pop(0), 'ETag: "1"')

        server, url = await serve(answer)
        fetch = HttpFetch(url)
        assert (await fetch()).images and await fetch() is None
        with pytest.raises(ValueError, match="version"):
            await fetch()
        with pytest.raises(IndexError):
            bodies.pop(0)
        server.close()
        assert asked == [False, True, True]

    asyncio.run(run())


@pytest.mark.parametrize("answer", [http(500), http(404, b"not found"), http(302, b"", "Location: http://127.0.0.1:1/"), http(200, b"{}")])
def test_other_answers_are_errors(answer):
    async def run():
        server, url = await serve(lambda head: answer)
        with pytest.raises(ValueError, match="."):
            await HttpFetch(url)()
        server.close()

    asyncio.run(run())


def test_a_body_without_an_end_is_bounded():
    async def run():
        server, url = await serve(lambda head: http(200, b"[" * (MOST_BYTES + 1)))
        source = Source(HttpFetch(url), 0.0)
        with pytest.raises(HTTPError) as failure:
            await source.get()
        assert failure.value.status_code == 503
        server.close()

    asyncio.run(run())


def test_a_catalogue_may_be_a_file(tmp_path, two_labs):
    path = tmp_path / "catalogue.json"
    path.write_bytes(two_labs)
    assert asyncio.run(FileFetch(path)()).images
    path.write_text(json.dumps({"version": 2}))
    with pytest.raises(ValueError, match="version 1"):
        asyncio.run(FileFetch(path)())
