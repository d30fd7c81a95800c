"""The snippets for kustomize in the documents build unchanged."""

import re
from pathlib import Path

import pytest
import yaml
from conftest import MANIFESTS, kustomize
from test_build import COMPONENTS, NEEDS

DOCUMENTS = [MANIFESTS / "README.md", MANIFESTS.parent / "README.md", *sorted(MANIFESTS.glob("../docs/*.md"))]
FENCED = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A reader has the manifests beside the site's folder, or names them by an address.
WHERE = re.compile(r"(https://…|\.\.)/manifests")

BLOCKS = [(document.name, text) for document in DOCUMENTS for text in FENCED.findall(document.read_text())]
SNIPPETS = [
    pytest.param(text, id=f"{name}-{number}")
    for number, (name, text) in enumerate(BLOCKS)
    if re.search(r"^(resources|configMapGenerator):|^kind: Component$", text, re.MULTILINE)
]
PATCHES = [
    pytest.param(patch, id=f"{name}-{number}")
    for name, text in BLOCKS
    if text.startswith("patches:")
    for number, patch in enumerate(yaml.safe_load(text)["patches"])
]


def write(folder: Path, text: str) -> None:
    """Writes a kustomization with the files that it names."""
    folder.mkdir(exist_ok=True)
    up = "../" * (len(folder.parts) - 1) + str(MANIFESTS).lstrip("/")
    (folder / "kustomization.yaml").write_text(WHERE.sub(up, text))
    for names in re.findall(r"(?:envs|files): \[(.*?)\]", text):
        for name in names.split(", "):
            (folder / name).write_text("ADDED_HERE=1\n")


def test_there_are_some() -> None:
    assert len(SNIPPETS) >= 3 and len(PATCHES) >= 5


@pytest.mark.parametrize("patch", PATCHES)
def test_a_patch_changes_something(patch: dict[str, object], tmp_path: Path) -> None:
    names = ", ".join(f"../manifests/components/{name}" for name in COMPONENTS if name not in NEEDS)
    parts = f"resources: [../manifests/base]\ncomponents: [{names}]\n"
    write(tmp_path / "plain", parts)
    write(tmp_path / "site", parts + yaml.safe_dump({"patches": [patch]}))
    assert kustomize(tmp_path / "plain") != kustomize(tmp_path / "site")


@pytest.mark.parametrize("text", SNIPPETS)
def test_a_snippet_builds(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    if "kind: Component" in text:
        # The page and a site of a few lines both have a list of components.
        write(folder, "resources: [../manifests/base]\ncomponents: [../manifests/components/hub, own]\n")
        write(folder / "own", text)
    else:
        write(folder, text)
    built = str(kustomize(folder))
    assert "ghcr.io/you" in built or "ADDED_HERE" in built
