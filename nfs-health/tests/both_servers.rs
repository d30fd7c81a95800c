//! `nfs-health` against both NFS servers that people have: nfs-ganesha, and that of the Linux kernel, in each version and each
//! state. The verdicts are written into docs/nfs.md.
//!
//! `NFS_MATRIX=write` writes the table anew; `NFS_FAULT_ROUNDS=1000` has random faults go on for that many rounds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exports;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use testbed::daemon::Daemon;
use testbed::ganesha::{Firewall, Ganesha, Setup};
use testbed::knfsd::Knfsd;
use testbed::wait;

const LIMIT: Duration = Duration::from_secs(180);
const VERSIONS: [&str; 4] = ["3", "4.0", "4.1", "4.2"];

/// What a check said: verdict and phase, and the sentence.
struct Said {
    verdict: String,
    sentence: String,
    time: Duration,
}

/// How a check is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    /// As the shipped agent on a node, or who has a port below 1024 at least.
    Root,
    /// As one who gets no port below 1024.
    Nobody,
}

fn check(server: &str, version: &str, limit: &str, who: As) -> Said {
    let mut command = match who {
        As::Root => Command::new(env!("CARGO_BIN_EXE_nfs-health")),
        As::Nobody => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]);
            command.arg(env!("CARGO_BIN_EXE_nfs-health"));
            command
        }
    };
    command.arg("check").env("NFS_SERVERS", server).env("NFS_VERSION", version).env("NFS_TIMEOUT", limit);
    let start = Instant::now();
    let output = command.env("NFS_MOUNTS", "no").output().unwrap();
    let time = start.elapsed();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let said = line.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    let (verdict, sentence) = said.split_once(": ").unwrap();
    Said { verdict: verdict.to_owned(), sentence: format!("{sentence}\n{text}"), time }
}

/// One state of one server: what each version's check must say.
struct State {
    name: &'static str,
    server: &'static str,
    /// Verdict and phase by version, in the order of [`VERSIONS`].
    seen: Vec<String>,
    waits: bool,
}

#[derive(Default)]
struct Matrix(Vec<State>);

impl Matrix {
    /// Checks all versions in a state, and notes what they said; each must be one of `expected`.
    fn note(&mut self, name: &'static str, server: &'static str, place: &str, expected: &[&str]) {
        self.note_as(name, server, place, expected, As::Root, &mut || ());
    }

    fn note_as(
        &mut self,
        name: &'static str,
        server: &'static str,
        place: &str,
        expected: &[&str],
        who: As,
        before: &mut dyn FnMut(),
    ) {
        // What must be waited for is not waited for long, and what answers has all the time of a busy machine.
        let waits = expected.iter().any(|expected| expected.starts_with("unreachable")) || name.starts_with("stopped");
        let limit = if waits { "4s" } else { "60s" };
        let said = if waits {
            // Side by side: each waits its whole time, and none minds the others.
            std::thread::scope(|scope| {
                let checks = VERSIONS.map(|version| scope.spawn(move || check(place, version, limit, who)));
                checks.map(|check| check.join().unwrap())
            })
        } else {
            VERSIONS.map(|version| {
                before();
                check(place, version, limit, who)
            })
        };
        for (version, said) in VERSIONS.iter().zip(&said) {
            assert!(
                expected.contains(&said.verdict.as_str()),
                "{server}, {name}, version {version}: {} and none of {expected:?}: {}",
                said.verdict,
                said.sentence
            );
            assert!(!waits || said.time >= Duration::from_secs(4), "{server}, {name}: {:?} of patience", said.time);
        }
        let seen = said.map(|said| said.verdict);
        self.0.push(State { name, server, seen: seen.into(), waits });
    }

    /// The table, states in the order in which they were first noted.
    fn table(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for state in &self.0 {
            if !names.contains(&state.name) {
                names.push(state.name);
            }
        }
        let mut table = String::from("| state | nfs-ganesha | Linux (knfsd) | when |\n|---|---|---|---|\n");
        for name in names {
            let of = |server: &str| self.0.iter().find(|state| (state.name, state.server) == (name, server));
            let cell = |server| of(server).map_or_else(|| "–".to_owned(), |state| state.cell());
            let waits = ["ganesha", "knfsd"].iter().any(|server| of(server).is_some_and(|state| state.waits));
            let when = if waits { "after `NFS_TIMEOUT`" } else { "at once" };
            table += &format!("| {name} | {} | {} | {when} |\n", cell("ganesha"), cell("knfsd"));
        }
        table
    }
}

