"""Everything builds, alone and together, and every pod has a network policy, limits and labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MANIFESTS, Objects, kustomize

OVERLAYS = sorted(path.parent for path in MANIFESTS.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in MANIFESTS.glob("components/*/kustomization.yaml"))
# Components that need another one.
NEEDS = {
    "firefly-shared": ["firefly"],
    "fileserver-node-network": ["fileserver"],
    "hub-database-url": ["hub"],
    "nfs-health-taint": ["nfs-health"],
}


def pods(objects: Objects) -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Deployment", "DaemonSet", "StatefulSet", "Job")
    return [(each["metadata"]["namespace"], each["spec"]["template"]) for each in objects if each["kind"] in kinds]


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_builds(overlay: Path) -> None:
    assert kustomize(overlay)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_builds_over_the_base_alone(component: str, build: Callable[..., Objects]) -> None:
    for each in build(*NEEDS.get(component, []), component):
        if each["kind"] != "CustomResourceDefinition":
            assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "labhands", each["metadata"]["name"]


def test_all_components_combine(build: Callable[..., Objects]) -> None:
    names = [name for name in COMPONENTS if name not in NEEDS] + list(NEEDS)
    objects = build(*names)
    identities = [(each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(identities)) == len(identities)

    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    for namespace, template in pods(objects):
        labels = template["metadata"]["labels"]
        holding = [
            policy
            for policy in policies
            if policy["metadata"]["namespace"] == namespace
            and (policy["spec"]["podSelector"].get("matchLabels") or {}).items() <= labels.items()
            and "Ingress" in policy["spec"]["policyTypes"]
        ]
        assert holding, f"no policy says who may speak to {labels} in {namespace}"
        spec = template["spec"]
        assert spec["enableServiceLinks"] is False
        for container in spec["containers"]:
            assert container["resources"]["limits"]["memory"] and container["resources"]["requests"]["cpu"]
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]


def test_port_2049_is_open_to_the_nodes_alone_where_their_network_is_named(build: Callable[..., Objects]) -> None:
    [policy] = [
        each
        for each in build("fileserver", "fileserver-node-network")
        if each["kind"] == "NetworkPolicy" and each["metadata"]["namespace"] == "labhands-fileserver"
    ]
    [rule] = policy["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {2049, 20048, 111}
    assert [list(source) for source in rule["from"]] == [["ipBlock"], ["namespaceSelector", "podSelector"]]
