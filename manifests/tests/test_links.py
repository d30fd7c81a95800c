"""Links between the documents lead to files and headings that exist, and so do the paths of source files that they name."""

import re
from pathlib import Path

import pytest
from conftest import MANIFESTS

ROOT = MANIFESTS.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("manifests/**/*.md"), ROOT / "bench/README.md"]
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """GitHub's anchors for the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(document: Path) -> list[str]:
    text = FENCED.sub("", document.read_text())
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not link.startswith("https://") and not (target.exists() and (not anchor or anchor in anchors(target))):
            found.append(link)
    for path in re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:rs|py|yaml|sh|conf))`", text):
        # A path of the reader's own begins with a folder that is not here.
        found += [path for above in (ROOT, document.parent) if (above / path.split("/")[0]).is_dir() and not (above / path).exists()]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    assert broken(document) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# What's new, *here*\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#whats-new-here) [b](other.md#old) [c](none.md) `docs/such.rs` `own/such.rs` [d](https://example.org)")
    assert broken(page) == ["other.md#old", "none.md", "docs/such.rs"]
