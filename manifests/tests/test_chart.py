"""The Helm chart: generated from the components, it renders what kustomize builds from them, and rejects unknown values."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chart
import pytest
from chart import CHART, UPDATE, plain
from conftest import MANIFESTS, Objects

HELM = shutil.which("helm") or "helm"
PREFIX = "registry.example.org/labhands"
ALL = [*chart.PLAIN, *chart.CHANGING]


def test_the_chart_is_up_to_date() -> None:
    wanted = chart.files()
    there = {f"templates/{path.name}" for path in CHART.glob("templates/*.yaml")}
    if os.environ.get("UPDATE"):
        for name, text in wanted.items():
            (CHART / name).write_text(text)
        for name in there - wanted.keys():
            (CHART / name).unlink()
    for name, text in wanted.items():
        assert (CHART / name).is_file() and (CHART / name).read_text() == text, f"run: {UPDATE}"
    assert there <= wanted.keys(), f"run: {UPDATE}"


def test_the_chart_has_the_versions_of_the_images() -> None:
    workspace = (MANIFESTS.parent / "Cargo.toml").read_text()
    version = json.loads(workspace.partition("\nversion = ")[2].splitlines()[0])
    text = (CHART / "Chart.yaml").read_text()
    assert f"\nversion: {version}\n" in text and f"\nappVersion: {version}\n" in text


def helm(*arguments: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    given = json.dumps(values or {})
    return subprocess.run([HELM, *arguments, "--values", "-"], input=given, capture_output=True, text=True, check=False)


def rendered(values: dict[str, Any], namespace: str = "default") -> Objects:
    run = helm("template", "labhands", str(CHART), "--kube-version", "1.34.0", "--namespace", namespace, values=values)
    assert run.returncode == 0, run.stderr
    return plain(run.stdout)


def built(folder: Path, components: list[str], given: dict[str, str]) -> Objects:
    """The objects that the site's page builds from the same values."""
    up = "../" * (len(folder.parts) - 1) + str(MANIFESTS).lstrip("/")
    lines = [f"resources: [{up}/site/defaults]", "components:", *(f"- {up}/components/{name}" for name in components)]
    lines += [f"- {up}/site/wiring", f"replacements: [{{path: {up}/site/wiring/replacements.yaml}}]", "configMapGenerator:"]
    literals = json.dumps([f"{name}={value}" for name, value in given.items()])
    lines += [f"- {{name: site, namespace: labhands, behavior: merge, literals: {literals}}}", "images:"]
    own = [name for name, (repository, _) in chart.images().items() if not repository]
    lines += [f"- {{name: labhands/{name}, newName: {PREFIX}/{name}}}" for name in own]
    (folder / "kustomization.yaml").write_text("\n".join(lines))
    command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return plain(run.stdout)


OF_ONE = ("labhands.dev/checksum", "helm.sh/resource-policy", "finalizers")


