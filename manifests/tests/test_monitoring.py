"""Alert rules and dashboards: understood by Prometheus, made of metrics that the daemons have, each alert in the runbook."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MANIFESTS

REPOSITORY = MANIFESTS.parent
ALERTS = MANIFESTS / "components/monitoring/alerts.yaml"
DASHBOARDS = sorted((MANIFESTS / "components/dashboards").glob("*.json"))
RULE = MANIFESTS / "components/monitoring-operator/prometheusrule.yaml"
DAEMONS = {name.replace("-", "_"): name for name in ("prepuller", "imagepurger", "log-shipper", "nfs-health", "fs-keepalive")}
# What each daemon shares, and registers.
SHARED = {"build_info": "build", "events_lost_total": "events_lost"}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    panels = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    return [rule["expr"] for rule in alerts()] + panels


def registered(folder: str) -> set[str]:
    """Names that a crate's code holds as strings, without its tests."""
    texts = [path.read_text().split("#[cfg(test)]")[0] for path in (REPOSITORY / folder / "src").rglob("*.rs")]
    return {name for text in texts for name in re.findall(r'"([a-z][a-z0-9_]*)"', text)}


def exists(metric: str) -> bool:
    daemon = next(name for name in DAEMONS if metric.startswith(f"labhands_{name}_"))
    name = metric.removeprefix(f"labhands_{daemon}_")
    if name in SHARED:
        return SHARED[name] in registered("sidecar")
    return re.sub(r"_(total|bucket|sum|count)$", "", name) in registered(DAEMONS[daemon])


def test_every_metric_is_registered_by_its_daemon() -> None:
    names = {name for text in expressions() for name in re.findall(r"\blabhands_[a-z0-9_]+", text)}
    assert len(names) > 30
    assert [name for name in sorted(names) if not exists(name)] == []
    assert not exists("labhands_prepuller_no_such_thing_total")


def promtool(rules: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yaml").write_text(rules)
    command = [os.environ["PROMTOOL"], "check", "rules", "--lint=all", "--lint-fatal", folder / "rules.yaml"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    run = promtool(ALERTS.read_text(), tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    broken = promtool(ALERTS.read_text().replace("time() -", "time( -", 1), tmp_path)
    assert broken.returncode != 0


def test_prometheus_takes_every_expression_of_the_dashboards(tmp_path: Path) -> None:
    rules = [{"record": f"test:{number}", "expr": text} for number, text in enumerate(expressions())]
    run = promtool(yaml.safe_dump({"groups": [{"name": "test", "rules": rules}]}), tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_titles_and_a_data_source_to_choose(path: Path) -> None:
    board = json.loads(path.read_text())
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in board["panels"])


def test_every_alert_is_in_the_runbook_and_nothing_else() -> None:
    headings = re.findall(r"^### (Labhands\w+)$", (REPOSITORY / "docs/runbook.md").read_text(), re.MULTILINE)
    assert headings == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")


def test_every_alert_is_fired_by_a_suite_of_its_daemon() -> None:
    suites = [path.read_text() for path in REPOSITORY.glob("*/tests/alerts.rs")]
    fired = {name for text in suites for name in re.findall(r'"(Labhands\w+)"', text)}
    assert fired == {rule["alert"] for rule in alerts()}


def test_the_operator_gets_the_same_rules() -> None:
    head = "# Generated from components/monitoring/alerts.yaml by: UPDATE=1 manifests/check -k operator\n"
    head += "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: labhands\n  namespace: labhands\n  labels:\n"
    head += "    app.kubernetes.io/part-of: labhands\n    app.kubernetes.io/name: monitoring\nspec:\n"
    text = head + "".join(f"  {line}\n" for line in ALERTS.read_text().splitlines()[1:])
    if os.environ.get("UPDATE"):
        RULE.write_text(text)
    assert RULE.read_text() == text, "run: UPDATE=1 manifests/check -k operator"
