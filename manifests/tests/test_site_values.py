"""The page's check: each way to write a value in YAML is read as kustomize reads it, and each wrong value is named."""

import re
from collections.abc import Callable

import pytest
from conftest import MANIFESTS
from test_site import KEY, RANDOM, SECRETS, Site
from test_site import site as site
from test_settings import settings

RIGHT = "The page is right."
HOST = "- SITE_HOST=hub.university.edu"


def test_values_are_read_in_every_form_of_yaml(site: Site) -> None:
    site.change(HOST, "- &host >-\n        SITE_HOST=hub.university.edu")
    site.change("- LAB_REPOSITORIES=ghcr.io/university/lab", "- LAB_REPOSITORIES=ghcr.io/university/lab,\n        ghcr.io/university/other")
    site.change("- LAB_TAG_SCHEME=semver", '- "LAB_TAG_SCHEME=semver" # ours')
    site.change("- GITHUB_ORGANIZATIONS=university", "- 'GITHUB_ORGANIZATIONS=university, other:team ,'")
    site.change("- ../components/hub\n", "- ./../components/hub/\n")
    site.change("- ../components/imagepurger", "- '../../manifests/components/imagepurger'")
    site.change("- wiring #", "- ./wiring #")
    (site.folder / "own.env").write_text("LAB_PINNED=v1.0\n")
    site.change("    literals:\n", "    envs: [own.env]\n    literals:\n")
    page = "---\n" + site.page.read_text() + "labels:\n  - pairs: {team: science}\n"
    names = re.findall(r"^  - (\S+)", page.partition("components:")[2].partition("configMapGenerator")[0], re.MULTILINE)
    page = re.sub(r"^components:\n.*?^(?=configMap)", f"components: [{', '.join(names)}]\n", page, flags=re.MULTILINE | re.DOTALL)
    site.page.write_bytes(page.replace("\n", "\r\n").encode())
    code, said = site.check()
    assert (code, said.splitlines()) == (0, [said.strip()]) and said.startswith(RIGHT), said


@pytest.mark.parametrize("password", ["xxxL9dk2", "a=b\"c'd#e\\f$g<h>", "`Exchange-Merlin", "$(x"])
def test_unusual_passwords_are_accepted(site: Site, password: str) -> None:
    site.secret("log-shipper/amqp.env", f"# of the broker\n\npassword={password}\n")
    code, said = site.check()
    assert code == 0 and said.startswith(RIGHT), said


# What the daemons accept, however unusual.
ACCEPTED = {
    "SCAN_INTERVAL": "1h 30m", "PURGE_GRACE": "2days", "LAB_CULL_AGE": "0", "LAB_CULL_IDLE": "1.5h", "DISK_HIGH": "80 %", "DISK_LOW": "60",
    "PURGE_DRY_RUN": "Yes", "JSON_LINES": "1", "BATCH": "off", "LINES_PER_SECOND": "off", "MULTILINE": "java, python", "MAX_LINE": "1.5 MB", "NFS_ROUNDS": "010", "AMQP_HEARTBEAT": "0m 60s", "NFS_INTERVAL": "1h 90m",
    "LAB_INFRASTRUCTURE_IMAGES": "redis:7, quay.io:443/a/b@sha256:" + "0" * 64, "LAB_TOLERATIONS": "gpu,nvidia.com/gpu=a:NoSchedule",
    "NODE_NETWORK": "fd00::/8", "VOLUME_SIZE": "2Ti", "VOLUME_MOUNT_OPTIONS": "hard, nfsvers=4.2", "CLUSTER_DOMAIN": "k8s.example.org.",
    "NFS_SERVERS": "nas, other:/data,10.0.0.9:2049/home", "FILESERVER_MODE": "keep", "FIREFLY_CONTEXT": "/suite/firefly/", "HUB_SERVICE": "hub.example.org:443",
    "LAB_SELECTOR_TITLE": "Bitte wählen", "LAB_INSECURE_REGISTRIES": "http://registry:5000/, [::1]:5000", "GITHUB_ADMIN_TEAMS": "university:admins", "LAB_SIZES": '{"small": {"cpu": [1, 1], "memory": ["1G", "2G"]}}',
}  # fmt: skip


def test_unusual_values_are_accepted(site: Site) -> None:
    site.set(*(f"'{name}={value}'" for name, value in ACCEPTED.items()))
    site.change("amqps://", "amqps://other.university.edu, ")
    # Documents in a text have keys of their own.
    documents = "".join(f"    apiVersion: apps/v1\n    kind: Deployment\n    metadata: {{name: hub, namespace: jupyter, labels: {{{each}: x}}}}\n    ---\n" for each in "ab")
    site.page.write_text(site.page.read_text() + "patchesStrategicMerge:\n  - |-\n" + documents)
    code, said = site.check()
    assert code == 0 and RIGHT in said and "wrong" not in said, said


