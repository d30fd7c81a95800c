//! Formats errors of the Kubernetes API as sentences: with the cause, and without Rust's debug form of a whole answer.

use std::error::Error;

use kube::Resource;
use kube::core::Status;

/// The end of the API server's message when an applied object has a field that its CustomResourceDefinition does not
/// have. The code is 500 (structured-merge-diff's `typed` package).
const UNKNOWN_FIELD: &str = "field not declared in schema";

/// Whether the API server refused this call, so that other calls may well succeed. If not, it did not answer or is
/// overloaded.
pub fn is_refused(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    ((400..500).contains(&status.code) && status.code != 429) || is_of_older_definition(status)
}

fn is_of_older_definition(status: &Status) -> bool {
    status.message.ends_with(UNKNOWN_FIELD)
}

/// Formats an error of kube's client or of a watch: the API server's own message with its code, or the chain of causes.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    if let Some(status) = causes(error).find_map(status_of) {
        return explain_status(status);
    }
    // kube's wrappers repeat the cause.
    let is_wrapper = |error: &(dyn Error + 'static)| {
        error.source().is_some() && (error.is::<kube::Error>() || error.is::<kube::runtime::watcher::Error>())
    };
    let mut words: Vec<String> = Vec::new();
    for error in causes(error).filter(|error| !is_wrapper(*error)) {
        let text = error.to_string();
        if words.last().is_none_or(|before| !before.contains(&text)) {
            words.push(text);
        }
    }
    words.join(": ")
}

/// As [`explain`], for a call about this kind. If its CustomResourceDefinition is missing, the API server answers only
/// with a bare 404.
pub fn explain_about<K: Resource>(kind: &K::DynamicType, error: &(dyn Error + 'static)) -> String {
    let group = K::group(kind);
    let is_custom = group.contains('.') && !group.ends_with(".k8s.io");
    if is_custom && causes(error).find_map(status_of).is_some_and(is_unknown_kind) {
        return format!(
            "the cluster has no CustomResourceDefinition {}.{group} of version {}; apply the crd.yaml of this release (404)",
            K::plural(kind),
            K::version(kind)
        );
    }
    explain(error)
}

/// Whether the API server does not know the path, because a CustomResourceDefinition is missing or does not serve the
/// version. A missing object gives a different answer.
pub fn is_unknown_kind(status: &Status) -> bool {
    status.code == 404 && status.reason != "NotFound"
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
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
    fn the_api_servers_message_is_printed_once() {
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
    fn a_kind_that_the_api_server_does_not_know_is_named() {
        use kube::core::ApiResource;
        let kind = kube::core::GroupVersionKind::gvk("labhands.dev", "v1alpha1", "NodeImages");
        let kind = ApiResource::from_gvk_with_plural(&kind, "nodeimages");
        let explain_about = |error: &(dyn Error + 'static)| explain_about::<kube::core::DynamicObject>(&kind, error);
        // What kube returns for an answer that is not JSON.
        let unknown = || {
            let status = Status::failure("404 page not found", "Failed to parse error data").with_code(404);
            kube::Error::Api(Box::new(status))
        };
        let words = "the cluster has no CustomResourceDefinition nodeimages.labhands.dev of version v1alpha1; \
                     apply the crd.yaml of this release (404)";
        assert_eq!(explain_about(&unknown()), words);
        assert_eq!(explain_about(&watcher::Error::InitialListFailed(unknown())), words);
        // A missing object and other errors are explained as before.
        let status = r#"{"code": 404, "reason": "NotFound", "message": "nodeimages.labhands.dev \"a\" not found"}"#;
        let absent = kube::Error::Api(Box::new(serde_json::from_str(status).unwrap()));
        assert_eq!(explain_about(&absent), "nodeimages.labhands.dev \"a\" not found (404)");
        assert_eq!(explain_about(&forbidden()), "nodes is forbidden (403)");
        // Every cluster has Pods, so something else answers at this address.
        assert_eq!(
            super::explain_about::<k8s_openapi::api::core::v1::Pod>(&(), &unknown()),
            "404 page not found (404)"
        );
    }

    #[test]
    fn the_cause_of_a_connection_that_fails_is_named() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error = watcher::Error::WatchStartFailed(kube::Error::Service(refused.into()));
        assert_eq!(explain(&error), "connection refused");
        assert!(explain(&watcher::Error::NoResourceVersion).contains("resourceVersion"));
    }
}
