//! A real Prometheus that scrapes daemons each second, and evaluates alert rules as often.

pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use url::form_urlencoded::byte_serialize;

use crate::folder::Folder;
use crate::go::Programs;
use crate::http::Client;
use crate::process::Process;
use crate::{Error, Result, wait};

/// The module's version of Prometheus 3.16, as promtool's in `manifests/check`.
const VERSION: &str = "v0.316.0";

const MODULE: &str = "github.com/prometheus/prometheus/cmd/prometheus";

/// The names of labels and their values.
pub type Labels = BTreeMap<String, String>;

/// Milliseconds since 1970.
type Time = i64;

/// One series of a query's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// With its name as `__name__`, if it has one.
    pub labels: Labels,
    /// The value now.
    pub value: f64,
}

/// An alert that fires, or has fired once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alert {
    /// The rule's name.
    pub name: String,
    /// The labels of its series, without those of the rule.
    pub labels: Labels,
}

/// A running Prometheus with an empty database.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    address: SocketAddr,
    client: Client,
    /// The targets by the value of their label `instance`.
    targets: BTreeMap<String, SocketAddr>,
    cluster: Option<PathBuf>,
    folder: Folder,
}

impl Prometheus {
    /// Starts one with these rules (a rule file's text, or nothing) and waits until it answers. It scrapes nothing yet.
    pub fn start(rules: &str) -> Result<Prometheus> {
        let folder = Folder::new("prometheus")?;
        if !rules.is_empty() {
            folder.write("rules.yaml", rules)?;
        }
        write_configuration(&folder, &BTreeMap::new(), None)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new(find_or_build()?);
        command.args([
            format!("--config.file={}", path("prometheus.yaml")),
            format!("--storage.tsdb.path={}", path("data")),
            "--web.listen-address=127.0.0.1:0".to_owned(),
            "--web.enable-lifecycle".to_owned(),
        ]);
        let log = folder.join("log");
        let mut process = Process::start("prometheus", &command, &log)?;
        let client = Client::new(None, None)?;
        let address = process.ready("listen", || listens_on(&log))?;
        let ready = format!("http://{address}/-/ready");
        process.ready("be ready", || client.send("GET", &ready, &[], b"").ok()?.expect(200, &ready).ok())?;
        Ok(Self { process, address, client, targets: BTreeMap::new(), cluster: None, folder })
    }

    /// Scrapes these daemons from now on, each with its `instance`. Returns after the first scrape of all.
    pub fn scrape(&mut self, daemons: &[(&str, SocketAddr)]) -> Result<()> {
        self.targets.extend(daemons.iter().map(|(instance, address)| ((*instance).to_owned(), *address)));
        self.reload()?;
        daemons.iter().try_for_each(|(instance, _)| self.until_data(&format!("up{{instance=\"{instance}\"}} == 1")))
    }

    /// Scrapes the pods of a cluster that have the usual annotations from now on, as a site does.
    ///
    /// # Errors
    /// If the configuration is refused.
    pub fn scrape_pods(&mut self, kubeconfig: PathBuf) -> Result<()> {
        self.cluster = Some(kubeconfig);
        self.reload()
    }

    fn reload(&self) -> Result<()> {
        write_configuration(&self.folder, &self.targets, self.cluster.as_deref())?;
        let url = format!("http://{}/-/reload", self.address);
        self.client.send("POST", &url, &[], b"")?.expect(200, "POST /-/reload").map(drop)
    }

