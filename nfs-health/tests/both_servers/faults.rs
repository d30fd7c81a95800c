//! Random faults of both servers, one after the other: no false alarm, and none is missed.

use std::cell::RefCell;

use testbed::daemon::Daemon;
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::knfsd::Knfsd;
use testbed::wait;

use super::{LIMIT, asked};

/// A fault of a server, how to make and undo it, and the correct verdicts.
struct Fault<'a> {
    name: &'static str,
    apply: Box<dyn Fn() + 'a>,
    heal: Box<dyn Fn() + 'a>,
    verdicts: &'static [&'static str],
}

fn fault<'a>(
    name: &'static str,
    verdicts: &'static [&'static str],
    apply: impl Fn() + 'a,
    heal: impl Fn() + 'a,
) -> Fault<'a> {
    Fault { name, apply: Box::new(apply), heal: Box::new(heal), verdicts }
}

/// Pseudorandom numbers from a seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// The rounds of an export so far, and the verdict that is shown.
fn shown(daemon: &Daemon, server: &str) -> Option<(u64, String)> {
    let (_, metrics) = daemon.get("/metrics")?;
    let rounds = format!("labhands_nfs_health_rounds_total{{export=\"{server}\"");
    let count = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
    let rounds: f64 = metrics.lines().filter(|line| line.starts_with(&rounds)).filter_map(count).sum();
    let holds = format!("labhands_nfs_health_verdict{{export=\"{server}\",verdict=\"");
    let verdict = metrics.lines().filter_map(|line| line.strip_prefix(&holds)).find(|line| line.ends_with("} 1"))?;
    Some((rounds as u64, verdict.split('"').next()?.to_owned()))
}

/// The faults of nfs-ganesha.
fn of_ganesha(server: &RefCell<Ganesha>) -> Vec<Fault<'_>> {
    let ganesha = move || server.borrow_mut();
    vec![
        fault("stopped", &["server_down"], move || ganesha().pause(), move || ganesha().resume()),
        fault("killed", &["server_down"], move || ganesha().kill(), move || ganesha().restart(|_| ()).unwrap()),
        fault(
            "dropped",
            &["unreachable", "server_down"],
            move || ganesha().firewall(Firewall::Drop).unwrap(),
            move || ganesha().firewall(Firewall::Open).unwrap(),
        ),
        fault(
            "rejected",
            &["server_down"],
            move || ganesha().firewall(Firewall::Reject).unwrap(),
            move || ganesha().firewall(Firewall::Open).unwrap(),
        ),
        fault(
            "read-only",
            &["readonly"],
            move || ganesha().restart(|setup| setup.writable = false).unwrap(),
            move || ganesha().restart(|setup| setup.writable = true).unwrap(),
        ),
        fault(
            "export gone",
            &["denied"],
            move || ganesha().restart(|setup| setup.exported = false).unwrap(),
            move || ganesha().restart(|setup| setup.exported = true).unwrap(),
        ),
        fault("restarted", &["ok", "grace"], move || ganesha().restart(|_| ()).unwrap(), || ()),
    ]
}

/// The faults of the kernel's server.
fn of_knfsd(knfsd: &Knfsd) -> Vec<Fault<'_>> {
    let home = "rw,no_root_squash,insecure,no_subtree_check,fsid=11";
    let restart = move || {
        knfsd.start_again().unwrap();
        knfsd.end_grace().unwrap();
    };
    vec![
        fault(
            "hung",
            &["server_down"],
            move || knfsd.pause_exports().unwrap(),
            move || knfsd.resume_exports().unwrap(),
        ),
        fault("killed", &["server_down"], move || knfsd.stop().unwrap(), restart),
        fault(
            "dropped",
            &["unreachable", "server_down"],
            move || knfsd.firewall(2049, Firewall::Drop).unwrap(),
            move || knfsd.firewall(2049, Firewall::Open).unwrap(),
        ),
        fault(
            "rejected",
            &["server_down"],
            move || knfsd.firewall(2049, Firewall::Reject).unwrap(),
            move || knfsd.firewall(2049, Firewall::Open).unwrap(),
        ),
        fault(
            "read-only",
            &["readonly"],
            move || knfsd.export("/srv/home", Some("ro,insecure,no_subtree_check,fsid=11")).unwrap(),
            move || knfsd.export("/srv/home", Some(home)).unwrap(),
        ),
        fault(
            "export gone",
            &["denied", "stale"],
            move || knfsd.export("/srv/home", None).unwrap(),
            move || knfsd.export("/srv/home", Some(home)).unwrap(),
        ),
        fault(
            "restarted",
            &["ok", "grace"],
            move || {
                knfsd.stop().unwrap();
                restart();
            },
            || (),
        ),
    ]
}

