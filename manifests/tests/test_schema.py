"""Every object against the API's own schemas: Kubernetes', the Gateway API's and the Prometheus operator's, from their Go modules."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MANIFESTS, Objects, kustomize
from test_site import Site

Schema = dict[str, Any]
CRDS = [
    ("sigs.k8s.io/gateway-api@v1.6.3", "config/crd/standard/*_gateways.yaml"),
    ("sigs.k8s.io/gateway-api@v1.6.3", "config/crd/standard/*_httproutes.yaml"),
    ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/*podmonitors.yaml"),
    ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/*prometheusrules.yaml"),
]


def module(name: str) -> Path:
    run = subprocess.run(["go", "mod", "download", "-json", name], cwd="/", capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return Path(json.loads(run.stdout)["Dir"])


class Schemas:
    """Finds fields that are unknown, missing or of a wrong type."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], tuple[Schema, Schema]] = {}
        for path in (module("k8s.io/kubernetes@v1.34.4") / "api/openapi-spec/v3").glob("*_openapi.json"):
            named = json.loads(path.read_text())["components"].get("schemas", {})
            for schema in named.values():
                for kind in schema.get("x-kubernetes-group-version-kind", []):
                    version = f"{kind['group']}/{kind['version']}".lstrip("/")
                    self.kinds[version, kind["kind"]] = (schema, named)
        for name, files in CRDS:
            for path in module(name).glob(files):
                self.define(yaml.safe_load(path.read_text()))
        for path in MANIFESTS.glob("components/*/crd.yaml"):
            self.define(yaml.safe_load(path.read_text()))

    def define(self, crd: Schema) -> None:
        spec = crd["spec"]
        for version in spec["versions"]:
            self.kinds[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = (version["schema"]["openAPIV3Schema"], {})

    def problems(self, objects: Objects) -> list[str]:
        found: list[str] = []
        for each in objects:
            # cert-manager's modules hold no plain CRD.
            if each["kind"] in ("CustomResourceDefinition", "Certificate"):
                continue
            schema, named = self.kinds[each["apiVersion"], each["kind"]]
            standard = {"apiVersion": {}, "kind": {}, "metadata": {}}
            schema = {**schema, "properties": {**standard, **schema["properties"]}}
            found += self.look(each, schema, named, f"{each['kind']}/{each['metadata']['name']}")
        return found

    def look(self, value: Any, schema: Schema, named: Schema, path: str) -> Iterator[str]:
        while "$ref" in schema or ("allOf" in schema and "properties" not in schema):
            schema = named[schema["$ref"].split("/")[-1]] if "$ref" in schema else schema["allOf"][0]
        kind = schema.get("type", "object" if "properties" in schema else None)
        types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
        if kind not in types or schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
            return
        if not isinstance(value, types[kind]) or (kind == "integer" and isinstance(value, bool)):
            yield f"{path}: {value!r} is no {kind}"
        elif kind == "object":
            properties, more = schema.get("properties", {}), schema.get("additionalProperties")
            yield from (f"{path}.{name}: missing" for name in schema.get("required", []) if name not in value)
            for name, inner in value.items():
                if name in properties or isinstance(more, dict):
                    yield from self.look(inner, properties.get(name, more), named, f"{path}.{name}")
                elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
                    yield f"{path}.{name}: unknown"
        elif kind == "array":
            for number, inner in enumerate(value):
                yield from self.look(inner, schema.get("items", {}), named, f"{path}[{number}]")
        elif kind == "string" and (
            ("enum" in schema and value not in schema["enum"])
            or not re.search(schema.get("pattern", ""), value)
            or len(value) < schema.get("minLength", 0)
        ):
            yield f"{path}: {value!r} is not allowed"


@pytest.fixture(scope="module")
def schemas() -> Schemas:
    return Schemas()


@pytest.mark.parametrize("overlay", sorted(MANIFESTS.glob("overlays/*")), ids=lambda path: path.name)
def test_an_overlay_matches_the_schemas(schemas: Schemas, overlay: Path) -> None:
    assert schemas.problems(kustomize(overlay)) == []


def test_the_page_with_everything_on_matches_the_schemas(schemas: Schemas, tmp_path: Path) -> None:
    site = Site(tmp_path)
    # The component that removes objects of others.
    text = re.sub(r"^  # - ((\.\./components|secrets)/(?!hub-database-url).*)$", r"  - \1", site.page.read_text(), flags=re.MULTILINE)
    site.page.write_text(text)
    site.set("GATEWAY_CLASS=traefik")
    objects = site.build()
    assert {"Gateway", "HTTPRoute", "Ingress", "PodMonitor", "PrometheusRule"} <= {each["kind"] for each in objects}
    assert schemas.problems(objects) == []

    [gateway] = [each for each in objects if each["kind"] == "Gateway"]
    gateway["spec"]["gatewayClassName"] = ""
    gateway["spec"]["listener"] = []
    [nginx] = [each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "nginx"]
    nginx["spec"]["replicas"] = "2"
    assert sorted(schemas.problems(objects)) == [
        "Deployment/nginx.spec.replicas: '2' is no integer",
        "Gateway/labhands.spec.gatewayClassName: '' is not allowed",
        "Gateway/labhands.spec.listener: unknown",
    ]
