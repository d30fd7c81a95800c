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


# Prints the limits instead of checking values with them.
LIMITS = """
on() { false; }
for name in value warn problem must_be_set must_match; do eval "$name() { :; }"; done
must_last() { [ -z "${3-}" ] || echo "$1 $3 $4"; }
must_count() { echo "$1 $2 $3"; }
must_hold() { echo "$1 $2 $3"; }
declare -A setting=()
. ./settings.sh
"""


def limits() -> dict[str, tuple[str, str]]:
    """The least and the most value of each setting that has limits in the page's check."""
    run = subprocess.run(["bash", "-c", LIMITS], cwd=MANIFESTS / "site/check.d", capture_output=True, text=True, check=True)
    return {name: (least, most) for name, least, most in map(str.split, run.stdout.splitlines())}


def beside(value: str, step: int) -> str:
    """The value below or above, in the smallest unit."""
    number, unit = re.fullmatch(r"(\d+)(\w*)", value).groups()  # type: ignore[union-attr]
    units = {"": (1, ""), "ms": (1, "ms"), "s": (1000, "ms"), "h": (3_600_000, "ms"), "d": (86_400_000, "ms"), "KiB": (1024, ""), "MiB": (1 << 20, ""), "GiB": (1 << 30, "")}
    each, smallest = units[unit]
    return f"{int(number) * each + step}{smallest}"


def refusers(daemon: str, setting: str, value: str) -> set[str]:
    """The daemon's commands that refuse the value. The log's wrong format ends them before they do anything."""
    program = programs() / daemon
    given = {"PATH": os.environ["PATH"], "LOG_FORMAT": "none", "AMQP_URL": "amqp://h", setting: value}
    found = set()
    for command in commands(said(program, "--help")):
        if all(each.name != setting for each in settings_of(said(program, command, "--help"))):
            continue
        run = subprocess.run([program, command], capture_output=True, text=True, check=False, env=given)
        assert run.returncode == 64, run.stderr
        if f"{setting}: " in run.stderr:
            found.add(command)
    return found


def test_the_pages_check_has_the_limits_of_the_daemons() -> None:
    reference, daemon, seen = PAGE.read_text(), "", set()
    found = limits()
    for line in reference.splitlines():
        daemon = line[3:] if line.startswith("## ") else daemon
        name = line[3:].partition("`")[0] if line.startswith("| `") else ""
        if name in found and (daemon, name) not in seen:
            seen.add((daemon, name))
            least, most = found[name]
            for value in (least, most):
                assert not refusers(daemon, name, value), f"{daemon} {name}={value}"
            for value in (beside(least, -1), beside(most, 1)):
                assert refusers(daemon, name, value), f"{daemon} {name}={value}"
    assert {name for _, name in seen} == set(found) and len(found) > 25
