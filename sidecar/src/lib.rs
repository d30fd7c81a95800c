//! What all Labhands daemons share, one concern per file.
//!
//! Read in this order: [`program`] (from `main` to the exit code), [`settings`] (names and values, every problem at
//! once), [`daemon`] (log, signals, health, metrics and admin server, wired in one place), then whatever a daemon uses
//! of the rest.
//!
//! - [`log`], [`metrics`], [`readiness`] (latches and pulses), [`admin`] (`/livez`, `/readyz`, `/metrics`),
//!   [`shutdown`] (drain on the first signal, end on the second)
//! - [`kubernetes`] a client whose calls have time limits, and Events; [`tls`] the crypto provider and the roots
//! - [`secret`] values that are never printed, and files that are read again when they change; [`files`] replaces a
//!   file atomically
//! - [`stdio`] prints; [`retry`] backoff, [`schedule`] jitter, [`human`] readable sizes, times and tables, [`sync`] locks, [`causes`]
//!   an error with its causes

pub mod admin;
pub mod causes;
pub mod daemon;
pub mod files;
pub mod human;
pub mod kubernetes;
pub mod log;
pub mod metrics;
pub mod program;
pub mod readiness;
pub mod retry;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod stdio;
pub mod sync;
pub mod tls;
