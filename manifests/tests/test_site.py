"""The site's page and its check, on a copy: a valid page builds, and each mistake is named."""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MANIFESTS, Objects, kustomize

RANDOM = ["0123456789abcdef" * 4, "123456789abcdef0" * 4, "23456789abcdef01" * 4]


def certificate(host: str, days: int = 90) -> tuple[str, str]:
    """A certificate that signs itself, and its key. With negative days it has expired."""

    def openssl(*arguments: str, given: str = "") -> str:
        return subprocess.run(["openssl", *arguments], input=given, capture_output=True, text=True, check=True).stdout

    key = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(key)
        file.flush()
        request = openssl("req", "-new", "-key", file.name, "-subj", "/CN=hub", "-addext", f"subjectAltName=DNS:{host}")
        sign = ["x509", "-req", "-signkey", file.name, "-copy_extensions", "copyall", "-days", str(days)]
        return openssl(*sign, given=request), key


CERTIFICATE, KEY = certificate("hub.university.edu")
SECRETS = {
    # An additional line end, or one of Windows, does no harm.
    "hub/hub.env": "proxy-token={}\r\ncrypt-key={}\ncookie-secret={}\n\n".format(*RANDOM),
    "hub/login.env": "GITHUB_CLIENT_ID=Iv1.0123\nGITHUB_CLIENT_SECRET=0123456789",
    "log-shipper/amqp.env": "password=one\n\n",
    "registry/config.json": '{"auths": {"ghcr.io": {"auth": "eA=="}}}',
    "nginx/tls.crt": CERTIFICATE,
    "nginx/tls.key": KEY,
    "nginx/root_chain.pem": "",
    "ingress/tls.crt": CERTIFICATE,
    "ingress/tls.key": KEY,
    "firefly/firefly.env": f"admin-password={RANDOM[0]}\n",
}
OWN = [
    ("SITE_HOST=labs.example.org", "SITE_HOST=hub.university.edu"),
    ("ghcr.io/example/lab", "ghcr.io/university/lab"),
    ("GITHUB_ORGANIZATIONS=example", "GITHUB_ORGANIZATIONS=university"),
    ("rabbitmq.example.org", "rabbitmq.university.edu"),
    ("registry.example.org", "registry.university.edu"),
]