    /// The result of an instant query.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let data = self.api(&format!("query?query={}", encoded(expression)))?;
        let sample = |series: &Value| Sample { labels: labels(&series["metric"]), value: number(&series["value"][1]) };
        Ok(data["result"].as_array().into_iter().flatten().map(sample).collect())
    }

    /// Waits until a query has a result.
    pub fn until_data(&self, expression: &str) -> Result<()> {
        let seen = || self.query(expression).ok().filter(|samples| !samples.is_empty()).map(drop);
        wait::until(wait::LIMIT, seen).ok_or_else(|| {
            let reason = format!("has no result of {expression} within {:?}", wait::LIMIT);
            Error::part("prometheus", reason, self.process.log())
        })
    }

    /// The alerts that fire now.
    pub fn firing(&self) -> Result<BTreeSet<Alert>> {
        let data = self.api("alerts")?;
        let firing = data["alerts"].as_array().into_iter().flatten().filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| Alert::of(labels(&alert["labels"]))).collect())
    }

    /// Each time that an alert has fired since the start, in the order of the alerts: one that fired, ended and fired
    /// again is there twice. On a busy machine a scrape may fail, which interrupts all alerts of its daemon: one that
    /// fires before and after it is there once.
    pub fn fired(&self) -> Result<Vec<Alert>> {
        // The value of ALERTS_FOR_STATE is the time since when the alert has been active.
        let since: BTreeMap<(Labels, Time), f64> = self.history("ALERTS_FOR_STATE")?.into_iter().collect();
        let failed: Vec<(Labels, Time)> =
            self.history("up")?.into_iter().filter(|(_, value)| *value == 0.0).map(|(at, _)| at).collect();
        let mut fired = Vec::new();
        let mut before: Option<(Labels, Time)> = None;
        let firing: BTreeSet<(Labels, Time)> =
            self.history("ALERTS{alertstate=\"firing\"}")?.into_iter().map(|(at, _)| at).collect();
        for (labels, time) in firing {
            let same = |before: &&(Labels, Time)| {
                let interrupted = failed.iter().any(|(target, at)| {
                    target.get("instance") == labels.get("instance") && before.1 <= *at && *at <= time
                });
                let active = |time| since.get(&(labels.clone(), time));
                before.0 == labels && (interrupted || active(before.1) == active(time))
            };
            if before.as_ref().filter(same).is_none() {
                fired.push(Alert::of(labels.clone()));
            }
            before = Some((labels, time));
        }
        Ok(fired)
    }

    /// All samples of the series, by labels and time.
    fn history(&self, selector: &str) -> Result<Vec<((Labels, Time), f64)>> {
        let data = self.api(&format!("query?query={}", encoded(&format!("{selector}[1d]"))))?;
        let mut samples = Vec::new();
        for series in data["result"].as_array().into_iter().flatten() {
            let mut labels = labels(&series["metric"]);
            labels.retain(|name, _| name != "__name__" && name != "alertstate");
            for sample in series["values"].as_array().into_iter().flatten() {
                let milliseconds = (sample[0].as_f64().unwrap_or(f64::NAN) * 1e3).round() as Time;
                samples.push(((labels.clone(), milliseconds), number(&sample[1])));
            }
        }
        Ok(samples)
    }

    /// Waits until each of these alerts has fired: a rule's name, and a label's value.
    ///
    /// # Errors
    /// What has fired, and what is active, if the time is over.
    pub fn until_fired(&self, wanted: &[(&str, &str)], limit: Duration) -> std::result::Result<(), String> {
        let all = |fired: &[Alert]| wanted.iter().all(|wanted| fired.iter().any(|alert| alert.is(*wanted)));
        let seen = wait::patiently(limit, || self.fired().ok().filter(|fired| all(fired)).map(drop));
        seen.ok_or_else(|| {
            let (fired, active) = (self.fired(), self.api("alerts"));
            format!("not all of {wanted:?} fired, but {fired:#?}; active are {active:#?}")
        })
    }

    /// Waits until no alert fires, and then makes sure that each of these has fired once, and nothing else.
    ///
    /// # Errors
    /// What fires or has fired.
    pub fn until_over(&self, wanted: &[(&str, &str)], limit: Duration) -> std::result::Result<(), String> {
        let seen = wait::patiently(limit, || self.firing().ok().filter(BTreeSet::is_empty).map(drop));
        seen.ok_or_else(|| format!("{:#?} fire after {limit:?}", self.firing()))?;
        let fired = self.fired().map_err(|error| error.to_string())?;
        let once = |wanted: &(&str, &str)| fired.iter().filter(|alert| alert.is(*wanted)).count() == 1;
        let right = wanted.iter().all(once) && fired.len() == wanted.len();
        if right { Ok(()) } else { Err(format!("not each of {wanted:?} fired once, but {fired:#?}")) }
    }

    fn api(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let answer = self.client.send("GET", &url, &[], b"")?.expect(200, &url)?;
        let mut answer: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Http { request: url, reason: error.to_string() })?;
        Ok(answer["data"].take())
    }
}

impl Alert {
    fn of(mut labels: Labels) -> Self {
        labels.remove("severity");
        Self { name: labels.remove("alertname").unwrap_or_default(), labels }
    }

