//! How long a grace period is healthy: it ends, or else clients' opens hang forever.

use std::time::{Duration, Instant};

use crate::probe::verdict::{Kind, Verdict};

/// The lease of a server that does not report it; the defaults of Linux and nfs-ganesha are not longer.
const LEASE: Duration = Duration::from_secs(90);

/// How long an export has been in its grace period.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraceTimer {
    since: Option<Instant>,
}

impl GraceTimer {
    /// Returns the verdict of a round, or `server_down`: a server whose grace period has lasted too long counts as down.
    pub fn check(&mut self, verdict: Verdict, lease: Option<Duration>, now: Instant) -> Verdict {
        if verdict.kind != Kind::Grace {
            self.since = None;
            return verdict;
        }
        let lasted = now.saturating_duration_since(*self.since.get_or_insert(now));
        let lease = lease.filter(|lease| !lease.is_zero()).unwrap_or(LEASE);
        if lasted <= longest_grace(lease) {
            return verdict;
        }
        let sentence = format!(
            "the server has been in its grace period for {} s, and its lease is {} s: it opens no files and does not leave the grace period",
            lasted.as_secs(),
            lease.as_secs()
        );
        Verdict { kind: Kind::ServerDown, phase: verdict.phase, sentence }
    }
}

/// The longest plausible grace period: three leases, to which Linux may extend it (RFC 8881, section 8.4.2.1, requires
/// at least one). Servers with short leases may have grace periods of up to 90 s that are configured separately.
fn longest_grace(lease: Duration) -> Duration {
    (lease * 10).min((lease * 3).max(LEASE * 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grace_is_healthy_for_some_leases_only_and_is_counted_again_each_time() {
        let verdict = |kind| Verdict { kind, phase: "session", sentence: String::new() };
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        for (lease, healthy, trouble) in [(2, 20, 21), (10, 100, 101), (90, 270, 271), (300, 900, 901)] {
            let mut timer = GraceTimer::default();
            let mut at =
                |kind, seconds: u32| timer.check(verdict(kind), Some(second * lease), start + second * seconds).kind;
            assert_eq!([0, healthy].map(|seconds| at(Kind::Grace, seconds)), [Kind::Grace; 2], "lease {lease}");
            assert_eq!(at(Kind::Grace, trouble), Kind::ServerDown, "lease {lease}");
            assert_eq!(at(Kind::Ok, trouble), Kind::Ok);
            assert_eq!(at(Kind::Grace, trouble + 1), Kind::Grace);
        }
        // A lease of zero is no lease.
        let mut timer = GraceTimer::default();
        let mut at =
            |seconds: u32| timer.check(verdict(Kind::Grace), Some(Duration::ZERO), start + second * seconds).kind;
        assert_eq!([0, 270, 271].map(&mut at), [Kind::Grace, Kind::Grace, Kind::ServerDown]);
        let sentence = longest_grace(Duration::MAX / 20);
        assert!(sentence > Duration::ZERO);
    }
}