def test_credentials_may_be_beside_a_store(site: Site) -> None:
    site.on("secrets/registry")
    site.set("REGISTRY_AUTH_FILE=/etc/labhands/registry/.dockerconfigjson")
    site.secret("registry/config.json", '{"auths": {"ghcr.io": {"auth": "dTpw"}, "quay.io": {}}, "credHelpers": {"gcr.io": "gcloud"}}')
    code, said = site.check()
    assert code == 0 and "warning  secrets/registry/config.json: quay.io has no credentials" in said and "it has credHelpers" in said, said


WRONG = {
    "SCAN_INTERVAL": "soon", "PURGE_INTERVAL": "0", "LAB_START_TIMEOUT": "5min", "DISK_HIGH": "100%", "PURGE_DRY_RUN": "maybe", "BATCH": "-1",
    "MULTILINE": "ruby", "MAX_LINE": "1MB/s", "LAB_INFRASTRUCTURE_IMAGES": "https://quay.io/a/b:1", "LAB_TOLERATIONS": "gpu:PreferNoSchedule",
    "LAB_PINNED": "ghcr.io/a/b:1", "LAB_INSECURE_REGISTRIES": "https://registry:5000", "NODE_NETWORK": "10.0.0.0/33", "VOLUME_SIZE": "5 GB",
    "NFS_VERSION": "4", "FILESERVER_MODE": "1999", "FILESERVER_SQUASH": "no", "FILESERVER_LOG": "info", "OUTPUT": "kafka", "READ_FROM": "tail",
    "PREPULLER_PARALLEL_NODES": "0", "MAX_RAM_PERCENT": "150", "HUB_SERVICE": "http://hub", "HOME_MOUNT": "home", "LAB_MEM_LIMIT": "2GiB",
    "LAB_SIZES": "{small: 1}", "GITHUB_HOST": "https://github.example.org", "GITHUB_ADMIN_TEAMS": "university/admins", "LAB_CATALOGUE": "prepuller.labhands",
    "LOG_NAMESPACES": "Jupyter", "PURGE_SCOPE": "everything", "GATE_TAINT": "a=b:NoSchedule", "AMQP_CERT_FILE": "/tls/tls.crt",
    "NFS_TIMEOUT": "2h", "READER_THREADS": "17", "AMQP_WINDOW_BYTES": "1 kB", "PARTIAL_BYTES_MAX": "1.5 GiB", "KEEPALIVE_INTERVAL": "4m 31s", "NFS_ROUNDS": "00",
    "PURGE_GRACE": "999999999999 weeks", "LINES_PER_SECOND": "99999999999", "UNPACK_TIMEOUT": "90000", "NFS_INTERVAL": "999ms",
}  # fmt: skip


def test_wrong_values_are_named(site: Site) -> None:
    site.set(*(f"'{name}={value}'" for name, value in WRONG.items()))
    code, said = site.check()
    assert code == 1
    named = set(re.findall(r"^wrong    ([A-Z_0-9]+):", said, re.MULTILINE))
    assert set(WRONG) - named - {"AMQP_CERT_FILE"} == set() and "AMQP_KEY_FILE" in named, said
    assert named - set(WRONG) - {"AMQP_KEY_FILE"} == set(), said


def test_what_copied_text_brings_along_is_named(site: Site) -> None:
    site.set('"LAB_PINNED=v1\\u200b"', '"LAB_NODE_SELECTOR=a=b\\u00a0"', "'SHIPPER_NAME=\"one\"'", '"AMQP_EXCHANGE=logs "', '"HOME_FOLDER=a\\tb"')
    site.set("5", "LAB_SELECTOR_TITLE=Choose: a lab")
    site.change(HOST, HOST.replace("- ", "- |\n        "))
    _, said = site.check()
    for words in [
        "LAB_PINNED: its value contains an invisible character", "LAB_NODE_SELECTOR: its value contains an invisible character",
        "SHIPPER_NAME: the quotes would be part of its value", "AMQP_EXCHANGE: its value begins or ends with a blank",
        "HOME_FOLDER: its value contains a line break or a tab", "SITE_HOST: its value contains a line break or a tab",
        "literals: YAML reads one entry as 5 and not as text", "literals: YAML reads one entry as map[LAB_SELECTOR_TITLE=Choose:a lab]",
    ]:  # fmt: skip
        assert f"wrong    {words}" in said, said


