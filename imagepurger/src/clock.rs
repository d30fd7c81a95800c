//! Ages by a clock that cannot jump.
//!
//! Records carry the wall clock's time, for people. The wall clock is set by hand and by NTP, a board without a battery
//! begins in 1970, and none of that is time in which an image was not needed. So each look also reads the time since the boot
//! (`CLOCK_BOOTTIME`, which counts suspended time and is never set): what the wall clock moved beyond that is a step, and the
//! records are shifted by it. Time in which the machine was off cannot be told from a step, and counts for nobody's age.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// No copy of this program is older, so a clock that shows less was not set yet (2026-11-01T00:00:00Z).
pub const EARLIEST: Timestamp = Timestamp::constant(1_793_491_200, 0);

/// Less than this is a slewed clock, not a step.
const SMALLEST_STEP: SignedDuration = SignedDuration::from_secs(1);

/// Where Linux tells one boot from the next.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// Since the boot.
    pub boot: SignedDuration,
    /// Which boot; empty where the system does not tell.
    pub boot_id: String,
}

/// Reads both clocks; a test gives its own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Reading + Send + Sync>);

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        // In procfs, which never hangs; it stays the same for as long as this process runs.
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self::of(move || {
            let boot = clock_gettime(ClockId::Boottime);
            let nanoseconds = i32::try_from(boot.tv_nsec).unwrap_or(0);
            Reading {
                wall: Timestamp::now(),
                boot: SignedDuration::new(boot.tv_sec, nanoseconds),
                boot_id: boot_id.clone(),
            }
        })
    }

    /// A clock that shows what `read` gives.
    pub fn of(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Both clocks now.
    pub fn read(&self) -> Reading {
        (self.0)()
    }
}

impl Reading {
    /// By how much the wall clock was set between an earlier reading and this one; zero where it only ran.
    pub fn step_since(&self, earlier: &Self) -> SignedDuration {
        let same_boot = !self.boot_id.is_empty() && self.boot_id == earlier.boot_id && self.boot >= earlier.boot;
        let passed = if same_boot { self.boot.saturating_sub(earlier.boot) } else { SignedDuration::ZERO };
        let step = self.wall.duration_since(earlier.wall).saturating_sub(passed);
        if step.abs() < SMALLEST_STEP { SignedDuration::ZERO } else { step }
    }
}

/// A time moved by a step, as far as times go.
pub fn shifted(time: Timestamp, step: SignedDuration) -> Timestamp {
    time.checked_add(step).unwrap_or(if step.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: i64, boot: i64, boot_id: &str) -> Reading {
        Reading {
            wall: Timestamp::from_second(wall).unwrap(),
            boot: SignedDuration::from_secs(boot),
            boot_id: boot_id.into(),
        }
    }

    #[test]
    fn a_step_is_what_the_wall_clock_moved_beyond_the_time_that_passed() {
        const YEARS: i64 = 10 * 365 * 86_400;
        let before = reading(1_800_000_000, 1000, "a");
        let table = [
            (60, 60, "a", 0),
            (86_400, 86_400, "a", 0),
            (60, 61, "a", -1),
            (60 + YEARS, 60, "a", YEARS),
            (60 - YEARS, 60, "a", -YEARS),
            (-1_799_999_940, 60, "a", -1_800_000_000),
            // Another boot: it may have been off for an hour, or the clock was set by an hour.
            (3600, -990, "b", 3600),
            (-3600, -990, "b", -3600),
            (0, -990, "b", 0),
            // The system does not tell boots apart, or the clock of the boot went back, which it never does.
            (3600, 3600, "", 3600),
            (3600, -1, "a", 3600),
        ];
        for (wall, boot, id, step) in table {
            let after = reading(1_800_000_000 + wall, 1000 + boot, id);
            assert_eq!(after.step_since(&before).as_secs(), step, "{wall} {boot} {id:?}");
        }
    }

    #[test]
    fn a_slewed_clock_makes_no_step() {
        let before = reading(1_800_000_000, 1000, "a");
        let mut after = reading(1_800_000_900, 1900, "a");
        after.wall += SignedDuration::from_millis(450);
        assert!(after.step_since(&before).is_zero());
    }

    #[test]
    fn this_machines_clocks_run_and_its_boot_has_an_id() {
        let clock = Clock::system();
        let (first, second) = (clock.read(), clock.read());
        assert!(second.boot >= first.boot && !first.boot_id.is_empty());
        assert!(first.boot > SignedDuration::ZERO && first.wall > EARLIEST);
    }

    #[test]
    fn a_shift_beyond_all_times_ends_at_the_last_one() {
        let (last, first) = (SignedDuration::MAX, SignedDuration::MIN);
        assert_eq!(
            (shifted(Timestamp::UNIX_EPOCH, last), shifted(Timestamp::UNIX_EPOCH, first)),
            (Timestamp::MAX, Timestamp::MIN)
        );
    }
}
