//! The disk guard: whether a pull fits below `DISK_HIGH`, decided before it starts.
//!
//! A pull needs its missing compressed bytes times (1 + factor): a runtime writes them compressed and then unpacked,
//! and the factor is what unpacking adds per compressed byte. It is learned from earlier pulls on this machine.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sidecar::human::bytes;
use thiserror::Error;

use super::FileSystem;
use super::file_system::percent;

/// Smaller pulls do not show the factor, because metadata and whole blocks outweigh the layers.
const LEAST_TO_LEARN_FROM: u64 = 64 * 1024 * 1024;

/// The weight of one new measurement.
const LEARNING_RATE: f64 = 0.3;

/// How many bytes unpacking adds per compressed byte on this machine. Saved as a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "f64", into = "f64")]
pub struct UnpackFactor(f64);

impl Default for UnpackFactor {
    fn default() -> Self {
        Self(2.5)
    }
}

impl From<f64> for UnpackFactor {
    /// Converts a saved number. An impossible one (not a number, below 0, above 10) is moved into the range.
    fn from(factor: f64) -> Self {
        if factor.is_nan() { Self::default() } else { Self(factor.clamp(0.0, 10.0)) }
    }
}

impl From<UnpackFactor> for f64 {
    fn from(factor: UnpackFactor) -> Self {
        factor.0
    }
}

impl UnpackFactor {
    /// The most bytes that a pull of this many missing compressed bytes needs in the end.
    pub fn need(self, missing: u64) -> u64 {
        // The cast saturates: never below zero, and never an overflow.
        (missing as f64 * (1.0 + self.0)).ceil() as u64
    }

    /// Learns from pulls that downloaded `downloaded` bytes while the file system grew by `growth`.
    pub fn learn(&mut self, downloaded: u64, growth: u64) {
        if downloaded < LEAST_TO_LEARN_FROM {
            return;
        }
        let measured = Self::from(growth.saturating_sub(downloaded) as f64 / downloaded as f64);
        *self = Self::from(self.0 + LEARNING_RATE * (measured.0 - self.0));
    }
}

/// Disk space that a running pull may still use. Return it with [`DiskGuard::finish`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped reservation is never returned"]
pub struct Reservation(u64);

/// The numbers of a pull that would fill the disk too much.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Refusal {
    /// Bytes used now.
    pub used: u64,
    /// Bytes that running pulls may still use.
    pub reserved: u64,
    /// Bytes that this pull needs.
    pub need: u64,
    /// Bytes that the file system can hold.
    pub capacity: u64,
    /// `DISK_HIGH`, in percent.
    pub high: u8,
}

impl Refusal {
    /// Whether it would fit once the running pulls have ended, if they need little. Then another try is worthwhile.
    pub fn fits_alone(&self) -> bool {
        fits(self.used, self.need, self.capacity, self.high)
    }

    /// How full the disk would be, in percent.
    pub fn percent_after(&self) -> u8 {
        percent(self.used.saturating_add(self.reserved).saturating_add(self.need), self.capacity)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the disk would be {} % full, above DISK_HIGH {} %: {} of {} used, {} needed",
            self.percent_after(),
            self.high,
            bytes(self.used),
            bytes(self.capacity),
            bytes(self.need),
        )?;
        if self.reserved > 0 {
            write!(f, ", {} reserved for running pulls", bytes(self.reserved))?;
        }
        f.write_str("; remove images, raise DISK_HIGH or reduce the number of wanted images")
    }
}

/// The numbers of a disk that is fuller than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the disk is {} % full, above DISK_HIGH {high} %: {} of {} used; remove images, raise DISK_HIGH or reduce the number of wanted images",
    percent(*used, *capacity), bytes(*used), bytes(*capacity)
)]
pub struct Overrun {
    /// Bytes used now.
    pub used: u64,
    /// Bytes that the file system can hold.
    pub capacity: u64,
    /// `DISK_HIGH`, in percent.
    pub high: u8,
}

