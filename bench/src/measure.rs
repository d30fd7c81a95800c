//! The time, CPU time and peak resident memory of a program, for all its threads.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use testbed::process::Process;

/// The time between two samples of a running program.
const LOOK: Duration = Duration::from_millis(5);

/// The resources that a program has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Since its start.
    pub(crate) time: Duration,
    /// User and system time, including those of children that it waited for.
    pub(crate) cpu: Duration,
    /// Peak resident memory, in bytes.
    pub(crate) peak: u64,
}

/// A program that is measured. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Subject {
    process: Process,
    started: Instant,
    taken: Taken,
}

/// A command with only these settings in its environment.
pub(crate) fn command(binary: impl AsRef<Path>, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new("env");
    command.arg("-i").args(settings.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(binary.as_ref()).args(arguments);
    command
}

/// The path of a daemon's program; `bench/run` sets it.
pub(crate) fn program(name: &str) -> Result<std::path::PathBuf> {
    let folder = std::env::var_os("BINARIES").context("BINARIES is not set: start this through bench/run")?;
    let path = Path::new(&folder).join(name);
    if path.exists() { Ok(path) } else { bail!("{} is missing", path.display()) }
}

impl Subject {
    /// Starts a program with its output in a file.
    pub(crate) fn start(name: &str, command: &Command, log: &Path) -> Result<Self> {
        let started = Instant::now();
        Ok(Self { process: Process::start(name, command, log)?, started, taken: Taken::default() })
    }

    /// The process, to signal it.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The resources used so far, or the last known ones once it has ended.
    pub(crate) fn taken(&mut self) -> Taken {
        let proc = format!("/proc/{}", self.process.id());
        self.taken.time = self.started.elapsed();
        if let Some(cpu) = cpu_of(self.process.id()) {
            self.taken.cpu = cpu;
        }
        if let Some(peak) = fs::read_to_string(format!("{proc}/status")).ok().as_deref().and_then(peak) {
            self.taken.peak = peak;
        }
        self.taken
    }

    /// Waits until the program ends. It must succeed.
    pub(crate) fn until_end(mut self, limit: Duration) -> Result<Taken> {
        let pid = Pid::from_raw(self.process.id()).context("a process has an id")?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let deadline = Instant::now() + limit;
        // It stays a zombie until its last figures are read.
        while waitid(WaitId::Pid(pid), options)?.is_none() {
            self.taken();
            if Instant::now() > deadline {
                bail!("it still runs after {limit:?}; the end of its log:\n{}", self.log_end());
            }
            std::thread::sleep(LOOK);
        }
        let taken = self.taken();
        let status = self.process.wait(Duration::from_secs(5))?;
        if status.success() {
            Ok(taken)
        } else {
            bail!("it ended with {status}; the end of its log:\n{}", self.log_end())
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn log_end(&self) -> String {
        let text = fs::read_to_string(self.process.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// The CPU time that another program, such as a runtime's engine, has used so far.
pub(crate) fn cpu_of(id: i32) -> Option<Duration> {
    fs::read_to_string(format!("/proc/{id}/stat")).ok().as_deref().and_then(cpu)
}

/// The peak resident memory of another program so far, in bytes.
pub(crate) fn peak_of(id: i32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{id}/status")).ok().as_deref().and_then(peak)
}

/// User and system time from `/proc/PID/stat`: fields 14 to 17, counted after the name in parentheses.
fn cpu(stat: &str) -> Option<Duration> {
    let fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
    let ticks = fields.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// How long all threads of a process were on a core, to the nanosecond.
pub(crate) fn on_cpu(process: i32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The machine and the day, for the README.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let info = read("/proc/cpuinfo");
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, model)| model);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{}, {cores} cores ({}), Linux {}, load {load} at the start",
        jiff::Zoned::now().date(),
        model.trim(),
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_cpu_and_memory_are_seen_after_its_end() {
        let folder = testbed::folder::Folder::new("measure").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
        let taken =
            Subject::start("sh", &command, &folder.join("log")).unwrap().until_end(Duration::from_secs(60)).unwrap();
        assert!(taken.cpu > Duration::ZERO && taken.cpu <= 2 * taken.time, "{taken:?}");
        assert!(taken.peak > 100_000, "{taken:?}");
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_is_skipped() {
        let stat = "1 (a b) c) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1";
        assert_eq!(cpu(stat), Some(Duration::from_millis(2500)));
    }
}
