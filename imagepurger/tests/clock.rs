//! Rounds while the machine's clock is set by years in between: an image's age is the time that really passed.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::sync::{Arc, Mutex};

use imagepurger::clock::{Clock, EARLIEST, Reading};
use imagepurger::plan::Rules;
use imagepurger::round::Watermarks;
use jiff::{SignedDuration, Timestamp};
use lab_images::catalogue::Catalogue;
use support::{Machine, catalogue, no_grace, round};
use testbed::cri::{FakeCri, FakeImage};

const HOUR: i64 = 3600;
const YEARS: i64 = 10 * 365 * 24 * HOUR;

#[tokio::test(flavor = "multi_thread")]
async fn no_step_of_the_clock_shortens_or_extends_a_grace() {
    let image = |number: usize| FakeImage {
        id: format!("sha256:{number:064x}"),
        tags: vec![format!("registry.example.org/lab:w_{number}")],
        ..FakeImage::default()
    };
    let steps: [&[i64]; 6] = [
        &[],
        &[YEARS],
        &[-YEARS],
        &[YEARS, -YEARS, -YEARS, YEARS],
        &[-1_790_000_000, 1_790_000_000],
        &[1, -HOUR, 25 * HOUR],
    ];
    for (number, steps) in steps.into_iter().enumerate() {
        let fake = FakeCri::start(vec![image(0), image(1)]).unwrap();
        let machine = Machine::new(&fake.endpoint()).await;
        let start = Timestamp::now();
        let now =
            Arc::new(Mutex::new(Reading { wall: start, boot: SignedDuration::from_secs(30), boot_id: "a".into() }));
        let rules = || Rules {
            grace: SignedDuration::from_hours(24),
            catalogue_max_age: SignedDuration::from_hours(24 * 365 * 200),
            ..no_grace()
        };
        let purger = || {
            let mut purger = machine.purger(rules());
            let read = Arc::clone(&now);
            // This machine's disk may be full, which would shorten the grace.
            purger.watermarks = Watermarks { high: 100, low: 99 };
            purger.clock = Clock::of(move || read.lock().unwrap().clone());
            purger
        };
        machine.write(&Catalogue { generated: start, ..catalogue(&["registry.example.org/lab:w_0"], &[]) });
        let mut one = purger();
        assert!(round(&mut one).await.removed.is_empty());
        // One look per hour. Before some of them the clock is set, or the process restarts.
        for hour in 1..=24 {
            let step = steps.get(hour - 1).copied().unwrap_or(0);
            {
                let mut now = now.lock().unwrap();
                now.wall += SignedDuration::from_secs(HOUR + step);
                now.boot += SignedDuration::from_secs(HOUR);
            }
            if hour == 12 {
                one = purger();
            }
            let unset = now.lock().unwrap().wall < EARLIEST;
            let done = round(&mut one).await;
            assert_eq!(done.removed.len(), usize::from(hour == 24 && !unset), "{number}: hour {hour}: {done:?}");
            assert_eq!(done.hold.map(|hold| hold.word()), unset.then_some("clock_unset"), "{number}: hour {hour}");
        }
        // A clock that was wrong all the time is set at last.
        if fake.images().len() == 2 {
            now.lock().unwrap().wall = start + SignedDuration::from_hours(24);
            assert_eq!(round(&mut one).await.removed.len(), 1, "{number}");
        }
    }
}