fn fits(used: u64, more: u64, capacity: u64, high: u8) -> bool {
    (u128::from(used) + u128::from(more)) * 100 <= u128::from(capacity) * u128::from(high)
}

/// Admits pulls to one file system. It only calculates; the caller measures.
#[derive(Clone, Debug)]
pub struct DiskGuard {
    high: u8,
    factor: UnpackFactor,
    in_flight: BTreeMap<u64, u64>,
    next: u64,
    // The measurements of a group of overlapping pulls, from the first start to the last end, because concurrent pulls
    // cannot be distinguished.
    used_at_start: u64,
    downloaded: u64,
}

impl DiskGuard {
    /// A guard that keeps the file system at or below `high` percent of its capacity (`DISK_HIGH`).
    pub fn new(high: u8, factor: UnpackFactor) -> Self {
        Self { high, factor, in_flight: BTreeMap::new(), next: 0, used_at_start: 0, downloaded: 0 }
    }

    /// The learned factor, to be saved.
    pub fn factor(&self) -> UnpackFactor {
        self.factor
    }

    /// Bytes that running pulls may still use. What they have written already counts twice (here and as used) until
    /// they end, so the guard errs on the safe side.
    pub fn reserved(&self) -> u64 {
        self.in_flight.values().fold(0, |sum, need| sum.saturating_add(*need))
    }

    /// Admits a pull of `missing` compressed bytes (layers that are not in the content store), and reserves what it
    /// needs.
    ///
    /// # Errors
    /// A refusal with the numbers if the file system would exceed the limit. A pull that downloads nothing is never
    /// refused.
    pub fn admit(&mut self, disk: &FileSystem, missing: u64) -> Result<Reservation, Refusal> {
        let (need, reserved, capacity) = (self.factor.need(missing), self.reserved(), disk.capacity());
        if missing > 0 && !fits(disk.used, reserved.saturating_add(need), capacity, self.high) {
            return Err(Refusal { used: disk.used, reserved, need, capacity, high: self.high });
        }
        Ok(self.reserve(disk, need))
    }

    /// Admits a pull of unknown size. Nothing is reserved for it, so measure the file system often while it runs.
    ///
    /// # Errors
    /// If the file system is at or above the limit now.
    pub fn admit_unknown(&mut self, disk: &FileSystem) -> Result<Reservation, Overrun> {
        let (used, capacity) = (disk.used.saturating_add(self.reserved()), disk.capacity());
        if !fits(used, 1, capacity, self.high) {
            return Err(Overrun { used, capacity, high: self.high });
        }
        Ok(self.reserve(disk, 0))
    }

    fn reserve(&mut self, disk: &FileSystem, need: u64) -> Reservation {
        if self.in_flight.is_empty() {
            (self.used_at_start, self.downloaded) = (disk.used, 0);
        }
        let number = self.next;
        self.next += 1;
        self.in_flight.insert(number, need);
        Reservation(number)
    }

    /// Whether the file system is above the limit now: a pull used more than expected, or others write to it.
    pub fn overrun(&self, disk: &FileSystem) -> Option<Overrun> {
        let (used, capacity) = (disk.used, disk.capacity());
        (!fits(used, 0, capacity, self.high)).then_some(Overrun { used, capacity, high: self.high })
    }

