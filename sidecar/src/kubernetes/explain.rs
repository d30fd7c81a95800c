//! Errors of the Kubernetes API in words: without Rust's own form of a whole answer, and with the cause.

use std::error::Error;

use kube::core::Status;

/// How the API server ends the sentence about an applied object that has a field which its CustomResourceDefinition does not have. Its
/// code is 500 (structured-merge-diff's `typed` package).
const UNKNOWN_FIELD: &str = "field not declared in schema";

/// Whether the API server refused this call, so that other calls may well succeed. Otherwise it did not answer, or is overloaded.
pub fn is_refused(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    ((400..500).contains(&status.code) && status.code != 429) || is_of_older_definition(status)
}

fn is_of_older_definition(status: &Status) -> bool {
    status.message.ends_with(UNKNOWN_FIELD)
}

/// What an error of kube's client or of a watch says to people: the API server's own sentence with its code, or the chain of causes.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let (mut chain, mut next) = (Vec::new(), Some(error));
    while let Some(error) = next {
        chain.push(error);
        next = error.source();
    }
    if let Some(status) = chain.iter().find_map(|error| status_of(*error)) {
        return explain_status(status);
    }
    // What kube puts around a cause repeats it.
    let is_wrapper = |error: &(dyn Error + 'static)| {
        error.source().is_some() && (error.is::<kube::Error>() || error.is::<kube::runtime::watcher::Error>())
    };
    let mut words: Vec<String> = Vec::new();
    for error in chain.into_iter().filter(|error| !is_wrapper(*error)) {
        let text = error.to_string();
        if words.last().is_none_or(|before| !before.contains(&text)) {
            words.push(text);
        }
    }
    words.join(": ")
}

fn status_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Status> {
    error.downcast_ref::<Status>().or_else(|| error.downcast_ref::<Box<Status>>().map(AsRef::as_ref))
}

fn explain_status(status: &Status) -> String {
    match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("the API server answered {}", status.code),
        ("", reason) => format!("the API server answered {} {reason}", status.code),
        (message, _) if is_of_older_definition(status) => format!(
            "the CustomResourceDefinition in the cluster is older than this program; apply the one of this release: {message} ({})",
            status.code
        ),
        (message, _) => format!("{message} ({})", status.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::runtime::watcher;

    fn forbidden() -> kube::Error {
        let status = r#"{"status": "Failure", "code": 403, "reason": "Forbidden", "message": "nodes is forbidden"}"#;
        kube::Error::Api(Box::new(serde_json::from_str(status).unwrap()))
    }

    #[test]
    fn the_api_servers_sentence_is_said_once() {
        assert_eq!(explain(&forbidden()), "nodes is forbidden (403)");
        assert_eq!(explain(&watcher::Error::InitialListFailed(forbidden())), "nodes is forbidden (403)");
    }

    fn answer(code: u16, message: &str) -> kube::Error {
        let status = serde_json::json!({"status": "Failure", "code": code, "reason": "", "message": message});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn an_older_definition_refuses_and_is_named() {
        let typed = "failed to create typed patch object (ns/node1; labhands.dev/v1alpha1, Kind=NodeImages)";
        let older = answer(500, &format!("{typed}: .spec.wanted: field not declared in schema"));
        assert!(is_refused(&older));
        let words = explain(&older);
        assert!(
            words.starts_with("the CustomResourceDefinition in the cluster is older") && words.contains(".spec.wanted")
        );
        for (code, refused) in [(400, true), (403, true), (429, false), (500, false), (503, false)] {
            assert_eq!(is_refused(&answer(code, "no")), refused, "{code}");
        }
    }

    #[test]
    fn the_cause_of_a_connection_that_fails_is_named() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = watcher::Error::WatchStartFailed(kube::Error::Service(refused.into()));
        assert_eq!(explain(&error), "connection refused");
        assert!(explain(&watcher::Error::NoResourceVersion).contains("resourceVersion"));
    }
}
