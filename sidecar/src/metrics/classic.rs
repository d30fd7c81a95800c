//! Converts OpenMetrics 1.0 to Prometheus' text format 0.0.4. The samples are the same. The lines about a counter's or
//! info's family use the name with its suffix, there are no units and no exemplars, and three types have other names.

/// The text in the classic format.
pub(super) fn of_open_metrics(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut classic = String::with_capacity(text.len());
    for (index, line) in lines.iter().enumerate() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            // The type follows on one of the next lines, before or after a unit.
            let kind = lines[index + 1..].iter().take(2).find_map(|line| type_of(line, name)).unwrap_or("unknown");
            classic.extend(["# HELP ", name, suffix(kind), " ", help, "\n"]);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            classic.extend(["# TYPE ", name, suffix(kind), " ", classic_type(kind), "\n"]);
        } else if !line.starts_with('#') {
            classic.extend([without_exemplar(line), "\n"]);
        }
    }
    classic
}

fn type_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' ')
}

fn suffix(kind: &str) -> &'static str {
    match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    }
}

fn classic_type(kind: &str) -> &str {
    match kind {
        "info" | "stateset" => "gauge",
        "unknown" => "untyped",
        "gaugehistogram" => "histogram",
        kind => kind,
    }
}

/// A sample without its exemplar, which begins with ` # {`. A label's value may contain that text as well.
fn without_exemplar(line: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '#' if !quoted => return line[..at].trim_end(),
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Format, Metrics};
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Unit;

    #[test]
    fn every_kind_is_as_a_classic_scraper_reads_it() {
        let metrics = Metrics::new("thing", "1.2.3");
        let (counter, gauge) = (Counter::<u64>::default(), Family::<Vec<(String, String)>, Gauge>::default());
        let histogram = Histogram::new([0.5, 1.0]);
        counter.inc_by(7);
        gauge.get_or_create(&vec![("note".to_owned(), "a # {b} \"c\"\n".to_owned())]).set(3);
        histogram.observe(0.7);
        metrics.register(|registry| {
            registry.register("rounds", "Rounds done", counter);
            registry.register_with_unit("free", "Room", Unit::Bytes, gauge);
            registry.register("took_seconds", "How long", histogram);
        });
        let wanted = r#"# HELP labhands_thing_build_info Version of the running binary.
# TYPE labhands_thing_build_info gauge
labhands_thing_build_info{version="1.2.3"} 1
# HELP labhands_thing_rounds_total Rounds done.
# TYPE labhands_thing_rounds_total counter
labhands_thing_rounds_total 7
# HELP labhands_thing_free_bytes Room.
# TYPE labhands_thing_free_bytes gauge
labhands_thing_free_bytes{note="a # {b} \"c\"\n"} 3
# HELP labhands_thing_took_seconds How long.
# TYPE labhands_thing_took_seconds histogram
labhands_thing_took_seconds_sum 0.7
labhands_thing_took_seconds_count 1
labhands_thing_took_seconds_bucket{le="0.5"} 0
labhands_thing_took_seconds_bucket{le="1.0"} 1
labhands_thing_took_seconds_bucket{le="+Inf"} 1
"#;
        let text = metrics.encode(Format::Classic);
        let (of_daemon, _of_process) = text.split_once("# HELP process_").unwrap();
        assert_eq!(of_daemon, wanted);
    }

    #[test]
    fn exemplars_and_other_types_are_left_out() {
        let open = "# HELP a Help: # {x}.\n# TYPE a unknown\na{b=\"\\\"#\"} 1 # {id=\"x\"} 0.5 1\n# TYPE s stateset\ns 1\n# EOF\n";
        let classic = "# HELP a Help: # {x}.\n# TYPE a untyped\na{b=\"\\\"#\"} 1\n# TYPE s gauge\ns 1\n";
        assert_eq!(of_open_metrics(open), classic);
    }
}
