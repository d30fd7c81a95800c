//! Measures ages with a clock that cannot jump.
//!
//! Records carry the wall clock's time, so that operators can read them. But the wall clock is set by hand and by NTP,
//! and a board without a battery starts in 1970. Such a step must not change how long an image has not been needed. So each look also
//! reads the time since boot (`CLOCK_BOOTTIME`, which includes suspended time and is never set). If the wall clock
//! moved by more than that, the difference is a step, and the records are shifted by it. Time in which the machine was
//! off looks like a step, and does not count toward any age.

use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The release date of this program (2026-11-01T00:00:00Z). A clock that shows an earlier time was not set yet.
pub const EARLIEST: Timestamp = Timestamp::constant(1_793_491_200, 0);

/// A smaller difference is a slewed clock, not a step.
const SMALLEST_STEP: SignedDuration = SignedDuration::from_secs(1);

/// Where Linux shows a different id for each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// Since the boot.
    pub boot: SignedDuration,
    /// The id of the boot; empty if the system does not show it.
    pub boot_id: String,
}

/// Reads both clocks. Tests supply their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Reading + Send + Sync>);

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Self {
        // procfs never hangs, and the id does not change while this process runs.
        let boot_id = boot_id(Path::new(BOOT_ID));
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

    /// A clock that shows what `read` returns.
    pub fn of(read: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Both clocks now.
    pub fn read(&self) -> Reading {
        (self.0)()
    }
}

/// The boot's id. If the system shows none, one that only this process has, in which the boot does not change either.
fn boot_id(path: &Path) -> String {
    match std::fs::read_to_string(path).unwrap_or_default().trim() {
        "" => format!("process {:016x}", RandomState::new().hash_one(std::process::id())),
        id => id.to_owned(),
    }
}

impl Reading {
    /// How far the wall clock was set between an earlier reading and this one; zero if it only ran.
    pub fn step_since(&self, earlier: &Self) -> SignedDuration {
        let same_boot = !self.boot_id.is_empty() && self.boot_id == earlier.boot_id && self.boot >= earlier.boot;
        let passed = if same_boot { self.boot.saturating_sub(earlier.boot) } else { SignedDuration::ZERO };
        let step = self.wall.duration_since(earlier.wall).saturating_sub(passed);
        if step.abs() < SMALLEST_STEP { SignedDuration::ZERO } else { step }
    }
}

/// Moves a time by a step, within the range that times have.
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
            // Another boot: either the machine was off for an hour, or the clock was set by an hour.
            (3600, -990, "b", 3600),
            (-3600, -990, "b", -3600),
            (0, -990, "b", 0),
            // The system shows no boot id, or the boot clock went back, which it never does.
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
    fn without_a_boot_id_time_passes_within_a_process_only() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, missing) = (folder.path().join("empty"), folder.path().join("missing"));
        std::fs::write(&empty, "\n").unwrap();
        for path in [&empty, &missing] {
            let (id, of_another_process) = (boot_id(path), boot_id(path));
            assert!(!id.is_empty() && id != of_another_process, "{id}");
        }
        std::fs::write(&empty, "7f0c\n").unwrap();
        assert_eq!(boot_id(&empty), "7f0c");
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
