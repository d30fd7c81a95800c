//! log-shipper: the cost of an event compared with its peers, its cost alone, and the lines lost to faults.

mod alone;
mod broker;
mod by_lapin;
mod faults;
mod latency;
mod logs;
mod peers;
mod side_by_side;

pub(crate) use alone::run as alone;
pub(crate) use by_lapin::{COMMAND as LAPIN_COMMAND, run as publish_by_lapin};
pub(crate) use faults::run as faults;
pub(crate) use latency::run as latency;
pub(crate) use side_by_side::run as side_by_side;
