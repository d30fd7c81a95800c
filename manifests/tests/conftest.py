"""What the tests share: kubectl's own kustomize, and where things are."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).parent.parent

Objects = list[dict[str, Any]]


def kustomize(folder: Path) -> Objects:
    """The objects that ``kubectl apply -k`` would apply. Raises with what kubectl said."""
    run = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(run.stderr)
    return [each for each in yaml.safe_load_all(run.stdout) if each]


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Objects]:
    """Builds components over the base, as a site does."""

    def build(*components: str) -> Objects:
        up = "../" * (len(tmp_path.parts) - 1) + str(MANIFESTS).lstrip("/")
        lines = [f"resources: [{up}/base]", "components:", *(f"- {up}/components/{name}" for name in components)]
        (tmp_path / "kustomization.yaml").write_text("\n".join(lines))
        return kustomize(tmp_path)

    return build
