import asyncio

import pytest
from tornado.web import HTTPError

from labhands_hub import start

GONE = 'rpc error: code = NotFound desc = failed to pull and unpack image "r/lab@sha256:1": r/lab@sha256:1: not found'
WAY = 'failed to pull image "r/lab:1": dial tcp 10.0.0.1:5000: connect: connection refused'


def container(name, **state):
    last = state.pop("last", {})
    return {"name": name, "image": "r/lab:1", "state": state, "lastState": last}


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def pod(init=(), lab=(), **metadata):
    status = {"phase": "Pending", "initContainerStatuses": list(init), "containerStatuses": list(lab)}
    return {"metadata": {"uid": "1", **metadata}, "status": status}


NEVER_RAN = ended(128, "StartError", 'exec: "sh": executable file not found in $PATH')


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (pod([container("labhands-home", **ended(1, message="The home of ada is not a folder."))]), "The home of ada is not a folder."),
        # kubelet restarts it; then the last state shows how it ended.
        (pod([container("labhands-home", waiting={"reason": "CrashLoopBackOff"}, last=ended(1, message="Not yours."))]), "Not yours."),
        (pod([container("labhands-home", **ended(137, "OOMKilled"))]), "ended with code 137"),
        (pod([container("labhands-home", waiting={"reason": "RunContainerError"}, last=NEVER_RAN)]), '"sh": executable file not found'),
        (pod([container("site", **NEVER_RAN)]), "executable file not found"),
        (pod([container("labhands-home", waiting={"reason": "ErrImagePull", "message": GONE})]), "no longer in its registry: r/lab:1"),
        (pod([container("labhands-home", waiting={"reason": "InvalidImageName", "message": "?"})]), "not the name of an image"),
        (pod(lab=[container("notebook", **ended(1, message="no module"))]), "Error, exit code 1). no module"),
        (pod(lab=[container("notebook", running={}, last=ended(137, "OOMKilled"))]), "OOMKilled, exit code 137"),
    ],
)
def test_a_failed_start_has_a_reason(seen, words):
    assert words in start.fault(seen)


@pytest.mark.parametrize(
    "seen",
    [
        {"metadata": {"uid": "1"}},
        pod(),
        pod([container("labhands-home", waiting={"reason": "PodInitializing"})]),
        pod([container("labhands-home", waiting={"reason": "ErrImagePull", "message": WAY})]),
        pod([container("labhands-home", **ended(0, "Completed"))], [container("notebook", running={})]),
        # It waits for something that may still come.
        pod([container("site", **ended(1))]),
        pod(lab=[container("notebook", waiting={"reason": "CreateContainerConfigError", "message": "failed to prepare subPath"})]),
    ],
)
def test_a_pod_that_may_still_become_a_lab_has_no_fault(seen):
    assert start.fault(seen) is None


RUNS = pod([container("labhands-home", running={})])


def conditions(**given):
    return {"metadata": {"uid": "1"}, "status": {"conditions": [{"type": name, "status": given[name]} for name in given]}}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (RUNS, "file server does not answer"),
        (conditions(PodScheduled="True", PodReadyToStartContainers="False"), "volumes or network"),
        (conditions(PodScheduled="True", PodReadyToStartContainers="True"), None),  # it pulls
        (conditions(PodScheduled="False", PodReadyToStartContainers="False"), None),
        (conditions(PodScheduled="True"), None),  # an older kubelet
        (pod(), None),
        (pod([container("site", running={})]), None),
        (pod([container("labhands-home", waiting={"reason": "PodInitializing"})]), None),
        (pod([container("labhands-home", **ended(0))], [container("notebook", waiting={"reason": "ErrImagePull"})]), None),
    ],
)
def test_a_start_waits_a_while_for_a_file_server_that_is_down(seen, words):
    waits_for = start.wait(seen)
    assert words in waits_for.words if words else waits_for is None


def test_words_are_bounded():
    assert len(start.fault(pod([container("labhands-home", **ended(1, message="x" * 5000))]))) <= 400


class Spawner:
    """A spawner whose pod goes from state to state."""

    namespace, pod_name, start_timeout = "jupyter", "jupyter-ada", 60

    def __init__(self, *states):
        self.states = list(states)

    @property
    def pod_reflector(self):
        return self

    @property
    def pods(self):
        seen = self.states.pop(0)
        return {"jupyter/jupyter-ada": seen} if seen else {}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(start, "_INTERVAL", 0)


@pytest.mark.parametrize(
    "last",
    [
        pod(lab=[container("notebook", running={})]),
        pod(deletionTimestamp="now"),
        None,
        {**pod(), "metadata": {"uid": "2"}},
    ],
)
def test_a_pod_is_followed_until_it_runs_or_is_gone(quick, last):
    spawner = Spawner(pod(), pod(), last)
    asyncio.run(start.watch(spawner, pod()))
    assert spawner.states == []


def test_the_words_reach_the_page(quick):
    spawner = Spawner(pod(), pod([container("labhands-home", **ended(1, message="Not 100% yours."))]))
    with pytest.raises(HTTPError) as failure:
        asyncio.run(start.watch(spawner, pod()))
    assert failure.value.jupyterhub_message == "Not 100% yours."


def test_a_home_that_hangs_ends_the_start(quick, monkeypatch):
    monkeypatch.setattr(start, "_HOME_WAIT", start.Wait(0, "The server is down."))
    with pytest.raises(HTTPError) as failure:
        asyncio.run(start.watch(Spawner(pod(), pod(), RUNS, RUNS, RUNS), pod()))
    assert failure.value.status_code == 504 and failure.value.jupyterhub_message == "The server is down."


def test_each_wait_has_its_own_time(quick, monkeypatch):
    """A pull between two waits restarts the time."""
    clock = iter(range(0, 100_000, 50))
    monkeypatch.setattr(start.time, "monotonic", lambda: next(clock))
    spawner = Spawner(RUNS, pod(), RUNS, pod(), RUNS, pod(lab=[container("notebook", running={})]))
    spawner.start_timeout = 10_000
    asyncio.run(start.watch(spawner, pod()))
    assert spawner.states == []
