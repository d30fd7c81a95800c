//! Errors of the Kubernetes API in words: without Rust's own form of a whole answer, and with the cause.

use std::error::Error;

use kube::core::Status;

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

    #[test]
    fn the_cause_of_a_connection_that_fails_is_named() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = watcher::Error::WatchStartFailed(kube::Error::Service(refused.into()));
        assert_eq!(explain(&error), "connection refused");
        assert!(explain(&watcher::Error::NoResourceVersion).contains("resourceVersion"));
    }
}
