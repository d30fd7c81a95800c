//! The daemon is killed at every step of its rounds on a real containerd: its history stays readable, and wanted or
//! used images stay.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod support;

use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use jiff::SignedDuration;
use rustix::process::{Pid, Signal, kill_process};
use support::{Machine, catalogue, containerd_with_pods, history};
use testbed::cri::Pod;
use testbed::folder::Folder;
use testbed::grpc::{GrpcServer, Moment};
use testbed::images::{Image, Pushed};
use testbed::process::Process;
use testbed::registry::Registry;
use testbed::wait::LIMIT;

const KILLS: usize = 210;

/// Kills the daemon at one of its calls to the runtime: before the call, after it, or shortly after its answer.
#[derive(Clone, Default)]
struct Killer(Arc<(Mutex<Sentence>, Condvar)>);

#[derive(Default)]
struct Sentence {
    daemon: Option<Pid>,
    /// The number of the call and the moment, counted from the daemon's start.
    due: Option<(usize, Moment)>,
    after_answer: Option<Duration>,
    calls: usize,
}

impl Killer {
    fn sentence(&self, due: Option<(usize, Moment)>, after_answer: Option<Duration>) {
        *self.0.0.lock().unwrap() = Sentence { due, after_answer, ..Sentence::default() };
    }

    fn name(&self, daemon: i32) {
        self.0.0.lock().unwrap().daemon = Pid::from_raw(daemon);
        self.0.1.notify_all();
    }

    fn at_call(&self, moment: Moment) {
        let mut sentence = self.0.0.lock().unwrap();
        sentence.calls += usize::from(moment == Moment::Before);
        if sentence.due != Some((sentence.calls, moment)) {
            return;
        }
        // The first call may come before the test knows the daemon's process id.
        let sentence = self.0.1.wait_while(sentence, |sentence| sentence.daemon.is_none()).unwrap();
        let daemon = sentence.daemon.unwrap();
        match sentence.after_answer {
            None => kill_process(daemon, Signal::KILL).unwrap(),
            Some(delay) => drop(thread::spawn(move || {
                thread::sleep(delay);
                let _ = kill_process(daemon, Signal::KILL);
            })),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_step_the_daemon_reads_its_state_and_removes_nothing_wanted() {
    let registry = Registry::start().unwrap();
    let containerd = containerd_with_pods(&registry, Default::default());
    let machine = Machine::new(&containerd.endpoint()).await;
    let push =
        |tag: &str| -> Pushed { Image::busybox().unwrap().label("content", tag).push(&registry, "lab", tag).unwrap() };
    let [wanted, used, first, second] = ["w_2026_40", "w_2026_01", "w_2026_02", "w_2026_03"].map(push);
    machine.write(&catalogue(&[&wanted.reference], &[]));
    machine.pull(&wanted.reference).await;
    machine.pull(&used.reference).await;
    let pod = Pod::start(containerd.socket(), "lab").unwrap();
    pod.create("lab", &used.reference, &["sleep", "1000"]).unwrap();
    let kept = machine.names().await;

    let killer = Killer::default();
    let folder = Folder::new("kills").unwrap();
    let hook = killer.clone();
    let proxy = GrpcServer::proxy(&folder.join("cri.sock"), containerd.socket(), move |_, moment| hook.at_call(moment));
    let proxy = proxy.unwrap();
    let start = |log: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imagepurger"));
        command.arg("run").env_clear();
        command.env("RUNTIME_ENDPOINT", proxy.endpoint());
        command.env("CATALOGUE_FILE", machine.catalogue_file());
        command.env("STATE_DIR", machine.history_file().parent().unwrap());
        command.env("PURGE_GRACE", "1ms");
        let daemon = Process::start("imagepurger", &command, &folder.join(log)).unwrap();
        killer.name(daemon.id());
        daemon
    };

    // A round without a kill, to count the calls.
    let mut calls = 0;
    let (mut kills, mut step) = (0, 1);
    while kills < KILLS {
        for lab in [&first, &second] {
            if machine.runtime.image(&lab.reference).await.unwrap().is_none() {
                machine.pull(&lab.reference).await;
            }
        }
        let (moment, after_answer) = match kills % 3 {
            0 => (Moment::Before, None),
            1 => (Moment::After, None),
            _ => (Moment::After, Some(Duration::from_micros(kills as u64 * 97 % 3000))),
        };
        // Its grace is over; otherwise it would wait for the next round.
        machine.age_images(SignedDuration::from_hours(1)).await;
        killer.sentence((calls > 0).then_some((step, moment)), after_answer);
        let mut daemon = start(&format!("daemon-{kills}"));
        if calls == 0 {
            let done = || std::fs::read_to_string(daemon.log()).ok().filter(|log| log.contains("round done"));
            let log = testbed::wait::until(LIMIT, done).unwrap();
            assert!(log.contains("\"removed\":2"), "{log}");
            calls = killer.0.0.lock().unwrap().calls;
            assert!(3 * calls <= KILLS, "{calls} calls need more kills");
            continue;
        }
        daemon.wait(LIMIT).unwrap();
        kills += 1;
        step = step % calls + usize::from(kills % 3 == 0);
        step = step.max(1);
        history(&machine.history_file());
        assert!(machine.names().await.is_superset(&kept), "kill {kills} at call {step} of {calls}, {moment:?}");
    }

    // The next daemon finishes what the killed ones left.
    machine.age_images(SignedDuration::from_hours(1)).await;
    killer.sentence(None, None);
    let daemon = start("last");
    let done = || std::fs::read_to_string(daemon.log()).ok().filter(|log| log.contains("round done"));
    testbed::wait::until(LIMIT, done).unwrap();
    drop(daemon);
    assert_eq!(machine.names().await, kept);
    let ids: Vec<String> = machine.runtime.images().await.unwrap().into_iter().map(|image| image.id).collect();
    assert_eq!(history(&machine.history_file()).images.into_keys().collect::<Vec<_>>().len(), ids.len());
}
