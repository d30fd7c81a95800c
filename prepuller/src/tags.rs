//! `prepuller tags`: reads tags from standard input, and prints one JSON object for each on standard output, in the
//! order of a menu.

use std::io::{self, BufRead, Read};
use std::process::ExitCode;

use lab_images::policy::{Keep, Known, Policy, decide};
use lab_images::tag::{Class, Tag};
use serde::Serialize;
use sidecar::stdio;

use crate::settings::TagsSettings;

/// A longer line is not a tag: the specification allows 128 bytes.
const MOST_LINE_BYTES: u64 = 4096;

/// The output for one tag.
#[derive(Serialize)]
struct Line<'a> {
    tag: &'a str,
    class: Class,
    name: &'a str,
    cycle: Option<u64>,
    cycle_build: Option<u64>,
    rsp_build: Option<u64>,
    arch: Option<&'a str>,
    rest: Option<&'a str>,
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<bool>,
}

/// Reads standard input, writes standard output.
///
/// # Errors
///
/// If either fails.
pub fn run(settings: &TagsSettings) -> anyhow::Result<ExitCode> {
    stdio::print(&text(settings, io::stdin().lock())?)?;
    Ok(ExitCode::SUCCESS)
}

fn text(settings: &TagsSettings, input: impl BufRead) -> io::Result<String> {
    let policy = Policy {
        scheme: settings.scheme.clone(),
        keep: settings.keep.clone().unwrap_or_default(),
        pinned: Vec::new(),
        aliases: settings.aliases.clone(),
        choice: settings.choice.clone(),
    };
    let tags = policy.tags(lines(input)?);
    // Without a registry every tag counts as a separate image.
    let kept: Vec<bool> =
        decide(&policy, &tags, &Known::default()).verdicts.iter().map(|verdict| verdict.wanted).collect();
    let mut text = String::new();
    for (tag, kept) in tags.iter().zip(kept) {
        text += &serde_json::to_string(&line(tag, settings.keep.as_ref().map(|_: &Keep| kept)))?;
        text.push('\n');
    }
    Ok(text)
}

fn line(tag: &Tag, keep: Option<bool>) -> Line<'_> {
    Line {
        tag: &tag.text,
        class: tag.class,
        name: &tag.name,
        cycle: tag.cycle.as_ref().map(|cycle| cycle.number.value()),
        cycle_build: tag.cycle.as_ref().and_then(|cycle| cycle.build.as_ref()).map(|build| build.value()),
        rsp_build: tag.rsp_build.as_ref().map(|build| build.value()),
        arch: tag.arch.as_deref(),
        rest: tag.rest.as_deref(),
        version: tag.version.as_ref().map(ToString::to_string),
        keep,
    }
}

/// The lines without blanks around them, and without empty lines. Bytes that are not UTF-8 are shown as replacement characters.
fn lines(mut input: impl BufRead) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(MOST_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(lines);
        }
        if line.len() as u64 == MOST_LINE_BYTES && !line.ends_with(b"\n") {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {} has more than {MOST_LINE_BYTES} bytes and is not a tag", lines.len() + 1),
            ));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_matches([' ', '\t', '\n', '\r']);
        if !text.is_empty() {
            lines.push(text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use lab_images::policy::Choice;

    use super::*;

    fn printed(input: &str, keep: Option<&str>) -> Vec<String> {
        let aliases = ["recommended".to_owned()].to_vec();
        let settings = TagsSettings {
            scheme: "rubin".parse().unwrap(),
            choice: Choice::default(),
            aliases,
            keep: keep.map(|keep| keep.parse().unwrap()),
        };
        text(&settings, input.as_bytes()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_object_for_each_tag_in_menu_order() {
        assert_eq!(
            printed("w_2026_46\r\n\n \t w_2026_47_c0020.001_rsp19_x-amd64\nrecommended\n", None),
            [
                r#"{"tag":"recommended","class":"alias","name":"Recommended","cycle":null,"cycle_build":null,"rsp_build":null,"arch":null,"rest":null,"version":null}"#,
                r#"{"tag":"w_2026_47_c0020.001_rsp19_x-amd64","class":"weekly","name":"Weekly 2026_47 (SAL Cycle 0020, Build 001) (RSP Build 19) [x] [amd64]","cycle":20,"cycle_build":1,"rsp_build":19,"arch":"amd64","rest":"x","version":"2026.47"}"#,
                r#"{"tag":"w_2026_46","class":"weekly","name":"Weekly 2026_46","cycle":null,"cycle_build":null,"rsp_build":null,"arch":null,"rest":null,"version":"2026.46"}"#,
            ]
        );
    }

    #[test]
    fn keep_is_printed_if_requested() {
        let lines = printed("recommended\nw_2026_47\nw_2026_46\nd_2026_01_01", Some("weekly=1"));
        let kept: Vec<bool> = lines.iter().map(|line| line.ends_with("\"keep\":true}")).collect();
        assert_eq!(kept, [true, true, false, false]);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let settings = TagsSettings {
            scheme: "rubin".parse().unwrap(),
            choice: Choice::default(),
            aliases: Vec::new(),
            keep: None,
        };
        let endless = "x".repeat(10_000);
        let error = text(&settings, endless.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("line 1"), "{error}");
    }
}