    /// Whether it has this name, and a label with this value.
    pub fn is(&self, (name, value): (&str, &str)) -> bool {
        self.name == name && self.labels.values().any(|label| label == value)
    }
}

/// Prometheus, built now if needed. The discovery of machines at cloud providers, which is most of it, is left out.
fn find_or_build() -> Result<PathBuf> {
    let programs =
        Programs { name: "prometheus", version: VERSION, programs: &["prometheus"], duration: "some minutes" };
    let folder = programs.find_or_build(|folder| {
        let mut build = Command::new("go");
        build.args(["install", "-tags", "remove_all_sd,enable_kubernetes_sd", &format!("{MODULE}@{VERSION}")]);
        // It may require a newer Go than the machine has, which Go then downloads.
        build.env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOBIN", folder);
        build.current_dir("/");
        build
    })?;
    Ok(folder.join("prometheus"))
}

/// Writes the configuration, as JSON, which is YAML too.
fn write_configuration(folder: &Folder, targets: &BTreeMap<String, SocketAddr>, cluster: Option<&Path>) -> Result<()> {
    let targets = targets.iter();
    let targets: Vec<Value> =
        targets.map(|(instance, address)| json!({"targets": [address], "labels": {"instance": instance}})).collect();
    let daemons = json!({"job_name": "daemons", "static_configs": targets});
    let jobs: Vec<Value> = [daemons].into_iter().chain(cluster.map(pods)).collect();
    let rules = folder.join("rules.yaml");
    let configuration = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": if rules.exists() { vec![rules] } else { Vec::new() },
        "scrape_configs": jobs,
    });
    folder.write("prometheus.yaml", configuration.to_string()).map(drop)
}

/// The job for pods with annotations, as in the configuration of Prometheus' own Helm chart.
fn pods(kubeconfig: &Path) -> Value {
    let meta = |name: &str| format!("__meta_kubernetes_pod_{name}");
    let [scrape, path, port] = ["scrape", "path", "port"].map(|name| meta(&format!("annotation_prometheus_io_{name}")));
    json!({
        "job_name": "pods",
        "kubernetes_sd_configs": [{"role": "pod", "kubeconfig_file": kubeconfig}],
        "relabel_configs": [
            {"action": "keep", "source_labels": [scrape], "regex": "true"},
            {"source_labels": [path], "regex": "(.+)", "target_label": "__metrics_path__"},
            {"source_labels": [meta("ip"), port], "separator": ":", "regex": "(.+:[0-9]+)", "target_label": "__address__"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": [meta("name")], "target_label": "pod"},
            {"source_labels": [meta("node_name")], "target_label": "node"},
            {"action": "drop", "source_labels": [meta("phase")], "regex": "Pending|Succeeded|Failed|Completed"},
        ],
    })
}

fn listens_on(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("msg=\"Listening on\""))?;
    line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
}

fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect()
}

fn labels(metric: &Value) -> Labels {
    let pairs = metric.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// Prometheus writes numbers as strings, such as `"NaN"`.
fn number(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
groups:
  - name: test
    rules:
      - alert: Scraped
        expr: up == 1
        for: 1s
        labels: { severity: warning }
";

    #[test]
    fn an_alert_fires_as_often_as_it_has_a_cause() {
        let limit = wait::LIMIT;
        let mut prometheus = Prometheus::start(RULES).unwrap();
        let itself = prometheus.address;
        let (one, two) = (("Scraped", "one"), ("Scraped", "two"));
        prometheus.until_over(&[], limit).unwrap();
        prometheus.scrape(&[("one", itself), ("two", itself)]).unwrap();
        prometheus.until_fired(&[one, two], limit).unwrap();
        prometheus.until_data("sum(up) == 2").unwrap();
        prometheus.targets.clear();
        prometheus.reload().unwrap();
        prometheus.until_over(&[one, two], limit).unwrap();
        assert!(prometheus.until_over(&[one], limit).is_err());
        prometheus.scrape(&[("one", itself)]).unwrap();
        let again = || Some(prometheus.fired().unwrap()).filter(|fired| fired.len() == 3);
        let fired = wait::patiently(limit, again).unwrap();
        assert_eq!(fired.iter().filter(|alert| alert.is(one)).count(), 2, "{fired:?}");
        assert!(prometheus.query("up{").is_err());
    }
}
