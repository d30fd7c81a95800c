//! log-shipper ships the container logs of a node to RabbitMQ, each line at least once.
//!
//! Data flows one way; read in this order:
//!
//! - [`discover`] finds files and opens them at once; [`plan`] decides what the listing of a folder means, from
//!   [`names`] and [`identity`]
//! - [`follow`] keeps the files of each container in order and recognizes them by content; readers ([`pool`]) take
//!   turns
//! - [`parse`], [`join`] and [`encode`] turn lines into events; [`pods`] has the metadata of pods
//! - [`outgoing`] has the batches of events; the [`outbox`] is the window of unconfirmed messages
//! - [`ship`] runs a session with a broker over [`amqp`]
//! - [`ledger`] advances only when the broker confirms; [`checkpoint`] is its file, and [`checkpoint_writer`] decides
//!   when to write it
//! - [`mod@run`] starts and ends all of it; [`check`] and [`status`] are the other commands; [`settings`] parses the
//!   settings
//!
//! While the broker is down, the budget of read and unconfirmed bytes is used up and reading stops: the log files are
//! the spool.
//!
//! Decisions without I/O: [`plan`], [`join`], [`ledger`], [`outbox`], [`names`].

pub mod amqp;
pub mod arguments;
pub mod broker_status;
pub mod check;
pub mod checkpoint;
pub mod checkpoint_writer;
pub mod container;
pub mod content;
pub mod discover;
pub mod encode;
pub mod fit;
pub mod follow;
pub mod gzip_members;
pub mod identity;
pub mod idle;
pub mod join;
pub mod labels;
pub mod ledger;
pub mod logs;
pub mod metrics;
pub mod names;
pub mod outbox;
pub mod outgoing;
pub mod output;
pub mod own;
pub mod parse;
pub mod plan;
pub mod pods;
pub mod pool;
pub mod run;
pub mod settings;
pub mod ship;
pub mod source;
pub mod state_dir;
pub mod status;
pub mod threads;
pub mod traces;
