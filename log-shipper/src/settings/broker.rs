//! The broker and the credentials.

use std::path::PathBuf;
use std::time::Duration;

use sidecar::secret::{Secret, SecretSource};
use sidecar::settings::{Problems, values};

use crate::amqp::{Address, Auth, Endpoint, MOST_SHORT_BYTES, RoutingKey, Url};
use crate::arguments::BrokerArguments;

/// The settings of the broker.
#[derive(Debug)]
pub struct BrokerSettings {
    /// The brokers, any of which may be used.
    pub addresses: Vec<Address>,
    /// The settings that are the same for all.
    pub endpoint: Endpoint,
    /// How many messages may be unconfirmed.
    pub window: usize,
    /// How long a confirm may take.
    pub confirm_timeout: Duration,
}

/// Limits of `AMQP_CONFIRM_TIMEOUT` and `AMQP_HEARTBEAT`, which AMQP counts in whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST_CONFIRM: Duration = Duration::from_secs(86_400);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(3600);

/// After this many failures a message goes to the dead letter exchange.
pub const DEAD_LETTER_AFTER: u32 = 5;

impl BrokerArguments {
    /// The settings of the broker, which are required.
    pub(super) fn required(&self, problems: &mut Problems) -> Option<BrokerSettings> {
        let Some(url) = &self.amqp_url else {
            problems.add(
                "AMQP_URL",
                "it is not set; name the broker, or set OUTPUT=stdout",
                "amqps://rabbitmq.example.org/logs",
            );
            return None;
        };
        let url = problems.parse("AMQP_URL", url, "amqps://rabbitmq.example.org/logs", Url::parse);
        let secret = SecretSource::from_settings(
            problems,
            "AMQP_PASSWORD",
            self.amqp_password.as_deref(),
            self.amqp_password_file.as_deref(),
        );
        let certificate = self.certificate(problems);
        let example = "60s";
        let confirm = problems.parse("AMQP_CONFIRM_TIMEOUT", &self.amqp_confirm_timeout, example, |text| {
            values::duration_within(text, SHORTEST, LONGEST_CONFIRM)
        });
        let heartbeat = problems.parse("AMQP_HEARTBEAT", &self.amqp_heartbeat, "30s", |text| {
            values::duration_within(text, SHORTEST, LONGEST_HEARTBEAT)
        });
        let window = problems.parse("AMQP_WINDOW", &self.amqp_window, "500", |text| values::count(text, 1, 65_535));
        let main_exchange = exchange(problems, "AMQP_EXCHANGE", &self.amqp_exchange);
        let dead_letter_exchange = self.amqp_dead_letter_exchange.as_deref();
        let dead_letter_exchange =
            dead_letter_exchange.and_then(|name| exchange(problems, "AMQP_DEAD_LETTER_EXCHANGE", name));
        let example = "logs.{namespace}.{container}";
        let routing_key = problems.parse("AMQP_ROUTING_KEY", &self.amqp_routing_key, example, RoutingKey::parse);
        let url = url?;
        let (url_user, url_password) = url.user.clone().unzip();
        let password = secret.or(url_password.flatten().map(|password| SecretSource::Value(Secret::new(password))));
        let user = self.amqp_username.clone().or(url_user);
        let server_name = self.server_name(problems, url.tls);
        if certificate.is_some() && !url.tls {
            problems.add("AMQP_CERT_FILE", "a certificate needs TLS: AMQP_URL must begin with amqps://", "");
        }
        let auth = auth(problems, user, password, certificate.is_some())?;
        let endpoint = Endpoint {
            tls: url.tls,
            server_name,
            certificate,
            auth,
            virtual_host: url.virtual_host,
            exchange: main_exchange?,
            routing_key: routing_key?,
            dead_letter_exchange,
            heartbeat: heartbeat?,
        };
        let (window, confirm_timeout) = (window? as usize, confirm?);
        Some(BrokerSettings { addresses: url.addresses, endpoint, window, confirm_timeout })
    }

    fn certificate(&self, problems: &mut Problems) -> Option<(PathBuf, PathBuf)> {
        match (&self.amqp_cert_file, &self.amqp_key_file) {
            (Some(chain), Some(key)) => return Some((PathBuf::from(chain), PathBuf::from(key))),
            (None, None) => (),
            (Some(_), None) => {
                problems.add("AMQP_KEY_FILE", "AMQP_CERT_FILE is set, but the key is missing", "/tls/tls.key");
            }
            (None, Some(_)) => {
                problems.add("AMQP_CERT_FILE", "AMQP_KEY_FILE is set, but the certificate is missing", "/tls/tls.crt");
            }
        }
        None
    }

    fn server_name(&self, problems: &mut Problems, tls: bool) -> Option<String> {
        let name = self.amqp_tls_server_name.as_deref()?;
        if !tls {
            problems.add("AMQP_TLS_SERVER_NAME", "it has no effect without TLS: AMQP_URL must begin with amqps://", "");
        }
        if rustls::pki_types::ServerName::try_from(name).is_err() {
            let problem = format!("{name:?} is not a host name or address");
            problems.add("AMQP_TLS_SERVER_NAME", problem, "rabbitmq.example.org");
        }
        Some(name.to_owned())
    }
}

/// How to authenticate; RabbitMQ's default user if nothing is set.
fn auth(
    problems: &mut Problems,
    user: Option<String>,
    password: Option<SecretSource>,
    has_certificate: bool,
) -> Option<Auth> {
    match (user, password) {
        (None, None) if has_certificate => return Some(Auth::Certificate),
        (None, None) => {
            let password = SecretSource::Value(Secret::new("guest"));
            return Some(Auth::Password { user: "guest".into(), password });
        }
        (Some(user), Some(password)) => return Some(Auth::Password { user, password }),
        (Some(_), None) => problems.add("AMQP_PASSWORD", "there is a user name, but no password", "***"),
        (None, Some(_)) => problems.add("AMQP_USERNAME", "AMQP_PASSWORD is set, but there is no user name", "logs"),
    }
    None
}

/// An exchange's name. `default`, and RabbitMQ's own terms in permissions and in its management UI, mean the exchange
/// without a name.
fn exchange(problems: &mut Problems, setting: &'static str, name: &str) -> Option<String> {
    if name.len() > MOST_SHORT_BYTES {
        problems.add(setting, format!("it has more than {MOST_SHORT_BYTES} bytes"), "logstash-exchange");
        return None;
    }
    Some(if matches!(name, "default" | "amq.default" | "(AMQP default)") { String::new() } else { name.to_owned() })
}