impl State {
    /// Each verdict with the versions that have it, which are left out where all do.
    fn cell(&self) -> String {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (version, seen) in VERSIONS.iter().zip(&self.seen) {
            versions.entry(seen).or_default().push(version);
        }
        let written = |seen: &str| {
            let (verdict, phase) = seen.split_once(' ').unwrap_or((seen, ""));
            format!("`{verdict}` {phase}")
        };
        if let [(seen, _)] = &versions.iter().collect::<Vec<_>>()[..] {
            return written(seen);
        }
        let mut cells: Vec<(&str, String)> = versions
            .iter()
            .map(|(seen, versions)| (versions[0], format!("{}: {}", versions.join(", "), written(seen))))
            .collect();
        cells.sort_unstable();
        cells.into_iter().map(|(_, cell)| cell).collect::<Vec<_>>().join("; ")
    }
}

const ABOVE: &str = "<!-- the matrix: written by nfs-health/tests/both_servers.rs -->\n";
const BELOW: &str = "<!-- end of the matrix -->\n";

/// What whoever runs these tests asks for.
fn asked(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Compares the table with that in the documents, or writes it there.
fn keep(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/nfs.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(ABOVE).unwrap();
    let (written, after) = rest.split_once(BELOW).unwrap();
    if asked("NFS_MATRIX").as_deref() == Some("write") {
        std::fs::write(&path, format!("{before}{ABOVE}{table}{BELOW}{after}")).unwrap();
    } else {
        assert_eq!(written, table, "docs/nfs.md is out of date: run this test with NFS_MATRIX=write");
    }
}

fn of_ganesha(matrix: &mut Matrix) -> Ganesha {
    let mut ganesha = Ganesha::start(Setup { grace: 20, ..Setup::default() }).unwrap();
    let home = format!("{}/home", ganesha.address());
    let mut note = |name, expected: &[&str]| matrix.note(name, "ganesha", &home, expected);
    note("healthy", &["ok compound"]);
    ganesha.pause();
    note("stopped: it takes connections, and does not answer", &["server_down null"]);
    ganesha.resume();
    ganesha.firewall(Firewall::Drop).unwrap();
    note("a firewall drops", &["unreachable connect"]);
    ganesha.firewall(Firewall::Reject).unwrap();
    note("a firewall rejects", &["server_down connect"]);
    ganesha.firewall(Firewall::Open).unwrap();
    ganesha.kill();
    note("killed", &["server_down connect"]);
    ganesha.restart(|_| ()).unwrap();
    std::fs::write(ganesha.export().join("hello"), "there").unwrap();
    testbed::command::run_args("nfs-cat", &[&format!("nfs://{}/home/hello?version=4", ganesha.address())]).unwrap();
    ganesha.restart(|_| ()).unwrap();
    // Version 3 and 4.0 do not tell.
    note("restarted, while clients may reclaim", &["grace session", "grace compound", "ok compound"]);
    // Another one, for which no client has anything to reclaim.
    drop(ganesha);
    let mut ganesha = Ganesha::start(Setup { exported: false, ..Setup::default() }).unwrap();
    let home = format!("{}/home", ganesha.address());
    let mut note = |name, expected: &[&str]| matrix.note(name, "ganesha", &home, expected);
    note("the export is gone", &["denied compound", "denied mountd"]);
    ganesha.restart(|setup| (setup.exported, setup.writable) = (true, false)).unwrap();
    note("read-only", &["readonly compound"]);
    ganesha.restart(|setup| (setup.writable, setup.squash) = (true, "All_Squash")).unwrap();
    note("squashed (`all_squash`)", &["ok compound"]);
    ganesha.restart(|setup| (setup.squash, setup.security) = ("No_Root_Squash", "krb5")).unwrap();
    note("Kerberos only", &["denied compound", "denied mountd"]);
    ganesha.restart(|setup| (setup.security, setup.privileged) = ("sys", true)).unwrap();
    note("ports below 1024 only (Linux' default), and the prober has one", &["ok compound"]);
    let denied = ["denied compound", "denied mountd"];
    let name = "ports below 1024 only, and the prober has none";
    matrix.note_as(name, "ganesha", &home, &denied, As::Nobody, &mut || ());
    ganesha.restart(|setup| setup.privileged = false).unwrap();
    let full = Ganesha::start(Setup { size: Some("2m"), ..Setup::default() }).unwrap();
    let filler = full.export().join("filler");
    full.inside(&["sh", "-c", &format!("! dd if=/dev/zero of={} bs=64k 2>/dev/null", filler.display())]).unwrap();
    matrix.note("full", "ganesha", &format!("{}/home", full.address()), &["full compound"]);
    ganesha
}

fn of_knfsd(matrix: &mut Matrix, knfsd: &mut Knfsd, ganesha: &Ganesha) {
    let place = |export: &str| format!("{}/srv/{export}", knfsd.address());
    let home = place("home");
    matrix.note("healthy", "knfsd", &home, &["ok compound"]);
    knfsd.pause_exports().unwrap();
    let stopped = "stopped: it takes connections, and does not answer";
    matrix.note(stopped, "knfsd", &home, &["server_down compound", "server_down mountd", "server_down session"]);
    knfsd.resume_exports().unwrap();
    let well = || Some(check(&home, "3", "60s", As::Root).verdict).filter(|verdict| verdict.starts_with("ok"));
    wait::until(LIMIT, well).unwrap();
    knfsd.firewall(2049, Firewall::Drop).unwrap();
    matrix.note("a firewall drops", "knfsd", &home, &["unreachable connect"]);
    knfsd.firewall(2049, Firewall::Reject).unwrap();
    matrix.note("a firewall rejects", "knfsd", &home, &["server_down connect"]);
    // What version 3 needs besides is named.
    for (port, phase) in [(20048, "server_down mountd"), (111, "server_down portmapper")] {
        knfsd.firewall(port, Firewall::Reject).unwrap();
        let said = check(&home, "3", "60s", As::Root);
        assert!(said.verdict == phase && said.sentence.contains("NFS itself answers"), "{}", said.sentence);
        knfsd.firewall(port, Firewall::Drop).unwrap();
        assert_eq!(check(&home, "3", "4s", As::Root).verdict, phase);
    }
    knfsd.firewall(111, Firewall::Open).unwrap();
    knfsd.stop().unwrap();
    matrix.note("killed", "knfsd", &home, &["server_down connect"]);
    let mut again = || {
        knfsd.stop().unwrap();
        knfsd.start_again().unwrap();
    };
    let expected = ["grace session", "grace compound", "ok compound"];
    matrix.note_as("restarted, while clients may reclaim", "knfsd", &home, &expected, As::Root, &mut again);
    knfsd.end_grace().unwrap();
    knfsd.export("/srv/home", None).unwrap();
    matrix.note("the export is gone", "knfsd", &home, &["denied compound", "denied mountd"]);
    knfsd.export("/srv/home", Some("rw,no_root_squash,insecure,no_subtree_check,fsid=11")).unwrap();
    matrix.note("read-only", "knfsd", &place("readonly"), &["readonly compound"]);
    matrix.note("squashed (`all_squash`)", "knfsd", &place("squashed"), &["ok compound"]);
    matrix.note("Kerberos only", "knfsd", &place("kerberos"), &["denied compound", "denied mountd"]);
    let (name, nobody) = (
        "ports below 1024 only (Linux' default), and the prober has one",
        "ports below 1024 only, and the prober has none",
    );
    matrix.note(name, "knfsd", &place("default"), &["ok compound"]);
    let denied = ["denied compound", "denied mountd"];
    matrix.note_as(nobody, "knfsd", &place("default"), &denied, As::Nobody, &mut || ());
    knfsd.run("! dd if=/dev/zero of=/srv/full/filler bs=64k 2>/dev/null").unwrap();
    matrix.note("full", "knfsd", &place("full"), &["full compound"]);
    let fill = |folder: &str| {
        let line = format!("! su writer -c 'dd if=/dev/zero of=/srv/quota/{folder}filler bs=64k count=64 conv=fsync'");
        knfsd.run(&line).unwrap();
    };
    fill("");
    matrix.note("over the quota of a user (fs-keepalive notices)", "knfsd", &place("quota"), &["ok compound"]);
    knfsd.run("rm /srv/quota/filler").unwrap();
    fill("project/");
    matrix.note("over the quota of a folder (XFS project)", "knfsd", &place("quota/project"), &["full compound"]);
    let elsewhere = format!("ro,insecure,no_subtree_check,fsid=16,refer=/home@{}", ganesha.address());
    knfsd.export("/srv/referral", Some(&elsewhere)).unwrap();
    // Version 3 has no referrals: what is there is an empty folder.
    let expected = ["ok compound", "readonly compound", "denied mountd"];
    matrix.note("a referral to a server that is healthy", "knfsd", &place("referral"), &expected);
}

#[test]
fn each_state_of_both_servers_has_its_verdict_in_each_version() {
    let mut matrix = Matrix::default();
    let ganesha = of_ganesha(&mut matrix);
    let mut knfsd = Knfsd::start(&[Path::new(env!("CARGO_BIN_EXE_nfs-health"))]).unwrap();
    of_knfsd(&mut matrix, &mut knfsd, &ganesha);
    of_paths(&knfsd, &ganesha);
    of_the_node(&knfsd);
    keep(&matrix.table());
}

/// Paths, refusals and what is said of them.
fn of_paths(knfsd: &Knfsd, ganesha: &Ganesha) {
    let place = |export: &str| format!("{}/srv/{export}", knfsd.address());
    let said = |export: &str, version: &str, wanted: &str, words: &str| {
        let said = check(&place(export), version, "60s", As::Root);
        assert!(
            said.verdict == wanted && said.sentence.contains(words),
            "{export}: {} {}",
            said.verdict,
            said.sentence
        );
    };
    said("home/link", "4.2", "ok compound", "by links at /srv/home/sub");
    said("home/link/.", "4.0", "ok compound", "by links at /srv/home/sub");
    said("home/closed/hub", "4.2", "ok compound", "as root, because other users may not access it");
    said("home/closed/hub", "3", "ok compound", "");
    said("nowhere", "4.2", "denied compound", "there is no such export");
    said("kerberos", "4.2", "denied compound", "the server serves, and wants Kerberos (sec=krb5)");
    said("kerberos", "3", "denied mountd", "the server serves, and wants Kerberos (sec=krb5)");
    said("referral", "4.1", "ok compound", &format!("the server refers to {}/home", ganesha.address()));
    let nobody = check(&place("default"), "4.2", "60s", As::Nobody);
    assert!(nobody.sentence.contains("NFS4ERR_PERM") && nobody.sentence.contains("`insecure`"), "{}", nobody.sentence);
    knfsd.run("mkdir -p -m 0700 /srv/rootsquash/closed/hub && chmod 0700 /srv/rootsquash/closed").unwrap();
    said("rootsquash/closed/hub", "4.2", "denied compound", "may enter /srv/rootsquash/closed");
    knfsd.export("/srv/referral", Some("ro,insecure,no_subtree_check,fsid=16,refer=/home@127.0.0.9")).unwrap();
    let lost = check(&place("referral"), "4.2", "60s", As::Root);
    assert!(
        lost.verdict == "server_down connect" && lost.sentence.contains("refers to 127.0.0.9/home"),
        "{}",
        lost.sentence
    );
}

/// Where the mounts are: inside the machine, whose own server they are of.
fn of_the_node(knfsd: &Knfsd) {
    let mount = |export: &str, point: &str| {
        let options = "vers=4.2,hard,proto=tcp,addr=127.0.0.1,clientaddr=127.0.0.1";
        knfsd.run(&format!("mkdir -p {point}; mount -t nfs4 -o {options} 127.0.0.1:{export} {point}")).unwrap();
    };
    let verdict = |command: &str, words: &str| {
        let said = knfsd.run(&format!("NFS_TIMEOUT=20s {command} check")).unwrap();
        assert!(said.lines().last().unwrap().contains(words), "{command}: {said}");
        said
    };
    mount("/srv/default", "/mnt/default");
    verdict("nfs-health", "verdict             ok");
    let said =
        verdict("unshare -n nfs-health", "the mounts here answer, but the server rejects this process (connect: ");
    assert!(said.contains("127.0.0.1/srv/default"), "{said}");
    // What covers a mount is not taken for it.
    knfsd
        .run("mount -t tmpfs -o size=64k tmpfs /mnt/default && ! dd if=/dev/zero of=/mnt/default/x 2>/dev/null")
        .unwrap();
    let said = verdict("nfs-health", "verdict             ok");
    assert!(said.contains("the path leads to another file system"), "{said}");
    knfsd.run("umount /mnt/default && umount /mnt/default").unwrap();
}

/// A fault that is done to a server, and undone; and the verdicts that are right for it.
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

/// Numbers that look random, from a seed (xorshift).
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
    let of_ganesha = || ganesha.borrow_mut();
    let home = "rw,no_root_squash,insecure,no_subtree_check,fsid=11";
    let restart = || {
        knfsd.start_again().unwrap();
        knfsd.end_grace().unwrap();
    };
    let faults = [
        vec![
            fault("stopped", &["server_down"], || of_ganesha().pause(), || of_ganesha().resume()),
            fault("killed", &["server_down"], || of_ganesha().kill(), || of_ganesha().restart(|_| ()).unwrap()),
            fault(
                "dropped",
                &["unreachable", "server_down"],
                || of_ganesha().firewall(Firewall::Drop).unwrap(),
                || of_ganesha().firewall(Firewall::Open).unwrap(),
            ),
            fault(
                "rejected",
                &["server_down"],
                || of_ganesha().firewall(Firewall::Reject).unwrap(),
                || of_ganesha().firewall(Firewall::Open).unwrap(),
            ),
            fault(
                "read-only",
                &["readonly"],
                || of_ganesha().restart(|setup| setup.writable = false).unwrap(),
                || of_ganesha().restart(|setup| setup.writable = true).unwrap(),
            ),
            fault(
                "export gone",
                &["denied"],
                || of_ganesha().restart(|setup| setup.exported = false).unwrap(),
                || of_ganesha().restart(|setup| setup.exported = true).unwrap(),
            ),
            fault("restarted", &["ok", "grace"], || of_ganesha().restart(|_| ()).unwrap(), || ()),
        ],
        vec![
            fault("hung", &["server_down"], || knfsd.pause_exports().unwrap(), || knfsd.resume_exports().unwrap()),
            fault("killed", &["server_down"], || knfsd.stop().unwrap(), restart),
            fault(
                "dropped",
                &["unreachable", "server_down"],
                || knfsd.firewall(2049, Firewall::Drop).unwrap(),
                || knfsd.firewall(2049, Firewall::Open).unwrap(),
            ),
            fault(
                "rejected",
                &["server_down"],
                || knfsd.firewall(2049, Firewall::Reject).unwrap(),
                || knfsd.firewall(2049, Firewall::Open).unwrap(),
            ),
            fault(
                "read-only",
                &["readonly"],
                || knfsd.export("/srv/home", Some("ro,insecure,no_subtree_check,fsid=11")).unwrap(),
                || knfsd.export("/srv/home", Some(home)).unwrap(),
            ),
            fault(
                "export gone",
                &["denied", "stale"],
                || knfsd.export("/srv/home", None).unwrap(),
                || knfsd.export("/srv/home", Some(home)).unwrap(),
            ),
            fault(
                "restarted",
                &["ok", "grace"],
                || {
                    knfsd.stop().unwrap();
                    restart();
                },
                || (),
            ),
        ],
    ];
    let well: &[&str] = &["ok", "grace"];
    let mut random = Random(asked("NFS_FAULT_SEED").map_or(20_261_128, |text| text.parse().unwrap()));
    let mut done: Vec<String> = Vec::new();
    // Waits until the verdict is one of those; a round that began before may end, and those that must agree.
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
        // It stays so for a while, and the other server has nothing to do with it.
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
