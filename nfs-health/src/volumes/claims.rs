//! The state of each claim, and the page `/claims` that shows it to probes and users.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use sidecar::sync::lock;

use super::wanted::Named;

/// The state of a claim when there is nothing left to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Bound to this volume of the server.
    Bound(String),
    /// Waiting, for the reason in this sentence, which may end on its own.
    Waiting(String),
    /// An administrator has to do what this sentence says.
    Trouble(String),
}

/// The page; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Page(Arc<Mutex<BTreeMap<Named, Option<ClaimState>>>>);

impl Page {
    /// Shows a claim; `None` before its state is known.
    pub fn show(&self, claim: &Named, state: Option<ClaimState>) {
        lock(&self.0).insert(claim.clone(), state);
    }

    /// Answers 200 if each claim is bound, else 503. Either way the body lists all claims.
    pub fn answer(&self) -> impl IntoResponse + use<> {
        let claims = lock(&self.0);
        let are_bound = claims.values().all(|state| matches!(state, Some(ClaimState::Bound(_))));
        let status = if are_bound { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let claims: Value = claims.iter().map(|(claim, state)| shown(claim, state.as_ref())).collect();
        (status, [(header::CONTENT_TYPE, "application/json")], claims.to_string())
    }
}

fn shown(claim: &Named, state: Option<&ClaimState>) -> Value {
    let (state, volume, sentence) = match state {
        None => (None, None, None),
        Some(ClaimState::Bound(volume)) => (Some("bound"), Some(volume), None),
        Some(ClaimState::Waiting(sentence)) => (Some("waiting"), None, Some(sentence)),
        Some(ClaimState::Trouble(sentence)) => (Some("trouble"), None, Some(sentence)),
    };
    json!({"claim": claim.to_string(), "state": state, "volume": volume, "sentence": sentence})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_answers_200_when_every_claim_is_bound() {
        let page = Page::default();
        let status = || page.answer().into_response().status();
        let claims = ["labs/homes", "labhands/homes"].map(|claim| claim.parse::<Named>().unwrap());
        for claim in &claims {
            page.show(claim, None);
        }
        page.show(&claims[0], Some(ClaimState::Bound("files-home".into())));
        assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE, "one is not known yet");
        for state in [ClaimState::Waiting("no Service".into()), ClaimState::Trouble("Free the address".into())] {
            page.show(&claims[1], Some(state));
            assert_eq!(status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        page.show(&claims[1], Some(ClaimState::Bound("files-home-labhands".into())));
        assert_eq!(status(), StatusCode::OK);
        assert_eq!(
            shown(&claims[0], Some(&ClaimState::Waiting("no Service".into()))),
            json!({"claim": "labs/homes", "state": "waiting", "volume": null, "sentence": "no Service"})
        );
    }
}