def without_helms_own(each: dict[str, Any]) -> dict[str, Any]:
    """An object without the annotations that only Helm needs and the finalizers that it does not, and without empty fields."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            kept = {name: bare(inner) for name, inner in value.items() if name not in OF_ONE}
            return {name: inner for name, inner in kept.items() if inner not in ({}, None) or name in ("podSelector", "emptyDir", "from")}
        return [bare(inner) for inner in value] if isinstance(value, list) else value

    found: dict[str, Any] = bare(each)
    return found


SETTINGS = {"SITE_HOST": "hub.university.edu", "LAB_REPOSITORIES": "ghcr.io/university/lab", "GATEWAY_CLASS": "example", "LOG": "debug"}
EVERYTHING = {"imagePrefix": PREFIX, "components": dict.fromkeys(ALL, True), "settings": SETTINGS}
SETS: dict[str, list[str]] = {
    "as it is": ["prepuller", "imagepurger", "keep-data"],
    "nothing": [],
    "a file server": ["fileserver-claim", "fileserver", "nfs-volumes", "fs-keepalive", "nfs-health"],
    "logs": ["log-shipper", "logs-receiver", "dashboards"],
    "a Hub": ["hub", "nginx", "nginx-certificate", "prepuller"],
    "all": ALL,
    **{f"{name} alone": [*chart.NEEDS.get(name, []), "prepuller", "nfs-health", name] for name in chart.CHANGING if name != "nfs-health"},
}


@pytest.mark.parametrize("name", SETS)
def test_it_renders_what_kustomize_builds(name: str, tmp_path: Path) -> None:
    wanted = list(dict.fromkeys(SETS[name]))
    values = {"imagePrefix": PREFIX, "components": {each: each in wanted for each in ALL}, "settings": SETTINGS}

    def by_name(objects: Objects) -> dict[chart.Key, dict[str, Any]]:
        return {chart.key(each): without_helms_own(each) for each in objects}

    ours, theirs = by_name(rendered(values)), by_name(built(tmp_path, wanted, SETTINGS))
    assert ours.keys() == theirs.keys()
    for each, expected in theirs.items():
        assert ours[each] == expected, each


def test_a_changed_setting_changes_only_the_pods_of_its_daemon() -> None:
    def pods(given: dict[str, Any]) -> dict[str, str]:
        objects = rendered(EVERYTHING | {"settings": SETTINGS | given})
        return {each["metadata"]["name"]: str(each["spec"]["template"]) for each in objects if "template" in (each.get("spec") or {})}

    before, after = pods({}), pods({"PURGE_GRACE": "48h", "AMQP_WINDOW": 1_000_000})
    assert {name for name in after if after[name] != before[name]} == {"imagepurger", "log-shipper"}


def test_numbers_and_switches_are_text() -> None:
    values = EVERYTHING | {"settings": SETTINGS | {"AMQP_WINDOW_BYTES": 100_000_000, "PURGE_DRY_RUN": True}}
    data = {chart.key(each): each["data"] for each in rendered(values) if each["kind"] == "ConfigMap" and "data" in each}
    assert data["ConfigMap", "labhands-node", "log-shipper"]["AMQP_WINDOW_BYTES"] == "100000000"
    assert data["ConfigMap", "labhands-node", "imagepurger"]["PURGE_DRY_RUN"] == "true"


def test_other_names_are_used_everywhere() -> None:
    """Other namespaces, Secrets, folders, disks, taints, images: no object has the default ones."""
    names = {value: f"other-{value}" for value in chart.NAMESPACES.values()}
    given = {name: value for name, value in chart.defaults().items() if any(usual in value for usual in ("labhands", "jupyter"))}
    values = {
        **EVERYTHING,
        "settings": SETTINGS | {name: "other-x/y" for name in given},
        "images": {"prepuller": {"digest": "sha256:" + "0" * 64}, "firefly": {"repository": "ghcr.io/lsst/suit", "tag": "1"}},
        "secrets": {name: f"other-{name}" for name in chart.secrets()},
        "namespaces": names,
        "folders": {"socket": "/run/k3s/containerd", "images": "/var/lib/rancher/k3s/agent/containerd"},
        "claims": {"fileserver": {"storage": "2Ti", "storageClassName": "fast"}},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    objects = rendered(values)
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    usual = {f"'{name}'" for name in ("labhands-node", "labhands-fileserver", "jupyter", "firefly")}
    for each in objects:
        assert each["metadata"].get("namespace", "other-").startswith("other-"), each["metadata"]
        if each["kind"].startswith(("Role", "ClusterRole", "Validating")):
            assert not [name for name in usual if name in str(each)], each
        assert "system:serviceaccount:labhands" not in str(each) and "'namespace': 'labhands" not in str(each)
    assert "orValue('') == 'labhands'" in str(found["ValidatingAdmissionPolicy", "labhands-keep-data"])
    agent = found["DaemonSet", "prepuller-node"]["spec"]["template"]["spec"]
    assert agent["containers"][0]["image"] == f"{PREFIX}/prepuller@sha256:{'0' * 64}"
    assert {"key": "gpu", "operator": "Exists"} in agent["tolerations"]
    assert "'/run/k3s/containerd'" in str(agent) and "'/run/containerd'" not in str(agent)
    viewer = found["Deployment", "firefly"]["spec"]["template"]["spec"]
    assert "other-registry" in str(agent) and viewer["containers"][0]["image"] == "ghcr.io/lsst/suit:1"
    disk = found["PersistentVolumeClaim", "fileserver"]["spec"]
    assert (disk["storageClassName"], disk["resources"]["requests"]["storage"]) == ("fast", "2Ti")


def test_disks_and_their_namespaces_are_kept_and_the_releases_own_namespace_is_not_created() -> None:
    objects = rendered(EVERYTHING, "labhands")
    kept = {each["metadata"]["name"] for each in objects if "helm.sh/resource-policy" in (each["metadata"].get("annotations") or {})}
    assert kept == {"fileserver", "labhands-fileserver", "jupyter"}
    made = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    assert made == {"labhands-node", "labhands-fileserver", "jupyter", "firefly"}
    assert not [each for each in rendered(EVERYTHING | {"namespaces": {"create": False}}) if each["kind"] == "Namespace"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelled setting": ({"settings": {"LAB_KEPT": "x"}}, "LAB_KEPT"),
    "a misspelled component": ({"components": {"imagepruger": True}}, "imagepruger"),
    "a misspelled value": ({"image": {}}, "image"),
    "a setting that is a list": ({"settings": {"LAB_REPOSITORIES": ["x"]}}, "LAB_REPOSITORIES"),
    "an answer in quotes": ({"components": {"prepuller": "no"}}, "prepuller"),
    "a digest that is a tag": ({"images": {"prepuller": {"digest": "0.1.0"}}}, "digest"),
    "a registry with a scheme": ({"imagePrefix": "https://registry.example.org/labhands"}, "imagePrefix"),
    "a registry with a tag": ({"imagePrefix": "registry.example.org/labhands:1"}, "imagePrefix"),
    "an image with its tag": ({"images": {"prepuller": {"repository": "registry.example.org/prepuller:1"}}}, "repository"),
    "an image with a slash at its end": ({"images": {"prepuller": {"repository": "registry.example.org/prepuller/"}}}, "repository"),
    "a tag that is a number": ({"images": {"prepuller": {"tag": 1.1}}}, "tag"),
    "a disk in words": ({"claims": {"fileserver": {"storage": "a lot"}}}, "storage"),
    "a misspelled toleration": ({"tolerations": [{"kye": "gpu"}]}, "kye"),
    "a Hub without a host": ({"components": {"hub": True}}, "settings.SITE_HOST is missing: the component hub"),
    "an Ingress for every name": ({"components": {"ingress": True}}, "settings.SITE_HOST is missing: the component ingress"),
    "a Gateway without a class": ({"components": {"gateway": True}, "settings": {"SITE_HOST": "hub.example.org"}}, "settings.GATEWAY_CLASS is missing"),
    "a part without what it changes": ({"components": {"firefly-shared": True}}, "changes firefly, which is off"),
    "no registry": ({"imagePrefix": ""}, "imagePrefix is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unknown_values_are_rejected(name: str) -> None:
    values, words = REFUSED[name]
    run = helm("template", "labhands", str(CHART), "--kube-version", "1.34.0", values={"imagePrefix": PREFIX} | values)
    assert run.returncode != 0 and words in run.stderr


def test_helm_lint_reports_nothing() -> None:
    run = helm("lint", str(CHART), "--strict", "--kube-version", "1.34.0", values=EVERYTHING)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "[WARNING]" not in run.stdout and "[ERROR]" not in run.stdout


def test_it_can_be_packaged(tmp_path: Path) -> None:
    run = subprocess.run([HELM, "package", str(CHART), "--destination", str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    [package] = tmp_path.iterdir()
    names = subprocess.run(["tar", "-tzf", package], capture_output=True, text=True, check=True).stdout
    assert "labhands/files/hub/labhands_hub/menu.py" in names and "labhands/crds/nodeimages.yaml" in names
    assert "/tests/" not in names and package.stat().st_size < 200_000
