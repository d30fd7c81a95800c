import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

# The Kubernetes client reads this variable when it is imported. The file does not exist.
os.environ["KUBECONFIG"] = str(Path(__file__).with_name("kubeconfig.yaml"))


def image(tag, **fields):
    """An image of the planner's catalogue."""
    entry = {
        "reference": f"registry.example.org/lsst/lab:{tag}",
        "repository": "registry.example.org/lsst/lab",
        "tag": tag,
        "class": "weekly",
        "kind": "lab",
        "name": f"Weekly {tag}",
        "digest": "sha256:" + f"{abs(hash(tag)) % 16**8:08x}" * 8,
        "platforms": ["linux/amd64"],
        "size": 2_500_000_000,
        "aliases": [],
        "wanted": True,
        "why": "weekly 1 of 2",
        "nodes": {"present": 1, "eligible": 2},
    }
    return {**entry, **fields}


def document(*images, **fields):
    """The bytes of a catalogue."""
    return json.dumps(
        {"version": 1, "generated": datetime.now(UTC).isoformat(), "complete": True, "images": list(images), **fields}
    ).encode()


@pytest.fixture
def two_labs():
    """One wanted and one other lab."""
    return document(image("w_2026_47"), image("w_2026_46", wanted=False, digest=None))


class Person:
    """A user of the Hub."""

    def __init__(self, name="ada", state=None):
        self.name = self.escaped_name = name
        self.state, self.id = state, 1
        self.url = f"/user/{name}/"

    async def get_auth_state(self):
        return self.state
