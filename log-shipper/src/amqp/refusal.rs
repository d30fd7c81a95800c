//! Decides what a broker objects to when it closes a channel or connection because of a message (AMQP 0-9-1, section
//! 1.2; texts: RabbitMQ).

/// `content-too-large`; it has no other meaning.
const CONTENT_TOO_LARGE: u16 = 311;
/// `access-refused`.
const ACCESS_REFUSED: u16 = 403;
/// `not-found`.
const NOT_FOUND: u16 = 404;
/// `precondition-failed`; RabbitMQ uses it for too large messages as well.
const PRECONDITION_FAILED: u16 = 406;

/// Class and method of `basic.publish`.
const PUBLISH: (u16, u16) = (60, 40);

/// A smaller number in a message is not a size limit.
const LEAST_LIMIT: usize = 64;

/// The broker's reason for closing a channel or connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its reply code.
    pub code: u16,
    /// Its reply text.
    pub text: String,
    /// The class and method that it names.
    pub method: (u16, u16),
}

/// The subject of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Messages larger than this many bytes.
    Size(usize),
    /// Messages with this routing key.
    Key(String),
    /// Everything that goes to the dead letter exchange.
    DeadLetters,
    /// One message; the broker does not say which one.
    OneMessage,
    /// The exchange, the connection, or the broker itself, and not a message.
    Everything,
}

impl Refusal {
    /// The subject of the refusal; `exchange` and `dead_letter_exchange` are the configured ones.
    pub fn blame(&self, exchange: &str, dead_letter_exchange: Option<&str>) -> Blame {
        let names = |name: &str| self.text.contains(&format!("exchange '{name}'"));
        match self.code {
            CONTENT_TOO_LARGE | PRECONDITION_FAILED if self.limit().is_some() => {
                self.limit().map_or(Blame::OneMessage, Blame::Size)
            }
            ACCESS_REFUSED | NOT_FOUND if dead_letter_exchange.is_some_and(|dead| dead != exchange && names(dead)) => {
                Blame::DeadLetters
            }
            ACCESS_REFUSED if self.quoted("topic '").is_some() => {
                self.quoted("topic '").map_or(Blame::Everything, |key| Blame::Key(key.to_owned()))
            }
            ACCESS_REFUSED | NOT_FOUND => Blame::Everything,
            CONTENT_TOO_LARGE | PRECONDITION_FAILED => Blame::OneMessage,
            _ if self.method == PUBLISH => Blame::OneMessage,
            _ => Blame::Everything,
        }
    }

    /// The size limit in the text: the smallest number in a text about sizes, because the message's size is larger than
    /// the limit.
    fn limit(&self) -> Option<usize> {
        let about_size = ["size", "large"].iter().any(|word| self.text.contains(word));
        let numbers =
            self.text.split(|char: char| !char.is_ascii_digit()).filter_map(|digits| digits.parse::<usize>().ok());
        let least = numbers.filter(|number| *number != usize::from(self.code) && *number >= LEAST_LIMIT).min();
        least.filter(|_| about_size)
    }

    fn quoted(&self, before: &str) -> Option<&str> {
        let (_, rest) = self.text.split_once(before)?;
        rest.split_once("' in exchange").map(|(quoted, _)| quoted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brokers_text_shows_what_it_refuses() {
        for (code, text, blame) in [
            (
                406,
                "PRECONDITION_FAILED - message size 1049054 is larger than configured max size 1048576",
                Blame::Size(1_048_576),
            ),
            (406, "PRECONDITION_FAILED - message size 1049054 larger than max size 1048576", Blame::Size(1_048_576)),
            (406, "PRECONDITION_FAILED - message size exceeds the limit", Blame::OneMessage),
            (406, "PRECONDITION_FAILED - invalid expiration", Blame::OneMessage),
            (311, "CONTENT_TOO_LARGE", Blame::OneMessage),
            (311, "CONTENT_TOO_LARGE - at most 65536 bytes: message too large", Blame::Size(65_536)),
            (
                403,
                "ACCESS_REFUSED - access to topic 'logs.a.b' in exchange 'logs' in vhost '/' refused for user 'u'",
                Blame::Key("logs.a.b".into()),
            ),
            (403, "ACCESS_REFUSED - access to exchange 'logs' in vhost '/' refused for user 'u'", Blame::Everything),
            (403, "ACCESS_REFUSED - access to exchange 'dead' in vhost '/' refused for user 'u'", Blame::DeadLetters),
            (403, "ACCESS_REFUSED - cannot publish to internal exchange 'logs' in vhost '/'", Blame::Everything),
            (404, "NOT_FOUND - no exchange 'logs' in vhost '/'", Blame::Everything),
            (404, "NOT_FOUND - no exchange 'dead' in vhost '/'", Blame::DeadLetters),
            (540, "NOT_IMPLEMENTED - immediate=true", Blame::OneMessage),
            (501, "FRAME_ERROR", Blame::OneMessage),
        ] {
            let refusal = Refusal { code, text: text.into(), method: PUBLISH };
            assert_eq!(refusal.blame("logs", Some("dead")), blame, "{text}");
        }
        let forced = Refusal { code: 320, text: "CONNECTION_FORCED".into(), method: (0, 0) };
        assert_eq!(forced.blame("logs", None), Blame::Everything);
    }
}
