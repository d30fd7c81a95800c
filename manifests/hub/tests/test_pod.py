import asyncio
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from tornado.web import HTTPError
from traitlets.config import Config

from conftest import Person
from labhands_hub import login, pod
from labhands_hub.identity import Group, Identity
from labhands_hub.settings import Environment

ADA = Identity("ada", 58001, (Group("org", 14041), Group("zoo", 14043)), "ada@example.org", "Ada L")


class FakeLogin:
    """The authenticator, as far as a pod needs it."""

    github_url = "https://github.com"


def made(who=ADA, site=None, **environment):
    """The pod of a start, as plain values."""
    return asyncio.run(manifest(who, site, environment))


async def manifest(who, site, environment):
    env = Environment({"GITHUB_ORGANIZATIONS": "org", **environment})
    config = Config()
    # What the Zero to JupyterHub chart sets before our files are read.
    config.KubeSpawner.volumes = {"010-site": {"name": "site", "emptyDir": {}}}
    config.KubeSpawner.volume_mounts = {"010-site": {"name": "site", "mountPath": "/site"}}
    config.KubeSpawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
    config.KubeSpawner.fs_gid = 100
    for name, hook in (site or {}).items():
        setattr(config.KubeSpawner, name, hook)
    pod.configure(config, pod.Settings.read(env), login.Settings.read(env))
    assert not env.problems
    spawner = KubeSpawner(_mock=True, config=config)
    spawner.user = Person(who.name if who else "ada", who and who.to_state())
    spawner.authenticator, spawner.image = FakeLogin(), "registry.example.org/lab@sha256:" + "1" * 64
    spawner.environment = {"HOME": "/wrong"}
    await spawner.pre_spawn_hook(spawner)
    built = await spawner.modify_pod_hook(spawner, await spawner.get_pod_manifest())
    async with ApiClient() as client:
        return client.sanitize_for_serialization(built)


def variables(container):
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_the_lab_runs_as_the_user_in_the_users_home():
    spec = made()["spec"]
    lab = spec["containers"][0]
    assert (lab["securityContext"]["runAsUser"], lab["securityContext"]["runAsGroup"]) == (58001, 58001)
    assert spec["securityContext"]["supplementalGroups"] == [14041, 14043]
    assert lab["workingDir"] == variables(lab)["HOME"] == "/home/ada"
    homes = [mount for mount in lab["volumeMounts"] if mount["name"] == "labhands-homes"]
    assert homes == [{"name": "labhands-homes", "mountPath": "/home/ada", "subPath": "ada"}]
    assert [entry["name"] for entry in lab["env"]].count("HOME") == 1


def test_the_pod_complies_with_pod_security_restricted_and_never_has_a_group_for_volumes():
    spec = made()["spec"]
    assert "fsGroup" not in spec["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["enableServiceLinks"] is False
    for container in [*spec["containers"], *spec["initContainers"]]:
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert not container["securityContext"].get("privileged")


def test_settings_of_the_chart_are_kept():
    built = made()
    assert {"name": "site", "emptyDir": {}} in built["spec"]["volumes"]
    assert {"name": "site", "mountPath": "/site"} in built["spec"]["containers"][0]["volumeMounts"]
    assert built["metadata"]["labels"]["hub.jupyter.org/network-access-hub"] == "true"


def test_hooks_of_the_site_run_too():
    seen = []

    async def before(spawner):
        seen.append("before")

    def change(spawner, built):
        built.metadata.annotations["site"] = built.spec.init_containers[-1].name
        return built

    built = made(site={"pre_spawn_hook": before, "modify_pod_hook": change})
    assert seen == ["before"] and built["metadata"]["annotations"]["site"] == "labhands-home"


def test_names_that_escape_alike_have_separate_labels_and_homes():
    pods = [made(Identity(name, uid)) for uid, name in enumerate(("a.b", "a-b", "a_b", "a-2eb", "a@b"), 58001)]
    assert len({built["metadata"]["labels"]["hub.jupyter.org/username"] for built in pods}) == 5
    homes = {
        mount["subPath"] for built in pods for mount in built["spec"]["containers"][0]["volumeMounts"] if mount["name"] == "labhands-homes"
    }
    assert homes == {"a.b", "a-b", "a_b", "a-2eb", "a@b"}


def test_a_user_that_a_user_namespace_does_not_have_is_refused():
    def mapped(spawner, built):
        built.spec.host_users = False
        return built

    low = Identity("ada", 65_535)
    assert made(low, site={"modify_pod_hook": mapped})["spec"]["hostUsers"] is False
    with pytest.raises(HTTPError, match="no user 65536"):
        made(Identity("ada", 65_536), site={"modify_pod_hook": mapped})


def test_a_role_that_the_site_gave_its_users_is_kept():
    env, config = Environment({"GITHUB_ORGANIZATIONS": "org", "GITHUB_PUSH": "on"}), Config()
    config.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "shares!user"]}]
    config.Spawner.server_token_scopes.append("read:hub")
    pod.configure(config, pod.Settings.read(env), login.Settings.read(env))
    assert config.JupyterHub.load_roles == [{"name": "user", "scopes": ["self", "shares!user", "admin:auth_state!user"]}]
    assert {"read:hub", "admin:auth_state!user"} < set(config.Spawner.server_token_scopes)


def test_a_start_may_take_as_long_as_the_site_allows():
    def timeout(environment, **site):
        env, config = Environment({"GITHUB_ORGANIZATIONS": "org", **environment}), Config(**site)
        pod.configure(config, pod.Settings.read(env), login.Settings.read(env))
        return config.KubeSpawner.start_timeout

    chart = {"KubeSpawner": {"start_timeout": 1200}}
    assert (timeout({}), timeout({}, **chart), timeout({"LAB_START_TIMEOUT": "5m"}, **chart)) == (900, 1200, 300)


