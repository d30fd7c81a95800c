"""Generates the Helm chart in ../chart from the components, the settings and the wiring of the site's page.

kustomize builds all components with marks for values, such as ``@@setting LAB_KEEP@@``. A mark becomes a template's expression. What a
component adds is in its own template. What it changes in another one's objects is there, line by line, below a condition.
"""

import difflib
import functools
import json
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from conftest import MANIFESTS, Objects
from test_build import COMPONENTS, NEEDS
from test_settings import SETTINGS, settings

CHART = MANIFESTS / "chart"
UPDATE = "UPDATE=1 manifests/check -k chart"
GENERATED = f"Generated from manifests/components by: {UPDATE}"

# The values' names of the namespaces.
NAMESPACES = {"labhands": "main", "labhands-node": "nodes", "labhands-fileserver": "fileserver", "jupyter": "hub", "firefly": "firefly"}
# Off by default: components that create disks, that need a broker, a certificate or a CRD first, or that another chart has.
ON = ["prepuller", "imagepurger", "keep-data"]
# In this order, because later ones change earlier ones.
PLAIN = [name for name in COMPONENTS if "patches:" not in (MANIFESTS / "components" / name / "kustomization.yaml").read_text()]
CHANGING = [name for name in COMPONENTS if name not in PLAIN]
FOLDERS = {"/run/containerd": "socket", "/var/lib/containerd": "images"}
# The chart links to the folder of these files, so their text exists once.
FILES = {"nginx": "components/nginx", "dashboards": "components/dashboards", "monitoring": "components/monitoring"} | {
    "logs-receiver": "components/logs-receiver",
    "hub": "hub",
}

NFS_SERVICE = "@@setting NFS_SERVICE@@"

Key = tuple[str, str, str]


def key(each: dict[str, Any]) -> Key:
    return each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]


@functools.cache
def build(components: tuple[str, ...], marks: bool = False) -> Objects:
    """The objects of components over the base, with ConfigMaps by their plain names; or with marks where settings are."""
    with tempfile.TemporaryDirectory() as folder:
        up = "../" * (len(Path(folder).parts) - 1) + str(MANIFESTS).lstrip("/")
        lines = [f"resources: [{up}/{'site/defaults' if marks else 'base'}]", "components:"]
        lines += [f"- {up}/components/{name}" for name in components]
        if marks:
            # The wiring puts the host's name into this one.
            values = {name: f"@@setting {name}@@" for name, _ in settings()}
            values["OAUTH_CALLBACK_URL"] = "https://SITE_HOST/hub/oauth_callback"
            # The wiring reads a namespace from this one; prepared() marks it.
            values["NFS_SERVICE"] = f"labhands-fileserver/{NFS_SERVICE}"
            literals = json.dumps([f"{name}={value}" for name, value in values.items()])
            lines += [f"- {up}/site/wiring", f"replacements: [{{path: {up}/site/wiring/replacements.yaml}}]", "configMapGenerator:"]
            lines += [f"- {{name: site, namespace: labhands, behavior: merge, literals: {literals}}}"]
        (Path(folder) / "kustomization.yaml").write_text("\n".join(lines))
        command = ["kubectl", "kustomize", "--load-restrictor=LoadRestrictionsNone", folder]
        built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return plain(built.replace(f"labhands-fileserver/{NFS_SERVICE}", f"'{NFS_SERVICE}'"))


@functools.cache
def config_maps() -> list[str]:
    """The names of ConfigMaps that kustomize ends with a hash."""
    files = [MANIFESTS / "base/kustomization.yaml", MANIFESTS / "hub/kustomization.yaml"]
    files += sorted(MANIFESTS.glob("components/*/kustomization.yaml"))
    return [each["name"] for file in files for each in yaml.safe_load(file.read_text()).get("configMapGenerator", [])]


def plain(text: str) -> Objects:
    """Reads objects, without the hashes in the names of ConfigMaps, the CRDs, and the page's own ConfigMap."""
    for name in set(config_maps()):
        # kustomize's hashes have only these characters.
        text = re.sub(rf"(?m)(name: {name})-[2456789bcdfghkmt]{{10}}$", r"\1", text)
    objects = [each for each in yaml.safe_load_all(text) if each]
    return [each for each in objects if each["kind"] != "CustomResourceDefinition" and key(each) != ("ConfigMap", "labhands", "site")]


