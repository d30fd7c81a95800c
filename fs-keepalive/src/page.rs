//! The page `/volumes`: the result of each volume's last round, for operators and probes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::{Value, json};
use sidecar::sync::lock;

use crate::trouble::Failed;

/// The page; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Page(Arc<Mutex<BTreeMap<PathBuf, Option<Round>>>>);

/// A volume's last round.
#[derive(Debug)]
struct Round {
    ended: Timestamp,
    failed: Option<Failed>,
}

impl Page {
    /// Adds a volume that has had no round yet.
    pub fn expect(&self, path: &Path) {
        self.set(path, None);
    }

    /// Records a round that ended.
    pub fn round(&self, path: &Path, ended: Timestamp, failed: Option<Failed>) {
        self.set(path, Some(Round { ended, failed }));
    }

    fn set(&self, path: &Path, round: Option<Round>) {
        lock(&self.0).insert(path.to_owned(), round);
    }

    /// Answers 200 when each volume's last round succeeded, else 503. Either way the body lists all volumes.
    pub fn answer(&self) -> impl IntoResponse + use<> {
        let volumes = lock(&self.0);
        let are_good = volumes.values().all(|round| round.as_ref().is_some_and(|round| round.failed.is_none()));
        let status = if are_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let volumes: Value = volumes.iter().map(|(path, round)| shown(path, round.as_ref())).collect();
        (status, [(header::CONTENT_TYPE, "application/json")], volumes.to_string())
    }
}

fn shown(path: &Path, round: Option<&Round>) -> Value {
    let failed = round.and_then(|round| round.failed.as_ref());
    let result = round.map(|_| failed.map_or("ok", |failed| failed.trouble.name()));
    json!({
        "path": path.display().to_string(),
        "result": result,
        "sentence": failed.map(ToString::to_string),
        "ended": round.map(|round| round.ended.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trouble::Trouble;

    #[test]
    fn a_volume_without_a_round_is_neither_ok_nor_failed_and_the_page_is_ok_if_all_are() {
        let page = Page::default();
        let status = || page.answer().into_response().status();
        for path in ["/a", "/b"] {
            page.expect(Path::new(path));
        }
        let at = Timestamp::UNIX_EPOCH;
        page.round(Path::new("/a"), at, None);
        assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
        page.round(Path::new("/b"), at, Some(Trouble::Hung(3).into()));
        assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
        let bad = Round { ended: at, failed: Some(Trouble::Hung(3).into()) };
        assert_eq!(
            shown(Path::new("/b"), Some(&bad)),
            json!({"path": "/b", "result": "hung", "sentence": "no answer for 3 s", "ended": "1970-01-01T00:00:00Z"})
        );
        assert_eq!(shown(Path::new("/c"), None)["result"], Value::Null);
        page.round(Path::new("/b"), at, None);
        assert_eq!(status(), StatusCode::OK);
    }
}