#[test]
fn random_faults_make_no_false_alarm_and_none_is_missed() {
    const ROUNDS: u64 = 2;
    let most: u64 = asked("NFS_FAULT_ROUNDS").map_or(60, |text| text.parse().unwrap());
    let ganesha = RefCell::new(Ganesha::start(Setup { grace: 2, ..Setup::default() }).unwrap());
    let knfsd = Knfsd::start(&[]).unwrap();
    let servers = [format!("{}/home", ganesha.borrow().address()), format!("{}/srv/home", knfsd.address())];
    let joined = servers.join(",");
    let settings =
        [("NFS_SERVERS", joined.as_str()), ("NFS_INTERVAL", "1s"), ("NFS_TIMEOUT", "10s"), ("NFS_MOUNTS", "no")];
    let daemon = Daemon::start(env!("CARGO_BIN_EXE_nfs-health"), &["run"], &settings).unwrap();
    let faults = [of_ganesha(&ganesha), of_knfsd(&knfsd)];
    let well: &[&str] = &["ok", "grace"];
    let mut random = Random(asked("NFS_FAULT_SEED").map_or(20_261_128, |text| text.parse().unwrap()));
    let mut done: Vec<String> = Vec::new();
    // Waits until the verdict is one of those, after the running round and the rounds that must agree.
    let until = |server: &str, wanted: &[&str], done: &[String]| {
        let (start, _) = wait::until(LIMIT, || shown(&daemon, server)).unwrap();
        let mut last = None;
        let seen = wait::until(LIMIT, || {
            let (rounds, verdict) = shown(&daemon, server)?;
            last = Some((rounds, verdict.clone()));
            let (is_wanted, is_late) = (wanted.contains(&verdict.as_str()), rounds > start + 1 + ROUNDS);
            (is_wanted || is_late).then_some(is_wanted)
        });
        assert_eq!(
            seen,
            Some(true),
            "{server} since round {start}: {last:?}, not {wanted:?}; {done:#?}\n{}",
            daemon.log()
        );
    };
    for server in &servers {
        until(server, well, &done);
    }
    let counted = || servers.iter().map(|server| shown(&daemon, server).map_or(0, |(rounds, _)| rounds)).sum::<u64>();
    while counted() < most {
        let at = random.below(servers.len());
        let (server, other) = (&servers[at], &servers[1 - at]);
        let Fault { name, apply, heal, verdicts } = &faults[at][random.below(faults[at].len())];
        done.push(format!("{server}: {name}"));
        apply();
        until(server, verdicts, &done);
        // The verdict stays for a while, and that of the other server does not change.
        let (start, _) = shown(&daemon, server).unwrap();
        let stay = start + random.below(3) as u64;
        wait::until(LIMIT, || {
            let (rounds, verdict) = shown(&daemon, server)?;
            assert!(verdicts.contains(&verdict.as_str()), "{server}: {verdict}; {done:#?}\n{}", daemon.log());
            let (_, verdict) = shown(&daemon, other)?;
            assert!(well.contains(&verdict.as_str()), "{other}: {verdict}; {done:#?}\n{}", daemon.log());
            (rounds >= stay).then_some(())
        })
        .unwrap();
        heal();
        until(server, well, &done);
    }
    println!("{} rounds, {} faults: {}", counted(), done.len(), done.join(", "));
}