def test_the_home_is_created_by_the_chosen_image_as_the_user():
    init = made()["spec"]["initContainers"][-1]
    assert init["image"] == "registry.example.org/lab@sha256:" + "1" * 64
    assert init["securityContext"]["runAsUser"] == 58001
    assert [mount["mountPath"] for mount in init["volumeMounts"]] == ["/homes", "/identity"]


def test_user_and_image_are_labels_and_annotations():
    built = made(Identity("ada@example.org", 58001))
    assert built["metadata"]["labels"]["labhands.dev/user"] == "ada-example.org"
    assert built["metadata"]["annotations"]["labhands.dev/user"] == "ada@example.org"
    image = built["metadata"]["labels"]["labhands.dev/image"]
    assert len(image) <= 63 and image[0].isalnum() and image[-1].isalnum()


def test_no_token_is_in_the_pod_and_git_asks_the_hub_only_where_pushing_is_on():
    off, on = variables(made()["spec"]["containers"][0]), variables(made(GITHUB_PUSH="on")["spec"]["containers"][0])
    assert "GITHUB_ACCESS_TOKEN" not in off and "credential" not in str(off)
    assert "credential.https://github.com.helper" in on.values()


def test_without_an_auth_state_there_is_no_lab():
    with pytest.raises(HTTPError) as failure:
        made(None)
    assert failure.value.status_code == 403 and "log out and in" in failure.value.jupyterhub_message


def test_homes_may_be_in_a_folder_of_the_claim():
    lab = made(HOME_CLAIM="data", HOME_FOLDER="/users/home/")["spec"]["containers"][0]
    assert lab["volumeMounts"][1]["subPath"] == "users/home/ada"


# Runs home.sh as its user. The test needs root to become that user, as in ./test.


class Share:
    """An export's root of mode 1777, and the files that the init container writes."""

    def __init__(self, root: Path) -> None:
        self.homes, self.identity = root / "homes", root / "identity"
        for folder in (self.homes, self.identity):
            folder.mkdir()
            folder.chmod(0o1777)

    def run(self, who=ADA, **changes):
        init = made(who)["spec"]["initContainers"][-1]
        for left in self.identity.iterdir():  # each pod has its own
            left.unlink()
        script = init["command"][-1].replace("/homes/", f"{self.homes}/").replace("/identity/", f"{self.identity}/")
        script = script.replace("/dev/termination-log", "/dev/null")
        environment = {name: (value or "").replace("$$", "$") for name, value in variables(init).items()}
        return subprocess.run(
            ["setpriv", f"--reuid={who.uid}", f"--regid={who.uid}", "--clear-groups", "--", "sh", "-c", script],
            env={**environment, "PATH": os.environ["PATH"], **changes},
            capture_output=True,
            text=True,
            check=False,
        )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


@pytest.fixture
def share():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Share(Path(folder))


@needs_root
def test_a_first_start_creates_the_home_and_a_second_changes_nothing(share):
    first = share.run()
    assert first.returncode == 0, first.stderr
    home = share.homes / "ada"
    assert (home.stat().st_uid, home.stat().st_mode & 0o7777) == (58001, 0o700)
    assert sorted(path.name for path in home.iterdir()) == ["DATA", "WORK", "notebooks"]
    (home / "notebooks" / "mine.ipynb").write_text("{}")
    assert share.run().returncode == 0 and (home / "notebooks" / "mine.ipynb").exists()


@needs_root
def test_the_identity_files_name_the_user_and_keep_the_images_entries(share):
    low = Identity("daemon", 1, (Group("org", 14041),), "", "Colon: here")
    assert share.run(low).returncode == 0
    passwd = (share.identity / "passwd").read_text().splitlines()
    assert passwd[-1] == "daemon:x:1:1:Colon  here:/home/daemon:/bin/bash"
    assert any(line.startswith("root:") for line in passwd) and len([line for line in passwd if line.startswith("daemon:")]) == 1
    assert (share.identity / "group").read_text().splitlines()[-2:] == ["daemon:x:1:", "org:x:14041:daemon"]
    assert json.loads((share.identity / "jupyter_config.json").read_text())["NotebookNotary"]["db_file"] == ":memory:"
    assert os.access(share.identity / "git-credential-hub", os.X_OK)


def link(home):
    home.symlink_to("/etc")


def file(home):
    home.write_text("")


def of_another(home):
    home.mkdir()


@needs_root
@pytest.mark.parametrize("make", [link, file, of_another])
def test_a_home_of_another_user_is_refused_with_a_reason(share, make):
    make(share.homes / "ada")
    result = share.run()
    assert result.returncode == 1 and "home of ada" in result.stderr and "administrator" in result.stderr


@needs_root
def test_a_missing_share_is_reported(share):
    share.homes.rmdir()
    result = share.run()
    assert result.returncode == 1 and "folder of all homes" in result.stderr


@needs_root
def test_a_full_home_starts_with_a_warning(share):
    home = share.homes / "ada"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2,mode=1777", "none", share.homes], check=True)
    try:
        home.mkdir(0o700)
        os.chown(home, 58001, 58001)
        result = share.run()
        assert result.returncode == 0 and result.stderr.count("warning: cannot create the folder") == 3
    finally:
        subprocess.run(["umount", share.homes], check=True)


@needs_root
def test_a_second_user_cannot_read_the_first_users_home(share):
    share.run()
    bob = Identity("bob", 58002)
    assert share.run(bob).returncode == 0
    command = ["setpriv", "--reuid=58002", "--regid=58002", "--clear-groups", "--", "ls", share.homes / "ada"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
