//! What every Labhands daemon shares, one concern a file.
//!
//! A daemon's `main` reads: [`tls::install_crypto_provider`], then [`settings::arguments`] (names and strings, by clap), the
//! daemon's own `settings.rs` (strings to types, every problem at once through [`settings::Problems`], exit code 64), then
//! [`log::init`], [`shutdown::Shutdown::listen`], [`admin::AdminServer::bind`], and the work.
//!
//! - [`settings`] the environment as a map, typed values, problems; [`secret`] values that are never printed and files read again
//! - [`log`], [`metrics`], [`readiness`] (latches and pulses) and [`admin`] (`/livez`, `/readyz`, `/metrics`)
//! - [`shutdown`] drain on the first signal, end on the second; [`retry`] the one backoff policy
//! - [`kubernetes`] a client and Events; [`files`] replace a file without a torn state, notice that one changed; [`tls`] the one crypto provider and its roots

pub mod admin;
pub mod causes;
pub mod files;
pub mod human;
pub mod kubernetes;
pub mod log;
pub mod metrics;
pub mod readiness;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod sync;
pub mod tls;