    /// Ends a pull that downloaded `downloaded` bytes, successfully or not. After the last running pull, the guard
    /// learns from the growth of the file system since the first one started; `disk` is `None` if that is meaningless
    /// (a pull failed, images were removed).
    pub fn finish(&mut self, reservation: Reservation, downloaded: u64, disk: Option<&FileSystem>) {
        self.in_flight.remove(&reservation.0);
        self.downloaded = self.downloaded.saturating_add(downloaded);
        if disk.is_none() {
            // Nothing more is learned from this group.
            (self.used_at_start, self.downloaded) = (u64::MAX, 0);
        }
        if let Some(disk) = disk.filter(|disk| self.in_flight.is_empty() && disk.used >= self.used_at_start) {
            self.factor.learn(self.downloaded, disk.used - self.used_at_start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn disk(used: u64, capacity: u64) -> FileSystem {
        FileSystem { path: "/images".into(), size: capacity, used, available: capacity - used }
    }

    #[test]
    fn admits_up_to_the_limit_and_refuses_above() {
        // Used, missing, high, factor, admitted; the capacity is 100 GiB.
        let table = [
            (0, 10 * GIB, 75, 2.5, true),
            (40 * GIB, 10 * GIB, 75, 2.5, true),
            (40 * GIB + 1, 10 * GIB, 75, 2.5, false),
            (65 * GIB, 10 * GIB, 75, 0.0, true),
            (65 * GIB + 1, 10 * GIB, 75, 0.0, false),
            (90 * GIB, 0, 75, 2.5, true),
            (90 * GIB, 1, 75, 2.5, false),
            (0, u64::MAX, 100, 10.0, false),
            (0, 1, 0, 2.5, false),
        ];
        for (used, missing, high, factor, admitted) in table {
            let mut guard = DiskGuard::new(high, UnpackFactor::from(factor));
            let answer = guard.admit(&disk(used, 100 * GIB), missing);
            assert_eq!(
                answer.is_ok(),
                admitted,
                "{used} used, {missing} missing, high {high}, factor {factor}: {answer:?}"
            );
        }
    }

    #[test]
    fn a_refusal_contains_both_numbers() {
        let mut guard = DiskGuard::new(75, UnpackFactor::default());
        let _held = guard.admit(&disk(50 * GIB, 100 * GIB), 2 * GIB).unwrap();
        let refusal = guard.admit(&disk(50 * GIB, 100 * GIB), 6 * GIB).unwrap_err();
        let text = refusal.to_string();
        for part in ["78 %", "DISK_HIGH 75 %", "50.00 GiB of 100.00 GiB", "21.00 GiB needed", "7.00 GiB reserved"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(refusal.fits_alone());
        assert!(!guard.admit(&disk(50 * GIB, 100 * GIB), 8 * GIB).unwrap_err().fits_alone());
    }

    #[test]
    fn a_disk_above_the_limit_is_an_overrun_with_its_numbers() {
        let guard = DiskGuard::new(75, UnpackFactor::default());
        assert_eq!(guard.overrun(&disk(75 * GIB, 100 * GIB)), None);
        let text = guard.overrun(&disk(81 * GIB, 100 * GIB)).unwrap().to_string();
        assert!(
            text.starts_with("the disk is 81 % full, above DISK_HIGH 75 %: 81.00 GiB of 100.00 GiB used"),
            "{text}"
        );
    }

    #[test]
    fn pulls_in_flight_keep_their_share_until_they_end() {
        let mut guard = DiskGuard::new(75, UnpackFactor::from(1.0));
        let empty = disk(0, 100 * GIB);
        let first = guard.admit(&empty, 20 * GIB).unwrap();
        assert_eq!(guard.reserved(), 40 * GIB);
        assert!(guard.admit(&empty, 20 * GIB).is_err());
        guard.finish(first, 20 * GIB, None);
        assert_eq!(guard.reserved(), 0);
        assert!(guard.admit(&empty, 20 * GIB).is_ok());
    }

    #[test]
    fn the_factor_is_learned_from_a_whole_group_of_pulls() {
        let mut guard = DiskGuard::new(90, UnpackFactor::from(2.0));
        let first = guard.admit(&disk(10 * GIB, 1000 * GIB), GIB).unwrap();
        let second = guard.admit(&disk(11 * GIB, 1000 * GIB), GIB).unwrap();
        guard.finish(first, GIB, Some(&disk(14 * GIB, 1000 * GIB)));
        assert_eq!(guard.factor(), UnpackFactor::from(2.0));
        guard.finish(second, GIB, Some(&disk(18 * GIB, 1000 * GIB)));
        // 8 GiB for 2 GiB means 3 more per byte; a third of the way is learned.
        assert_eq!(guard.factor(), UnpackFactor::from(2.3));
    }

    #[test]
    fn a_pull_of_unknown_size_begins_below_the_limit_only() {
        for (used, reserved, admitted) in
            [(0, 0, true), (74 * GIB, 0, true), (75 * GIB, 0, false), (90 * GIB, 0, false), (40 * GIB, 10 * GIB, false)]
        {
            let mut guard = DiskGuard::new(75, UnpackFactor::default());
            let _held = (reserved > 0).then(|| guard.admit(&disk(used, 100 * GIB), reserved).unwrap());
            let answer = guard.admit_unknown(&disk(used, 100 * GIB));
            assert_eq!(answer.is_ok(), admitted, "{used} used, {reserved} promised: {answer:?}");
        }
    }

    #[test]
    fn a_failed_pull_teaches_nothing() {
        let mut guard = DiskGuard::new(90, UnpackFactor::from(2.0));
        let first = guard.admit(&disk(10 * GIB, 1000 * GIB), GIB).unwrap();
        let second = guard.admit(&disk(10 * GIB, 1000 * GIB), GIB).unwrap();
        guard.finish(first, 0, None);
        guard.finish(second, GIB, Some(&disk(90 * GIB, 1000 * GIB)));
        assert_eq!(guard.factor(), UnpackFactor::from(2.0));
        let third = guard.admit(&disk(90 * GIB, 1000 * GIB), GIB).unwrap();
        guard.finish(third, GIB, Some(&disk(94 * GIB, 1000 * GIB)));
        assert_eq!(guard.factor(), UnpackFactor::from(2.3));
    }

    #[test]
    fn a_saved_factor_out_of_range_is_brought_back() {
        let table = [("2.5", 2.5), ("-3", 0.0), ("1e300", 10.0), ("0", 0.0)];
        for (saved, factor) in table {
            let read: UnpackFactor = serde_json::from_str(saved).unwrap();
            assert_eq!(f64::from(read), factor, "{saved}");
        }
        assert_eq!(UnpackFactor::from(f64::NAN), UnpackFactor::default());
        assert_eq!(serde_json::to_string(&UnpackFactor::default()).unwrap(), "2.5");
    }

    proptest! {
        #[test]
        fn what_is_admitted_fits_with_everything_promised(
            used in 0u64..1 << 40,
            available in 0u64..1 << 40,
            high in 0u8..=100,
            factor in 0.0f64..10.0,
            pulls in prop::collection::vec(0u64..1 << 36, 1..20),
        ) {
            let disk = FileSystem { path: "/".into(), size: used + available, used, available };
            let mut guard = DiskGuard::new(high, UnpackFactor::from(factor));
            let mut promised = 0u128;
            for missing in pulls {
                let before = guard.reserved();
                match guard.admit(&disk, missing) {
                    Ok(_reservation) => {
                        promised += u128::from(missing) + (missing as f64 * factor) as u128;
                        prop_assert!(u128::from(guard.reserved()) >= promised.saturating_sub(1 << 20));
                        if missing > 0 {
                            let after = u128::from(used) + u128::from(guard.reserved());
                            prop_assert!(after * 100 <= u128::from(disk.capacity()) * u128::from(high));
                        }
                    }
                    Err(refusal) => {
                        prop_assert_eq!(guard.reserved(), before);
                        let after = u128::from(used) + u128::from(before) + u128::from(refusal.need);
                        prop_assert!(after * 100 > u128::from(disk.capacity()) * u128::from(high));
                    }
                }
            }
        }

        #[test]
        fn the_factor_stays_in_range(measurements in prop::collection::vec((any::<u64>(), any::<u64>()), 0..50)) {
            let mut factor = UnpackFactor::default();
            for (downloaded, growth) in measurements {
                factor.learn(downloaded, growth);
                prop_assert!((0.0..=10.0).contains(&f64::from(factor)));
                let _ = factor.need(u64::MAX);
            }
        }
    }
}