class Site:
    """A copy of the manifests whose page is filled in."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(MANIFESTS, folder / "manifests", ignore=shutil.ignore_patterns("tests", "*.env.local"))
        self.folder = folder / "manifests/site"
        self.page = self.folder / "kustomization.yaml"
        for old, new in OWN:
            self.change(old, new)
        for name, text in SECRETS.items():
            self.secret(name, text)

    def change(self, old: str, new: str) -> None:
        text = self.page.read_text()
        assert old in text, old
        self.page.write_text(text.replace(old, new))

    def on(self, *names: str) -> None:
        for name in names:
            self.change(f"# - {name}", f"- {name}")

    def off(self, *names: str) -> None:
        for name in names:
            self.page.write_text(re.sub(rf"^  - {name}( #.*)?$", f"  # - {name}", self.page.read_text(), flags=re.MULTILINE))

    def set(self, *lines: str) -> None:
        self.change("    literals:\n", "    literals:\n" + "".join(f"      - {line}\n" for line in lines))

    def secret(self, name: str, text: str) -> None:
        path = self.folder / "secrets" / name
        path.write_bytes(text.encode())
        path.chmod(0o600)

    def check(self, argument: str = "--offline") -> tuple[int, str]:
        environment = os.environ | {"KUBECONFIG": "/dev/null"}
        run = subprocess.run([self.folder / "check", argument], capture_output=True, text=True, env=environment, check=False)
        assert "command not found" not in run.stderr and "unbound" not in run.stderr, run.stderr
        return run.returncode, run.stdout + run.stderr

    def build(self) -> Objects:
        return kustomize(self.folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def data(objects: Objects, namespace: str, name: str, kind: str = "ConfigMap") -> dict[str, str]:
    [found] = [
        each
        for each in objects
        if each["kind"] == kind
        and each["metadata"].get("namespace") == namespace
        and re.fullmatch(rf"{name}(-[0-9a-z]{{10}})?", each["metadata"]["name"])
    ]
    return found["data"]


def test_a_page_that_is_filled_in_is_valid_and_builds(site: Site) -> None:
    assert site.check() == (
        0,
        "The page is right. Next: kubectl apply -k manifests/site, and then manifests/site/check --after\n",
    )
    objects = site.build()
    assert data(objects, "labhands", "prepuller")["LAB_REPOSITORIES"] == "ghcr.io/university/lab"
    assert data(objects, "jupyter", "hub")["OAUTH_CALLBACK_URL"] == "https://hub.university.edu/hub/oauth_callback"


def test_each_daemon_gets_only_its_own_settings_as_text(site: Site) -> None:
    before = site.build()
    site.set("DISK_HIGH=70", "PURGE_DRY_RUN=true")
    after = site.build()
    assert data(after, "labhands-node", "imagepurger")["DISK_HIGH"] == "70"
    assert "DISK_HIGH" not in data(after, "labhands-node", "log-shipper")
    assert not {name for name in data(after, "labhands", "fs-keepalive") if not name.startswith(("KEEPALIVE", "LOG"))}

    def pods(objects: Objects) -> dict[str, str]:
        kinds = ("Deployment", "DaemonSet", "StatefulSet")
        return {each["metadata"]["name"]: str(each["spec"]["template"]) for each in objects if each["kind"] in kinds}

    old, new = pods(before), pods(after)
    assert {name for name in new if new[name] != old[name]} == {"imagepurger", "prepuller-node"}


def test_line_ends_are_not_part_of_a_secret(site: Site) -> None:
    secret = data(site.build(), "jupyter", "hub", "Secret")
    assert base64.b64decode(secret["proxy-token"]).decode() == RANDOM[0]


def test_no_secret_is_shown(site: Site) -> None:
    site.secret("hub/hub.env", "proxy-token=very-secret-1\ncrypt-key = very-secret-2\n")
    site.secret("log-shipper/amqp.env", "very-secret-3")
    code, said = site.check()
    assert code == 1 and "very-secret" not in said


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (["../components/nginx", "secrets/nginx"], ["../components/ingress", "secrets/ingress"]),
        (["../components/nginx", "secrets/nginx"], ["../components/gateway", "../components/httproute", "../components/certificate"]),
        (["secrets/nginx"], ["../components/nginx-certificate"]),
        (["../components/log-shipper", "secrets/log-shipper"], []),
        (["../components/hub", "secrets/hub", "../components/nginx", "secrets/nginx"], ["../components/dashboards"]),
        ([], ["../components/monitoring", "../components/dashboards", "../components/logs-receiver"]),
    ],
    ids=lambda names: " ".join(name.split("/")[-1] for name in names),
)
def test_parts_come_and_go(site: Site, off: list[str], on: list[str]) -> None:
    site.off(*off)
    for name in on:
        site.page.write_text(re.sub(rf"^  # - {name}( #.*)?$", f"  - {name}", site.page.read_text(), flags=re.MULTILINE))
    if "../components/gateway" in on:
        site.set("GATEWAY_CLASS=traefik")
    code, said = site.check()
    assert code == 0, said
    assert site.build()


def firefly(site: Site) -> None:
    site.on("../components/firefly\n", "secrets/firefly")


def pair(site: Site, folder: str, host: str, days: int) -> None:
    for name, text in zip(("tls.crt", "tls.key"), certificate(host, days), strict=True):
        site.secret(f"{folder}/{name}", text)


def image(field: str, value: str) -> Callable[[Site], None]:
    line = "{ name: labhands/prepuller, newName: registry.university.edu/labhands/prepuller"
    return lambda site: site.change(f"{line} }}", f"{line.replace('registry.university.edu/labhands/prepuller', value)} }}" if field == "newName" else f"{line}, {field}: {value} }}")


MISTAKES: dict[str, tuple[Callable[[Site], None], str]] = {
    "an empty field": (lambda site: site.change("LAB_REPOSITORIES=ghcr.io/university/lab", "LAB_REPOSITORIES="), "LAB_REPOSITORIES: it is missing"),
    "a field taken away": (lambda site: site.change("      - SITE_HOST=hub.university.edu\n", ""), "SITE_HOST: it is missing"),
    "the example's host": (lambda site: site.change("hub.university.edu", "labs.example.org"), "SITE_HOST: it still has the example's value"),
    "a misspelled name": (lambda site: site.set("LAB_KEPT=weekly=1"), ": there is no such setting; did you mean LAB_KEEP?"),
    "a name in small letters": (lambda site: site.set("lab_keep=weekly=1"), "a name consists of capital letters"),
    "a name without a value": (lambda site: site.set("LAB_PINNED"), "has no value: write LAB_PINNED=VALUE"),
    "a name twice": (lambda site: site.set("LAB_KEEP=weekly=1"), "LAB_KEEP: it is set twice"),
    "a host with a scheme": (lambda site: site.change("SITE_HOST=hub", "SITE_HOST=https://hub"), 'SITE_HOST: "https://hub.university.edu" is not a host name'),
    "a repository with a tag": (lambda site: site.change("university/lab", "university/lab:latest"), "LAB_REPOSITORIES:"),
    "a wrong policy": (lambda site: site.change("release=3", "release"), 'LAB_KEEP: "release" is not CLASS=NUMBER'),
    "a class that is misspelled": (lambda site: site.change("release=3", "releases=3"), "LAB_KEEP: there is no class releases"),
    "a class of another scheme": (lambda site: site.change("release=3", "weekly=3"), "warning  LAB_KEEP: it keeps no class that LAB_TAG_SCHEME reads"),
    "no lab at all": (lambda site: site.change("release=3", "release=0"), "warning  LAB_KEEP: it keeps no class"),
    "an unknown scheme": (lambda site: site.change("SCHEME=semver", "SCHEME=sematic"), "LAB_TAG_SCHEME:"),
    "a disk that is never empty enough": (lambda site: site.set("DISK_LOW=80%"), "DISK_LOW: 80 % is not below DISK_HIGH, 75 %"),
    "a duration without a unit": (lambda site: site.set("PURGE_GRACE=24"), "warning  PURGE_GRACE: 24 means 24 seconds"),
    "a number with a unit": (lambda site: site.set("PREPULLER_PARALLEL_NODES=3x"), "PREPULLER_PARALLEL_NODES:"),
    "a broker without a scheme": (lambda site: site.change("amqps://", ""), "AMQP_URL:"),
    "a broker without TLS": (lambda site: site.change("amqps://", "amqp://"), "warning  AMQP_URL: without TLS"),
    "a password in an address": (lambda site: site.change("amqps://", "amqps://u:very-secret@"), "AMQP_URL: it contains a password"),
    "a password on the page": (lambda site: site.set("AMQP_PASSWORD=x"), "AMQP_PASSWORD: it is a secret: write password= into"),
    "a user without a password": (lambda site: site.change("      - AMQP_PASSWORD_FILE=/etc/labhands/amqp/password\n", ""), "AMQP_PASSWORD_FILE: it is missing"),
    "an old name": (lambda site: site.set("RABBITMQ_TARGET_HOST=x"), "RABBITMQ_TARGET_HOST: an old name: write AMQP_URL"),
    "a registry over plain HTTP": (lambda site: site.set("LAB_INSECURE_REGISTRIES=10.0.0.1:5000"), "warning  LAB_INSECURE_REGISTRIES:"),
    "a server that is off": (lambda site: site.off("../components/fileserver"), "NFS_SERVICE: fileserver is off"),
    "two exports": (lambda site: site.change("NFS_EXPORT=/home", "NFS_EXPORT=/homes"), "NFS_EXPORT: the file server exports"),
    "homes that nobody makes": (lambda site: site.change("jupyter/homes,", ""), "VOLUME_CLAIM: it lacks jupyter/homes"),
    "a claim without a namespace": (lambda site: site.change("CLAIM=jupyter/homes", "CLAIM=homes"), "VOLUME_CLAIM:"),
    "no user may log in": (lambda site: site.change("      - GITHUB_ORGANIZATIONS=university\n", ""), "GITHUB_ORGANIZATIONS: it is missing: no user could log in"),
    "everybody may log in": (lambda site: site.set("LOGIN_PROVIDER=dummy"), "LOGIN_PROVIDER: dummy admits everybody"),
    "another callback": (lambda site: site.set("OAUTH_CALLBACK_URL=https://other.edu/hub/oauth_callback"), "OAUTH_CALLBACK_URL: it is not https://hub.university.edu/hub/oauth_callback"),
    "labs elsewhere": (lambda site: site.set("LAB_NAMESPACE=labs"), "LAB_NAMESPACE: the Hub's labs run in the namespace jupyter, not in labs"),
    "a menu from nowhere": (lambda site: site.off("../components/prepuller"), "LAB_CATALOGUE: prepuller is off"),
    "a part that is misspelled": (lambda site: site.change("../components/imagepurger", "../components/imagepruger"), "did you mean ../components/imagepurger?"),
    "a part twice": (lambda site: site.change("  - ../components/hub\n", "  - ../components/hub\n  - ../components/hub\n"), "hub: its line appears twice"),
    "a part without what it changes": (lambda site: site.on("../components/firefly-shared"), "firefly-shared: it needs firefly, which is off"),
    "a part before what it changes": (lambda site: site.change("  - ../components/hub\n", "  - ../components/hub-database-url\n  - ../components/hub\n"), "hub-database-url: it changes hub, so its line must come after"),
    "parts that exclude each other": (lambda site: site.on("../components/monitoring #", "../components/monitoring-operator"), "monitoring: it can't be used together with monitoring-operator"),
    "settings that reach no daemon": (lambda site: site.change("  - wiring # always the last one\n", ""), "wiring: it must be the last line"),
    "a Gateway without a class": (lambda site: site.on("../components/gateway", "../components/httproute\n"), "GATEWAY_CLASS: it is missing"),
    "Firefly behind nothing": (firefly, "FIREFLY_SERVICE: firefly is on, but nginx does not route to it"),
    "Firefly's password in the logs": (lambda site: (firefly(site), site.set("EXCLUDE_LINES=GET /")), 'EXCLUDE_LINES: it lacks "Admin password"'),
    "no Firefly": (lambda site: site.set("FIREFLY_SERVICE=firefly/firefly"), "FIREFLY_SERVICE: firefly is off"),
    "an image that is nowhere": (lambda site: site.change("  - { name: labhands/fileserver, newName: registry.university.edu/labhands/fileserver }\n", ""), "images: labhands/fileserver has no line"),
    "an image with its tag in the name": (image("newName", "registry.university.edu/labhands/prepuller:1"), 'labhands/prepuller: newName "registry.university.edu/labhands/prepuller:1" is not'),
    "an image in capital letters": (image("newName", "registry.university.edu/Labhands/prepuller"), "labhands/prepuller: newName"),
    "an image with a scheme": (image("newName", "https://registry.university.edu/labhands/prepuller"), "labhands/prepuller: newName"),
    "a digest that is cut": (image("digest", "sha256:abc"), 'labhands/prepuller: digest "sha256:abc" is not'),
    "a tag that is a number": (image("newTag", "1.10"), "labhands/prepuller: YAML reads this newTag as a number"),
    "a tag that moves": (image("newTag", "latest"), "warning  images: labhands/prepuller: the tag latest"),
    "credentials that nobody reads": (lambda site: site.on("secrets/registry"), "REGISTRY_AUTH_FILE: secrets/registry is on, but nothing reads it"),
    "a secret's file is missing": (lambda site: (site.folder / "secrets/hub/hub.env").unlink(), "secrets/hub/hub.env: the file is missing"),
    "an empty secret": (lambda site: site.secret("log-shipper/amqp.env", "password=\n"), "secrets/log-shipper/amqp.env: password= is missing"),
    "a secret in quotes": (lambda site: site.secret("log-shipper/amqp.env", 'password="x"\n'), "remove blanks and quotes, because they would be part of the secret"),
    "a misspelled secret": (lambda site: site.secret("hub/login.env", "GITHUB_CLIENT_ID=x\nGITHUB_CLIENT_SECERT=y\n"), "did you mean GITHUB_CLIENT_SECRET?"),
    "a key that is no key": (lambda site: site.secret("hub/hub.env", SECRETS["hub/hub.env"].replace(RANDOM[1], "secret")), "crypt-key is not 32 random bytes"),
    "one key for two": (lambda site: site.secret("hub/hub.env", SECRETS["hub/hub.env"].replace(RANDOM[2], RANDOM[1])), "crypt-key and cookie-secret are the same"),
    "certificate and key exchanged": (lambda site: site.secret("nginx/tls.crt", KEY), "secrets/nginx/tls.crt: the file contains no certificate"),
    "a certificate that is damaged": (lambda site: site.secret("nginx/tls.crt", CERTIFICATE.replace("M", "")), "secrets/nginx/tls.crt: openssl can't read its first certificate"),
    "another certificate's key": (lambda site: site.secret("nginx/tls.key", certificate("hub.university.edu")[1]), "secrets/nginx/tls.key: it is not the key of the first certificate"),
    "another host's certificate": (lambda site: pair(site, "nginx", "other.university.edu", 90), "secrets/nginx/tls.crt: browsers do not accept it for SITE_HOST, hub.university.edu"),
    "an expired certificate": (lambda site: pair(site, "nginx", "hub.university.edu", -1), "secrets/nginx/tls.crt: it has expired"),
    "a certificate that expires soon": (lambda site: pair(site, "nginx", "hub.university.edu", 7), "warning  secrets/nginx/tls.crt: it expires within 14 days"),
    "a key with a passphrase": (lambda site: site.secret("nginx/tls.key", KEY.replace("PRIVATE", "ENCRYPTED PRIVATE")), "secrets/nginx/tls.key: it has a passphrase"),
    "a credential store": (lambda site: (site.on("secrets/registry"), site.secret("registry/config.json", '{"auths": {}, "credsStore": "x"}')), "it has credsStore"),
    "a page that is no YAML": (lambda site: site.change("resources: [defaults]", "resources: [defaults"), "kustomization.yaml: it can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(site: Site, name: str) -> None:
    make, wanted = MISTAKES[name]
    make(site)
    code, said = site.check()
    assert wanted in said
    assert code == (0 if wanted.startswith("warning") else 1)
    assert "very-secret" not in said


def test_the_new_name_is_given_for_every_old_one(site: Site) -> None:
    table = (MANIFESTS.parent / "docs/migration.md").read_text().partition("| old | new |")[2].partition("\n\n")[0]
    names = {name for row in table.splitlines()[2:] for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])}
    assert len(names) > 15
    site.set(*(f"{name}=x" for name in names))
    _, said = site.check()
    for name in names:
        assert re.search(rf"^wrong    {name}: (an old name|it is a secret|it no longer has an effect)", said, re.MULTILINE), (name, said)


def test_without_a_cluster_only_the_page_is_checked(site: Site) -> None:
    code, said = site.check("")
    assert code == 0 and "warning  cluster: kubectl can't reach a cluster" in said


def test_wrong_arguments_get_the_usage(site: Site) -> None:
    code, said = site.check("--befor")
    assert code == 64 and "manifests/site/check --after" in said


def test_secrets_are_ignored_by_git_in_a_copy_too(site: Site) -> None:
    subprocess.run(["git", "init", "--quiet", site.folder.parent], check=True)
    for manifests in (MANIFESTS, site.folder.parent):
        for name in SECRETS:
            path = manifests / "site/secrets" / name
            assert subprocess.run(["git", "check-ignore", "--quiet", path], cwd=manifests, check=False).returncode == 0, path
        kept = manifests / "site/secrets/hub/kustomization.yaml"
        assert subprocess.run(["git", "check-ignore", "--quiet", kept], cwd=manifests, check=False).returncode == 1
    subprocess.run(["git", "add", "."], cwd=site.folder.parent, check=True)
    assert site.check()[0] == 0
    (site.folder / "secrets/.gitignore").unlink()
    subprocess.run(["git", "add", "."], cwd=site.folder.parent, check=True)
    assert "wrong    secrets/hub/hub.env: git tracks this file" in site.check()[1]