def owners() -> dict[Key, str]:
    """The component of each object."""
    found = {key(each): "base" for each in build(())}
    for name in sorted(COMPONENTS, key=lambda name: name in NEEDS):
        found = {key(each): name for each in build((*NEEDS.get(name, []), name))} | found
    return found


def mark(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Puts marks where names of namespaces, images, Secrets and folders are."""
    match value:
        case dict():
            return {name: mark(inner, (*path, name)) for name, inner in value.items()}
        case list():
            return [mark(inner, (*path, index)) for index, inner in enumerate(value)]
        case str():
            end = [part for part in path if isinstance(part, str)][-2:]
            if value in NAMESPACES and (end[-1] in ("namespace", "kubernetes.io/metadata.name") or end == ["env", "value"]):
                return f"@@namespace {NAMESPACES[value]}@@"
            if end[-1] == "secretName" or end in (["secretKeyRef", "name"], ["secretRef", "name"]):
                return f"@@secret {value}@@"
            if end[-1] == "image" and "containers" in str(path).lower():
                return f"@@image {image(value)[0]}@@"
            if end[-1] in ("path", "mountPath") and value in FOLDERS:
                return f"@@folder {FOLDERS[value]}@@"
            names = "|".join(sorted(NAMESPACES, key=len, reverse=True))
            value = re.sub(rf"(system:serviceaccount:)({names}):", lambda found: f"{found[1]}@@namespace {NAMESPACES[found[2]]}@@:", value)
            if end[-1] == "expression":
                # There, 'labhands' alone is a label.
                names = names.replace("|labhands|", "|")
                value = re.sub(rf"(?<=')({names})(?=')", lambda found: f"@@namespace {NAMESPACES[found[1]]}@@", value)
            return value
    return value


def image(reference: str) -> tuple[str, str, str]:
    """The name in the values, the repository and the tag of an image; ours have neither repository nor tag there."""
    repository, _, tag = reference.partition(":")
    name = repository.rpartition("/")[2]
    return (name, "", "") if repository.startswith("labhands/") else (name, repository, tag)


def prepared(each: dict[str, Any]) -> dict[str, Any]:
    """An object with its marks, and with what Helm alone needs."""
    kind, namespace, name = key(each)
    each = mark(each)
    if kind == "Namespace":
        each["metadata"]["name"] = f"@@namespace {NAMESPACES[name]}@@"
    if kind == "PersistentVolumeClaim" or (kind == "Namespace" and name in ("jupyter", "labhands-fileserver")):
        each["metadata"].setdefault("annotations", {})["helm.sh/resource-policy"] = "keep"
    if name == "nfs-volumes" and namespace == "labhands-fileserver":
        each["metadata"]["namespace"] = "@@namespace-of NFS_SERVICE@@"
    each["metadata"].pop("finalizers", None)  # of keep-data: helm uninstall leaves claims by the annotation, however often
    if kind == "PersistentVolumeClaim":
        each["spec"]["resources"]["requests"]["storage"] = f"@@storage {name}@@"
        each["spec"]["storageClassName"] = f"@@class {name}@@"
    if kind == "ConfigMap" and name in config_maps():
        each["data"] = f"@@data {namespace}/{name}@@"
    if kind in ("Deployment", "DaemonSet", "StatefulSet"):
        template = each["spec"]["template"]
        read = sorted(set(re.findall(r"'configMap(?:Ref|KeyRef)?': \{[^}]*'name': '([a-z-]+)'", str(template))) & set(config_maps()))
        if read:
            template["metadata"].setdefault("annotations", {})["labhands.dev/checksum"] = f"@@checksum {namespace} {' '.join(read)}@@"
        if kind == "DaemonSet" and "tolerations" in template["spec"]:
            template["spec"]["tolerations"].append("@@tolerations@@")
    return each


def expression(found: re.Match[str]) -> str:
    """The expression for a mark inside of text."""
    what, _, name = found[1].partition(" ")
    match what:
        case "namespace":
            return f"{{{{ .Values.namespaces.{name} }}}}"
        case "secret":
            return f'{{{{ index .Values.secrets "{name}" }}}}'
        case "image":
            return f'{{{{ include "labhands.image" (list . "{name}") }}}}'
        case "folder":
            return f"{{{{ .Values.folders.{name} }}}}"
        case "namespace-of":
            return f'{{{{ include "labhands.setting" (list . "{name}") | splitList "/" | first }}}}'
        case "setting":
            return f'{{{{ include "labhands.setting" (list . "{name}") }}}}'
        case "file":
            return f'{{{{ .Files.Get "{name}" | toJson }}}}'
        case "storage":
            return f'{{{{ (index .Values.claims "{name}").storage }}}}'
        case "checksum":
            namespace, *names = name.split(" ")
            data = " ".join(f'(include "labhands.data.{namespace}/{each}" .)' for each in names)
            return f"{{{{ print {data} | sha256sum }}}}"
    raise ValueError(found[0])


def templated(line: str) -> str:
    """A line of YAML with expressions for its marks."""
    indent = len(line) - len(line.lstrip(" "))
    if found := re.fullmatch(r" *data: '@@data (.*)@@'", line):
        return f'data:\n  {{{{- include "labhands.data.{found[1]}" . | nindent 2 }}}}'
    if found := re.fullmatch(r" *storageClassName: '@@class (.*)@@'", line):
        key_and_value = " " * indent + "storageClassName: {{ . }}"
        return f'{{{{- with (index .Values.claims "{found[1]}").storageClassName }}}}\n{key_and_value}\n{{{{- end }}}}'
    if "'@@tolerations@@'" in line:
        return f"{{{{- with .Values.tolerations }}}}\n{{{{- toYaml . | nindent {indent} }}}}\n{{{{- end }}}}"
    line = re.sub(r"\{\{", '{{ "{{" }}', line)
    # A mark that is the whole value.
    line = re.sub(r"(?<=[:-] )'(@@(?:setting|secret|image|folder|storage) [^@]*@@)'$", lambda whole: quoted(whole[1]), line)
    line = re.sub(r"(?<=[:-] )'(@@[^@']*@@)'$", r"\1", line)
    return re.sub(r"@@([^@]*)@@", expression, line)


def quoted(text: str) -> str:
    return re.sub(r"@@([^@]*)@@", expression, text).replace(" }}", " | quote }}")


def lines(each: dict[str, Any] | None) -> list[str]:
    return [] if each is None else yaml.safe_dump(each, sort_keys=False, width=1 << 20, allow_unicode=True).splitlines()


def condition(name: str) -> str:
    return f'index .Values.components "{name}"'


def merged(each: dict[str, Any], changed: list[tuple[str, dict[str, Any] | None]]) -> list[str]:
    """An object's lines, and below conditions what other components make of them."""
    text = lines(each)
    out: dict[int, list[str]] = {}
    covered: set[int] = set()
    for name, other in changed:
        if other is None:
            return [f"{{{{- if not ({condition(name)}) }}}}", *merged(each, [more for more in changed if more[0] != name]), "{{- end }}"]
        theirs = lines(other)
        for kind, start, end, first, last in difflib.SequenceMatcher(None, text, theirs, autojunk=False).get_opcodes():
            if kind == "equal":
                continue
            apart = start not in out and covered.isdisjoint(range(start, end))
            assert apart, f"{name} changes what another component changes as well"
            covered |= set(range(start, end))
            hunk = [f"{{{{- if {condition(name)} }}}}", *map(templated, theirs[first:last])]
            hunk += ["{{- else }}", *map(templated, text[start:end])] if start < end else []
            out[start] = [*hunk, "{{- end }}"]
    merged_lines: list[str] = []
    for number, line in enumerate([*text, ""]):
        merged_lines += out.get(number, [])
        if number not in covered and number < len(text):
            merged_lines.append(templated(line))
    return merged_lines


def data_of(each: dict[str, Any]) -> Iterator[str]:
    """A ConfigMap's data as a separate template, whose text is in the pods' checksums."""
    _, namespace, name = key(each)
    yield f'{{{{- define "labhands.data.{namespace}/{name}" -}}}}'
    for entry, value in (each["data"] or {}).items() if "data" in each else ():
        if link := linked(value):
            yield f'{entry}: {{{{ .Files.Get "{link}" | toJson }}}}'
        else:
            yield from map(templated, lines({entry: value}))
    yield "{{- end }}"


@functools.cache
def links() -> dict[str, str]:
    """The text of each file of the chart that a ConfigMap may hold, with its path there."""
    found = {}
    for name, folder in FILES.items():
        for file in (MANIFESTS / folder).rglob("*"):
            if file.is_file() and "tests" not in file.parts and file.suffix != ".pyc":
                found[file.read_text()] = f"files/{name}/{file.relative_to(MANIFESTS / folder)}"
    return found


def linked(text: str) -> str | None:
    return links().get(text) if text else None


def templates() -> dict[str, str]:
    """The text of each generated template."""
    owner = owners()
    base = build(tuple(PLAIN), marks=True)
    variants = {name: {key(each): each for each in build((*PLAIN, name), marks=True)} for name in CHANGING}
    objects = {key(each): each for each in base}
    for variant in variants.values():
        objects |= {each: value for each, value in variant.items() if each not in objects}
    texts: dict[str, list[str]] = {}
    definitions: dict[str, list[str]] = {}
    for each in objects.values():
        name = owner[key(each)]
        changed = []
        for other in CHANGING if name not in CHANGING else []:
            its = variants[other].get(key(each))
            if its != each:
                changed.append((other, None if its is None else prepared(its)))
        text = texts.setdefault(name, [])
        if each["kind"] == "ConfigMap" and key(each)[2] in config_maps():
            definitions.setdefault(name, []).extend(data_of(each))
        elif each["kind"] == "ConfigMap":
            data = {entry: f"@@file {linked(value)}@@" if linked(value) else value for entry, value in each["data"].items()}
            each = each | {"data": data}
        body = merged(prepared(each), changed)
        if each["kind"] == "Namespace":
            value = f".Values.namespaces.{NAMESPACES[key(each)[2]]}"
            body = [f"{{{{- if and .Values.namespaces.create (ne {value} .Release.Namespace) }}}}", "---", *body, "{{- end }}"]
        else:
            body = ["---", *body]
        text += body
    files = {}
    for name, text in texts.items():
        inside = text if name == "base" else [f"{{{{- if {condition(name)} }}}}", *text, "{{- end }}"]
        files[f"{name}.yaml"] = "\n".join([f"# {GENERATED}", *definitions.get(name, []), *inside]) + "\n"
    return files


def about(name: str) -> str:
    """The first sentence of a component's description."""
    comment = re.match(r"(?:# .*\n)+", (MANIFESTS / "components" / name / "kustomization.yaml").read_text())
    assert comment, f"components/{name}/kustomization.yaml says what it is in a comment at its top"
    text = " ".join(line.removeprefix("# ") for line in comment[0].splitlines())
    return re.split(r"(?<=\.) ", text)[0]


def defaults() -> dict[str, str]:
    pairs = (line.partition("=") for line in SETTINGS.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: value for name, _, value in pairs if name != "OAUTH_CALLBACK_URL"}


def images() -> dict[str, tuple[str, str]]:
    marked = {}
    for each in build(tuple(PLAIN)):
        template = each.get("spec", {}).get("template", {}) if isinstance(each.get("spec"), dict) else {}
        for container in template.get("spec", {}).get("containers", []) if isinstance(template, dict) else []:
            name, repository, tag = image(container["image"])
            marked[name] = (repository, tag)
    return dict(sorted(marked.items()))


def secrets() -> list[str]:
    return sorted(set(re.findall(r"@@secret ([a-z-]+)@@", str(mark(build(tuple(COMPONENTS)))))))


def claims() -> dict[str, str]:
    every = [each for each in build(tuple(PLAIN)) if each["kind"] == "PersistentVolumeClaim"]
    return {each["metadata"]["name"]: each["spec"]["resources"]["requests"]["storage"] for each in every}


def values() -> str:
    """The text of values.yaml."""
    out = [f"# {GENERATED}", "# Helm rejects names that are not in this file: values.schema.json lists them all.", ""]
    out += ["# The registry that `images/bld --push` pushed to, such as registry.example.org/labhands.", 'imagePrefix: ""']
    out += ["# Repository, tag and digest of each image. The images of Labhands default to imagePrefix and the chart's version."]
    out += ["images:"]
    for name, (repository, tag) in images().items():
        out += [f'  {name}: {{ repository: {json.dumps(repository)}, tag: {json.dumps(tag)}, digest: "" }}']
    out += ["", "# The components that are on."]
    out += ["components:"]
    for name in COMPONENTS:
        out += textwrap.wrap(about(name), 130, initial_indent="  # ", subsequent_indent="  # ", break_on_hyphens=False)
        out += [f"  {name}: {'true' if name in ON else 'false'}"]
    out += [
        "",
        "# Every setting of the daemons by name; docs/configuration.md explains each. An empty value means the daemon's own default.",
    ]
    out += ["# If you change `namespaces` below, change the names of namespaces in these values too.", "settings:"]
    out += [f"  {name}: {json.dumps(value)}" for name, value in defaults().items()]
    out += ["", "# The names of Secrets that you create; docs/helm.md lists their keys.", "secrets:"]
    out += [f"  {name}: {name}" for name in secrets()]
    out += ["", "# The chart creates these namespaces, except the one that the release is in.", "namespaces:", "  create: true"]
    out += [f"  {value}: {name}" for name, value in NAMESPACES.items()]
    out += ["", "# Disks. An empty storage class means the cluster's default.", "claims:"]
    out += [f'  {name}: {{ storage: {size}, storageClassName: "" }}' for name, size in claims().items()]
    out += ["", "# The folders of the container runtime on the nodes."]
    out += ["# On k3s they are /run/k3s/containerd and /var/lib/rancher/k3s/agent/containerd.", "folders:"]
    out += [f"  {value}: {folder}" for folder, value in FOLDERS.items()]
    out += ["", "# Additional tolerations of the agents.", "tolerations: []"]
    return "\n".join(out) + "\n"


def schema() -> str:
    """The text of values.schema.json: a misspelled name or a value of another kind is refused."""

    def closed(properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": False, "properties": properties}

    def text(pattern: str) -> dict[str, Any]:
        return {"type": "string", "pattern": pattern}

    words = {"type": "string"}
    name = text("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    repository = "[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    image = closed({"repository": text(f"^({repository})?$"), "tag": text("^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$"), "digest": text("^(sha256:[0-9a-f]{64})?$")})
    known = closed({
        "imagePrefix": text(f"^({repository}/?)?$"),
        "images": closed({each: image for each in images()}),
        "components": closed({each: {"type": "boolean"} for each in COMPONENTS}),
        "settings": closed({each: {"type": ["string", "integer", "boolean"]} for each in defaults()}),
        "secrets": closed({each: name for each in secrets()}),
        "namespaces": closed({"create": {"type": "boolean"}} | {each: name for each in NAMESPACES.values()}),
        "claims": closed({each: closed({"storage": text("^[0-9]+([.][0-9]+)?([kMGTPE]|[KMGTPE]i)?$"), "storageClassName": words}) for each in claims()}),
        "folders": closed({each: text("^/") for each in FOLDERS.values()}),
        "tolerations": {"type": "array", "items": closed(dict.fromkeys(("key", "operator", "value", "effect"), words) | {"tolerationSeconds": {"type": "integer"}})},
        "global": {"type": "object"},
    })  # fmt: skip
    printed = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "$comment": GENERATED} | known, indent=1)
    # The content of an innermost object is on one line.
    return re.sub(r"\{[^{}]*\}", lambda found: re.sub(r"\s+", " ", found[0]), printed) + "\n"


def files() -> dict[str, str]:
    """All generated files by their path in the chart."""
    return {"values.yaml": values(), "values.schema.json": schema()} | {f"templates/{name}": text for name, text in templates().items()}
