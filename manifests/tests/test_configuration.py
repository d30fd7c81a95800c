"""docs/configuration.md matches the daemons' --help: every command and setting, with default and meaning."""

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from conftest import MANIFESTS
from test_settings import SETTINGS

ROOT = MANIFESTS.parent
PAGE = ROOT / "docs/configuration.md"
UPDATE = "UPDATE=1 manifests/check -k configuration"
DAEMONS = ["prepuller", "imagepurger", "log-shipper", "fs-keepalive", "nfs-health"]

INTRODUCTION = """# Configuration

Generated from each daemon's `--help` by: {update}

Every setting is an environment variable and a flag of the same name: `LAB_KEEP` and `--lab-keep`. The flag wins. A secret `X` may also be set
as `X_FILE`; the daemon reads that file again when it changes. Options without a variable are only flags. A daemon reports all invalid settings
together and exits with code 64.

In a cluster, a site sets them on its page ([walkthrough.md](walkthrough.md)) or in Helm's `settings` ([helm.md](helm.md)). Settings that a pod's
manifest sets itself, such as `ADMIN_ADDR` and `NODE_NAME`, are on neither. For the settings of other parts, see
[manifests/hub/README.md](../manifests/hub/README.md#settings) (the Hub), [fileserver.md](fileserver.md#the-file-server) (the file server),
`manifests/components/nginx/nginx.env` and `manifests/components/firefly/firefly.env`.
"""


class Setting(NamedTuple):
    group: str
    name: str
    default: str
    meaning: str


def programs() -> Path:
    """The folder of the daemons' programs, built now if needed; ./test has built them before."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
    if os.environ.get("UPDATE") or not all((folder / name).is_file() for name in DAEMONS):
        packages = [word for name in DAEMONS for word in ("--package", name)]
        subprocess.run(["cargo", "build", "--quiet", "--locked", *packages], cwd=ROOT, check=True)
    return folder


def said(*command: str | Path) -> str:
    # Defaults that depend on the machine are those of a bare one.
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    return run.stdout


def commands(text: str) -> dict[str, str]:
    part = text.partition("\nCommands:\n")[2].partition("\n\n")[0]
    found = dict(re.findall(r"^  ([a-z-]+) +(.*)$", part, re.MULTILINE))
    found.pop("help", None)
    return found


def settings_of(text: str) -> list[Setting]:
    """The arguments and options in one command's ``--help``."""
    found: list[Setting] = []
    group, name = "", ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"(\S.*):", line):
            group, name = heading[1], ""
        elif option := re.fullmatch(r" {2,6}((?:-\w, )?--[a-z-]+(?: \S+)?|\[?<?[A-Z…]+>?\]?)(?: {2,}(.*))?", line):
            name = option[1]
            if option[2]:
                found.append(setting(group, name, option[2]))
                name = ""
        elif name and line.strip():
            found.append(setting(group, name, line.strip()))
            name = ""
        else:
            assert not re.match(r"\s+-", line), f"not understood: {line}"
    return [each for each in found if not re.search(r"--(help|version)$", each.name)]


def setting(group: str, flag: str, text: str) -> Setting:
    marks = dict(re.findall(r"\[(env|default|possible values|alias(?:es)?): ([^\]]*(?:\[[^\]]*\][^\]]*)*)\]", text))
    meaning = re.sub(r" *\[(?:env|default|possible values|alias(?:es)?): [^\]]*(?:\[[^\]]*\][^\]]*)*\]", "", text).strip()
    if values := marks.get("possible values"):
        meaning += f" ({values})"
    variable = marks.get("env", "").rstrip("=")
    return Setting(group, variable or flag, marks.get("default", ""), meaning)


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def section(daemon: str, program: Path) -> list[str]:
    overview = said(program, "--help")
    every = commands(overview)
    lines = ["", f"## {daemon}", "", f"{overview.splitlines()[0]}.", "", "| command | what |", "|---|---|"]
    lines += [f"| `{daemon} {name}` | {cell(what)} |" for name, what in every.items()]
    users: dict[Setting, list[str]] = {}
    for name in every:
        for each in settings_of(said(program, name, "--help")):
            users.setdefault(each, []).append(name)
    for group in dict.fromkeys(each.group for each in users):
        lines += ["", f"### {daemon}: {group if group[1:] != group[1:].lower() else group.lower()}", ""]
        lines += ["| setting | default | meaning | commands |", "|---|---|---|---|"]
        for each, names in users.items():
            if each.group == group:
                default = f"`{each.default}`" if each.default else ""
                of = "all" if len(names) == len(every) else ", ".join(names)
                lines.append(f"| `{each.name}` | {cell(default)} | {cell(each.meaning)} | {of} |")
    return lines


def page() -> str:
    folder = programs()
    lines = [line for name in DAEMONS for line in section(name, folder / name)]
    return INTRODUCTION.format(update=f"`{UPDATE}`") + "\n".join(lines) + "\n"


def test_the_configuration_reference_is_up_to_date() -> None:
    text = page()
    if os.environ.get("UPDATE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text, f"run: {UPDATE}"


def test_the_configuration_reference_has_every_setting_of_the_page() -> None:
    text = PAGE.read_text()
    group = ""
    for line in SETTINGS.read_text().splitlines():
        group = line if line.startswith("#> ") else group
        name = line.partition("=")[0]
        if "=" in line and not line.startswith("#") and re.search(r"/(prepuller|imagepurger|log-shipper|nfs-|fs-keepalive)", group):
            assert f"| `{name}` |" in text, name
