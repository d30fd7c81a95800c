//! The routing of a container's messages within the exchange: the routing key, which may contain the container's names,
//! and headers.

use amq_protocol::types::{AMQPValue, FieldTable};

use crate::container::Container;

/// The length limit of a short string (AMQP 0-9-1, section 4.2.5.3), in bytes.
pub const MOST_SHORT_BYTES: usize = 255;

/// Names of a container that a routing key may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Namespace,
    Pod,
    Container,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(Name),
}

/// `AMQP_ROUTING_KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingKey(Vec<Piece>);

impl RoutingKey {
    /// Parses a key such as `logs.{namespace}.{container}`.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a { has no }")?;
            let name = match name {
                "namespace" => Name::Namespace,
                "pod" => Name::Pod,
                "container" => Name::Container,
                other => return Err(format!("{{{other}}} is none of {{namespace}}, {{pod}}, {{container}}")),
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Name(name));
            rest = after;
        }
        if rest.contains('}') {
            return Err("a } has no {".to_owned());
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let fixed: usize = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { 0 }).sum();
        if fixed > MOST_SHORT_BYTES {
            return Err(format!("it has more than {MOST_SHORT_BYTES} bytes"));
        }
        Ok(Self(pieces))
    }

    /// The key for a container's messages, cut to 255 bytes. A dot in a name becomes `_`, so that a topic exchange
    /// counts the words of the setting.
    pub fn of(&self, container: &Container) -> String {
        let names = names(container);
        let mut key = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Name(name) => key.push_str(&names[*name as usize].replace('.', "_")),
            }
        }
        key.truncate(key.floor_char_boundary(MOST_SHORT_BYTES));
        key
    }
}

/// Namespace, pod and container. A Docker container without a pod has the namespace `docker`, and its own name twice.
fn names(container: &Container) -> [&str; 3] {
    match (&container.pod, &container.docker) {
        (Some(pod), _) => [&pod.namespace, &pod.name, &pod.container],
        (None, Some(docker)) => {
            let name = docker.name.as_deref().unwrap_or(&docker.id);
            ["docker", name, name]
        }
        (None, None) => ["unknown"; 3],
    }
}

/// The headers of every message of a container, for headers exchanges and for readers that do not parse bodies.
pub(super) fn headers(container: &Container) -> FieldTable {
    let mut headers = FieldTable::default();
    for (header, name) in ["namespace", "pod", "container"].into_iter().zip(names(container)) {
        headers.insert(header.into(), AMQPValue::LongString(name.into()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::{Docker, Pod};

    fn pod(namespace: &str, name: &str, container: &str) -> Container {
        let [namespace, name, container] = [namespace, name, container].map(str::to_owned);
        let pod = Pod { namespace, name, uid: "u".into(), container };
        Container { pod: Some(pod), docker: None, restart: "0".into() }
    }

    #[test]
    fn a_key_contains_the_containers_names() {
        let docker = Docker { id: "cafe".into(), name: Some("web.1".into()), image: None };
        let docker = Container { pod: None, docker: Some(docker.into()), restart: "".into() };
        for (text, container, key) in [
            ("logstash", pod("n", "p", "c"), "logstash"),
            ("logs.{namespace}.{container}", pod("jhub", "jupyter-ann", "notebook"), "logs.jhub.notebook"),
            ("{pod}-{container}", pod("n", "p.example.org", "c"), "p_example_org-c"),
            ("logs.{namespace}.{container}", docker, "logs.docker.web_1"),
            ("", pod("n", "p", "c"), ""),
        ] {
            assert_eq!(RoutingKey::parse(text).unwrap().of(&container), key);
        }
    }

    #[test]
    fn a_key_is_never_longer_than_the_protocol_allows() {
        let long = pod(&"n".repeat(63), &"p".repeat(253), &"é".repeat(60));
        let key = RoutingKey::parse("logs.{namespace}.{pod}.{container}").unwrap().of(&long);
        assert_eq!(key.len(), MOST_SHORT_BYTES);
        let key = RoutingKey::parse(&format!("{}{{container}}", "x".repeat(254))).unwrap().of(&long);
        assert_eq!(key.len(), 254);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (text, expected) in [
            ("logs.{name}", "{name} is none of"),
            ("logs.{pod", "has no }"),
            ("logs.pod}", "has no {"),
            (&"x".repeat(256), "255 bytes"),
        ] {
            let error = RoutingKey::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
