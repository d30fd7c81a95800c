//! log-shipper: a node's container logs to RabbitMQ, each line at least once.
//!
//! Data flows one way. [`discover`] finds files and opens them at once; [`follow`] keeps the files of each container in order
//! and knows them again by content; readers ([`pool`]) take turns and make events of lines ([`parse`], [`join`], [`encode`]);
//! batches ([`outgoing`]) go through the [`outbox`], the window of unconfirmed messages, to a broker ([`ship`], [`amqp`]).
//! [`pods`] tells what Kubernetes knows of a container. Only a confirm moves a log's [`ledger`], which the [`checkpoint`] saves. When the broker is away the budget of read and
//! unconfirmed bytes is used up and reading stops: the log files are the spool.
//!
//! Decisions without I/O: [`plan`] (what a folder's listing means), [`join`], [`ledger`], [`outbox`], [`names`].

pub mod amqp;
pub mod arguments;
pub mod check;
pub mod checkpoint;
pub mod checkpoint_writer;
pub mod container;
pub mod content;
pub mod discover;
pub mod encode;
pub mod fit;
pub mod follow;
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
pub mod refused;
pub mod run;
pub mod settings;
pub mod ship;
pub mod source;
pub mod state_dir;
pub mod status;
pub mod threads;
pub mod traces;
