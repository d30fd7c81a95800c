"""The page's settings: all that the daemons have, and no others; site/wiring passes each to the parts that use it."""

import os
import re
from collections.abc import Callable, Iterator

import pytest
from conftest import MANIFESTS

SETTINGS = MANIFESTS / "site/defaults/settings.env"
WIRING = MANIFESTS / "site/wiring"
UPDATE = "UPDATE=1 manifests/check -k wiring"

# Settings that a pod's manifest sets, or that have no meaning in a cluster.
FIXED = {
    "ADMIN_ADDR",
    "AMQP_PASSWORD",
    "CATALOGUE_FILE",
    "CATALOGUE_NAMESPACE",
    "DOCKER_CONFIG",
    "HOME",
    "KEEPALIVE_PATHS",
    "KUBERNETES_SERVICE_HOST",
    "LAB_OWNER",
    "LAB_REPO_HOST",
    "LAB_REPO_NAME",
    "LOG_FORMAT",
    "LOG_PATHS",
    "NFS_MOUNTINFO",
    "NFS_REPORT_NAMESPACE",
    "NFS_TAINT",
    "NODE_IMAGES_NAMESPACE",
    "NODE_NAME",
    "POD_NAME",
    "POD_NAMESPACE",
    "POD_UID",
    "PREPULLER_MODE",
    "PREPULLER_URL",
    "PULL_POD_IMAGE",
    "PULL_POD_TIMEOUT",
    "STATE_DIR",
    "THING_KEEP",
    "THING_PASSWORD",
    "VOLUME_WATCH",
    "WAIT_MIN_NODES",
    "WAIT_TIMEOUT",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
}

# Other objects than ConfigMaps that get a setting.
ELSEWHERE = {
    "SITE_HOST": [
        ("{ kind: ConfigMap, name: nginx, namespace: labhands }", ["data.SITE_HOST"], ""),
        ("{ kind: ConfigMap, name: site, namespace: labhands }", ["data.OAUTH_CALLBACK_URL"], "delimiter: /, index: 2"),
        ("{ kind: Ingress }", ["spec.tls.0.hosts.0", "spec.rules.0.host"], ""),
        ("{ kind: HTTPRoute }", ["spec.hostnames.0"], ""),
        ("{ kind: Gateway }", ["spec.listeners.1.hostname"], ""),
        ("{ kind: Certificate }", ["spec.dnsNames.0"], ""),
    ],
    "GATEWAY_CLASS": [("{ kind: Gateway }", ["spec.gatewayClassName"], "")],
    "CERTIFICATE_ISSUER": [("{ kind: Certificate }", ["spec.issuerRef.name"], "")],
    "NODE_NETWORK": [
        (
            "{ kind: NetworkPolicy, name: fileserver, labelSelector: labhands.dev/node-network=true }",
            ["spec.ingress.0.from.0.ipBlock.cidr"],
            "",
        ),
    ],
}

# The namespace in a setting NAMESPACE/NAME is the namespace of these objects.
NAMESPACES_OF = {"NFS_SERVICE": ["{ kind: Role, name: nfs-volumes }", "{ kind: RoleBinding, name: nfs-volumes }"]}


def settings() -> Iterator[tuple[str, list[str]]]:
    """Each setting, with the ConfigMaps that get it."""
    targets: list[str] = []
    for line in SETTINGS.read_text().splitlines():
        if line.startswith("#> "):
            targets = [] if line == "#> SITE" else line.removeprefix("#> ").split()
        elif line and not line.startswith("#"):
            yield line.partition("=")[0], targets


def by_config_map() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, targets in settings():
        for target in targets + (["labhands/nginx"] if name == "SITE_HOST" else []):
            names.setdefault(target, []).append(name)
    return names


def kustomization() -> str:
    """A component that gives each part's ConfigMap all its names. Without them kustomize would not know that values are text."""
    lines = [f"# Generated from ../defaults/settings.env by: {UPDATE}", "# The names of each part's settings, for replacements.yaml."]
    lines += ["apiVersion: kustomize.config.k8s.io/v1alpha1", "kind: Component", "patches:"]
    for target, names in sorted(by_config_map().items()):
        namespace, name = target.split("/")
        lines += [f"  - target: {{ kind: ConfigMap, name: {name}, namespace: {namespace} }}", "    patch: |", "      apiVersion: v1"]
        lines += ["      kind: ConfigMap", f"      metadata: {{ name: {name}, namespace: {namespace} }}", "      data:"]
        lines += [f'        {each}: ""' for each in sorted(names)]
    return "\n".join(lines) + "\n"


def replacements() -> str:
    lines = [f"# Generated from ../defaults/settings.env by: {UPDATE}"]
    for name, targets in settings():
        lines += [f"- source: {{ kind: ConfigMap, name: site, namespace: labhands, fieldPath: data.{name} }}", "  targets:"]
        places = [
            ("{{ kind: ConfigMap, name: {1}, namespace: {0} }}".format(*target.split("/")), [f"data.{name}"], "") for target in targets
        ]
        for select, paths, options in places + ELSEWHERE.get(name, []):
            lines += [f"    - select: {select}", f"      fieldPaths: [{', '.join(paths)}]"]
            if options:
                lines.append(f"      options: {{ {options} }}")
        if name in NAMESPACES_OF:
            source = f"{{ kind: ConfigMap, name: site, namespace: labhands, fieldPath: data.{name}, options: {{ delimiter: /, index: 0 }} }}"
            lines += [f"- source: {source}", "  targets:"]
            for select in NAMESPACES_OF[name]:
                lines += [f"    - select: {select}", "      fieldPaths: [metadata.namespace]"]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("file", "generate"), [("kustomization.yaml", kustomization), ("replacements.yaml", replacements)])
def test_the_wiring_is_up_to_date(file: str, generate: Callable[[], str]) -> None:
    if os.environ.get("UPDATE"):
        (WIRING / file).write_text(generate())
    assert (WIRING / file).read_text() == generate(), f"run: {UPDATE}"


def test_no_setting_occurs_twice() -> None:
    names = [name for name, _ in settings()]
    assert len(set(names)) == len(names)


def test_the_page_has_exactly_the_settings_of_the_daemons() -> None:
    crates = [path.parent for path in MANIFESTS.parent.glob("*/Cargo.toml")]
    code = [file.read_text() for crate in crates for file in (crate / "src").rglob("*.rs")]
    declared = {name for text in code for name in re.findall(r'\benv = "([A-Z_0-9]+)"', text)}
    known = {name for name, _ in settings()}
    assert declared - known - FIXED == set(), "a new setting belongs into site/defaults/settings.env"
    daemons = {
        name
        for name, targets in settings()
        if any(target.split("/")[1] not in ("hub", "nginx", "firefly", "fileserver") for target in targets)
    }
    assert daemons - declared == set(), "no daemon has this setting"


def test_every_setting_of_the_hub_is_known_to_it() -> None:
    python = "".join(path.read_text() for path in (MANIFESTS / "hub/labhands_hub").glob("*.py"))
    # oauthenticator reads these itself.
    own = {"OAUTH_CALLBACK_URL", "GITHUB_HOST"}
    for name, targets in settings():
        if "jupyter/hub" in targets and name not in own:
            assert f'"{name}"' in python, name


def test_the_page_has_exactly_the_settings_of_the_file_server() -> None:
    script = (MANIFESTS.parent / "images/fileserver/fileserver").read_text()
    known = {name for name, targets in settings() if "labhands-fileserver/fileserver" in targets}
    assert known == set(re.findall(r"^# (FILESERVER_[A-Z_]+)", script, re.MULTILINE))