# Settings of free form: their values are names, patterns, or lists of them, which only the part itself can judge.
FREE = {
    "AMQP_DEAD_LETTER_EXCHANGE", "AMQP_EXCHANGE", "AMQP_ROUTING_KEY", "CERTIFICATE_ISSUER",
    "GATE_IMAGES", "HOME_FOLDER", "KEEPALIVE_PLAIN_FILE", "KUBELET_CONFIG_DIR", "LAB_IMAGE", "LAB_SELECTOR_TITLE", "LAB_TAGS", "LAB_TAGS_EXCLUDED",
    "LAB_TOKEN_SERVERS", "LOG", "LOGIN_GROUPS_CLAIM", "LOGIN_NAME_CLAIM", "LOG_LABELS", "LOG_LABELS_EXCLUDED", "PATH_PREFIX",
    "PURGE_ALLOW", "PURGE_DENY", "SHIPPER_NAME",
}  # fmt: skip


def test_each_setting_has_a_format_or_is_free() -> None:
    checked = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", (MANIFESTS / "site/check.d/settings.sh").read_text()))
    assert {name for name, _ in settings()} - checked == FREE


def add(text: str) -> Callable[[Site], None]:
    return lambda site: site.page.write_text(site.page.read_text() + text)


PAGES: dict[str, tuple[Callable[[Site], object], list[str]]] = {
    "names that change": (add("namespace: a\nnamePrefix: a-\nnameSuffix: -a\ncommonLabels: {a: b}\nlabels: [{pairs: {a: b}, includeSelectors: true}]\n"),
        ["namespace: remove it", "namePrefix: remove it", "nameSuffix: remove it", "commonLabels: it would change selectors", "labels with includeSelectors: it would"]),
    "keys that appear twice": (add("components: [../components/hub]\nimages: []\n"),
        ["components is there already, in line 11", "images is there already"]),
    "a second document": (add("---\nkind: Other\napiVersion: v1\n"), ["a second document begins, which kustomize ignores"]),
    "a list in a list twice": (lambda site: site.change("    literals:\n", "    literals: [LAB_PINNED=a]\n    literals:\n"), ["literals is there already"]),
    "a field that nobody knows": (add("patchs: []\n"), ["patchs: kustomize has no such field; did you mean patches?"]),
    "settings that go nowhere": (lambda site: (site.change("replacements:", "# replacements:"), site.change("  - path: wiring", "#"), site.change("behavior: merge", "behavior: create"), site.change("resources: [defaults]", "resources: []")),
        ["replacements: it lacks", "configMapGenerator: the entry with the settings needs", "resources: it lacks defaults"]),
    "no part at all": (lambda site: site.page.write_text(re.sub(r"^  - (?=\.\./components|secrets)", "  # - ", site.page.read_text(), flags=re.MULTILINE)), ["components: no component is on"]),
    "an overlay as a component": (lambda site: site.change("../components/hub\n", "../overlays/hub\n"), ["../overlays/hub: it is not a component"]),
    "a page without kind": (lambda site: (site.change("kind: Kustomization\n", ""), site.change("amqps://", "amqps://u:very-secret@")), ["it can't be read: unable to decode", "the line kind: Kustomization is missing"]),
    "an empty page": (lambda site: site.page.write_text(""), ["components: no component is on"]),
    "two ways in": (lambda site: site.on("../components/ingress\n", "secrets/ingress"), ["nginx: a controller's route is on, too"]),
    "homes that nobody creates": (lambda site: site.off("../components/nfs-volumes"), ["hub: nfs-volumes is off: create the claim jupyter/homes", "fs-keepalive: nfs-volumes is off"]),
    "administrators without number": (lambda site: site.set("GITHUB_ADMIN_TEAMS=university"), ["GITHUB_ADMIN_TEAMS: everybody in university may log in"]),
    "the whole world": (lambda site: (site.on("../components/fileserver-node-network"), site.set("NODE_NETWORK=0.0.0.0/0")), ["NODE_NETWORK: 0.0.0.0/0 is every address"]),
    "files that are not mounted": (lambda site: (site.on("secrets/registry"), site.set("REGISTRY_AUTH_FILE=/etc/config.json"), site.change("amqp/password", "amqp/passwd")),
        ["REGISTRY_AUTH_FILE: secrets/registry is on, but nothing reads it", 'AMQP_PASSWORD_FILE: "/etc/labhands/amqp/passwd" is not the file']),
    "images of all kinds": (lambda site: [site.change(f"name: labhands/{old}, newName: registry.university.edu/labhands/{old} ", new) for old, new in {
            "prepuller": "name: labhands/prepuler, newName: registry.university.edu/labhands/prepuller ",
            "imagepurger": "name: labhands/imagepurger, newName: registry.university.edu/labhands/log-shipper ",
            "log-shipper": "name: labhands/log-shipper, newTag: on ",
            "nfs-health": "name: labhands/nfs-health, newName: registry.university.edu/a/nfs-health, newTag: 'sha256:1' ",
            "fileserver": "name: labhands/fileserver, newName: registry.university.edu/a/fileserver, newTag: 0o17 ",
        }.items()],
        ["labhands/prepuler: there is no such image; did you mean labhands/prepuller?", 'newName "registry.university.edu/labhands/log-shipper" is another daemon\'s',
         "labhands/log-shipper: newName does not name your registry", "labhands/log-shipper: YAML reads this newTag as bool", 'labhands/nfs-health: newTag "sha256:1" is not a tag',
         "labhands/fileserver: YAML reads this newTag as a number"]),
    "patches of nothing": (lambda site: site.change("patches: []", "".join(["patches:", *(f"\n  - {{ target: {{ kind: DaemonSet, name: {name} }}, patch: '[{{\"op\": \"add\", \"path\": \"/spec/minReadySeconds\", \"value\": 1}}]' }}" for name in ("prepuler-node", "image.*"))])),
        ["the page has no DaemonSet prepuler-node, so this patch has no effect"]),
    "a secret in a wrong form": (lambda site: site.secret("log-shipper/amqp.env", "password=<password>\nusername=a # mine\nusername=b\nexport password=1\n"),
        ["password: it still has a placeholder", "username: remove the comment", "username is there twice", "line 4 does not begin with"]),
    "secrets from an editor": (lambda site: (site.secret("log-shipper/amqp.env", "\ufeffpassword=one\n"), site.secret("hub/login.env", "GITHUB_CLIENT_ID=x\u200b\nGITHUB_CLIENT_SECRET=“y”\n"), site.secret("nginx/root_chain.pem", KEY)),
        ["amqp.env: it begins with a byte order mark", "GITHUB_CLIENT_ID: it contains an invisible character", "GITHUB_CLIENT_SECRET: remove blanks and quotes", "root_chain.pem: the file contains no certificate", "root_chain.pem: it contains a private key"]),
    "another provider without its client": (lambda site: site.set("LOGIN_PROVIDER=OIDC", "LOGIN_UID_CLAIM=uid"), ["LOGIN_GROUPS: it is missing: no user could log in", "login.env: OAUTH_CLIENT_ID= is missing"]),
    "keys of the Hub": (lambda site: site.secret("hub/hub.env", "proxy-token={0}\ncrypt-key={1};{2}\ncookie-secret={0}\ndatabase-url=x\n".format(*RANDOM)),
        ["proxy-token and cookie-secret are the same", "database-url has no effect"]),
    "two cookie secrets": (lambda site: (site.on("../components/hub-database-url"), site.secret("hub/hub.env", SECRETS["hub/hub.env"].strip() + ";" + RANDOM[0] + "\ndatabase-url=database/hub\n")),
        ["cookie-secret is not 32 random bytes", "database-url is not an address"]),
    "credentials that are elsewhere": (lambda site: (site.on("secrets/registry"), site.secret("registry/config.json", '{"auths": {"ghcr.io": {}}, "credHelpers": {}, "credsStore": "x"}')),
        ["config.json: ghcr.io has no credentials", "config.json: it has credsStore", 'config.json: it has no "auths" with credentials']),
    "credentials that are cut": (lambda site: (site.on("secrets/registry"), site.secret("registry/config.json", '{"auths": {"ghcr.io": ')), ["config.json: it is not a dockerconfigjson"]),
    "a secret for everybody": (lambda site: (site.folder / "secrets/hub/hub.env").chmod(0o644), ["secrets/hub/hub.env: its mode lets every user of this machine read it"]),
    "a secret that is no file": (lambda site: ((site.folder / "secrets/hub/hub.env").unlink(), (site.folder / "secrets/hub/hub.env").mkdir()), ["secrets/hub/hub.env: it can't be read, or it is not a file"]),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_judged(site: Site, name: str) -> None:
    make, wanted = PAGES[name]
    make(site)
    _, said = site.check()
    for words in wanted:
        assert words in said, said
    assert "very-secret" not in said and "bad array" not in said


def test_a_page_without_the_components_says_what_to_copy(site: Site) -> None:
    alone = site.folder.parent.parent / "site"
    site.folder.rename(alone)
    site.folder = alone
    code, said = site.check()
    assert code == 1 and "components: there is no folder ../components: copy the whole folder manifests" in said
