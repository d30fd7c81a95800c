//! The daemon's side: starts the child, checks its heartbeat, kills it, and never blocks on it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::Phase;
use crate::child::{Line, MOST_BYTES, SUBCOMMAND};

/// How long a killed child may take to end before it counts as stuck.
const REAP_LIMIT: Duration = Duration::from_secs(2);

/// Touches one volume, with at most one child at a time.
#[derive(Debug)]
pub struct Helper {
    program: PathBuf,
    limit: Duration,
    stuck: Option<StuckChild>,
}

#[derive(Debug)]
struct StuckChild {
    child: Child,
    /// Kept here, because `Child` forgets it once the child was reaped.
    pid: u32,
    phase: Option<Phase>,
    since: Instant,
}

/// The result of an order.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<A> {
    /// The child answered.
    Answered {
        /// Its answer.
        answer: A,
        /// The phases of the child, with their durations.
        phases: Vec<(Phase, Duration)>,
    },
    /// The file system did not answer within the limit; the child was killed and is gone.
    Hung {
        /// The phase that hung; `None` if the child did not start any.
        phase: Option<Phase>,
        /// The phases that ended before, with their durations.
        phases: Vec<(Phase, Duration)>,
        /// How long it hung until it was killed.
        after: Duration,
    },
    /// As `Hung`, but SIGKILL does not end the child, or an earlier child is still there. No new child was started.
    Stuck {
        /// The phase that hung.
        phase: Option<Phase>,
        /// The phases that ended before, with their durations.
        phases: Vec<(Phase, Duration)>,
        /// How long it has hung.
        after: Duration,
        /// The child's process id.
        pid: u32,
        /// The kernel function in which it waits, if the system shows it.
        waits_in: Option<String>,
    },
}

/// Why a child gave no answer although the file system did not hang.
#[expect(missing_docs, reason = "the messages show what the fields are")]
#[derive(Debug, Error)]
pub enum HelperError {
    /// The child could not be started.
    #[error("cannot start {program} as a child: {source}")]
    Start { program: PathBuf, source: std::io::Error },
    /// The child ended without an answer.
    #[error("the child that touches the volume ended without an answer ({status})")]
    NoAnswer { status: ExitStatus },
}

impl Helper {
    /// A helper that starts this same program. `limit` is the time limit of one phase.
    pub fn new(limit: Duration) -> Self {
        // The link points to this binary even if the file was replaced.
        Self::starting(PathBuf::from("/proc/self/exe"), limit)
    }

    /// A helper that starts `program`, whose main handles [`SUBCOMMAND`].
    pub fn starting(program: PathBuf, limit: Duration) -> Self {
        Self { program, limit, stuck: None }
    }

    /// Whether an earlier child is still stuck.
    pub fn is_stuck(&mut self) -> bool {
        if let Some(stuck) = &mut self.stuck
            && matches!(stuck.child.try_wait(), Ok(Some(_)) | Err(_))
        {
            tracing::info!(pid = stuck.pid, seconds = stuck.since.elapsed().as_secs(), "the stuck child has ended");
            self.stuck = None;
        }
        self.stuck.is_some()
    }

    /// Lets a child carry out `order`. Returns within the limit of each phase plus 2 s, whatever the file system does.
    ///
    /// # Errors
    ///
    /// [`HelperError`] if the child could not be started or ended without an answer.
    pub async fn run<O: Serialize, A: DeserializeOwned>(&mut self, order: &O) -> Result<Outcome<A>, HelperError> {
        if self.is_stuck()
            && let Some(stuck) = &self.stuck
        {
            return Ok(stuck.outcome(Vec::new()));
        }
        let mut child = self.start().await?;
        let mut conversation = Conversation::new(&mut child);
        conversation.give(order).await;
        let mut phases = Vec::new();
        let (mut phase, mut beat) = (None, Instant::now());
        loop {
            let line = tokio::time::timeout_at((beat + self.limit).into(), conversation.line()).await;
            match line {
                Ok(Some(Line::Started(next))) => (phase, beat) = (Some(next), Instant::now()),
                Ok(Some(Line::Ended(ended, nanoseconds))) => {
                    phases.push((ended, Duration::from_nanos(nanoseconds)));
                    beat = Instant::now();
                }
                Ok(Some(Line::Answer(answer))) => {
                    // The child only has to end. If it hangs even there, the next order finds it stuck.
                    self.end(child, phase, beat).await;
                    return Ok(Outcome::Answered { answer, phases });
                }
                Ok(None) => {
                    return match self.end(child, phase, beat).await {
                        Some(status) => Err(HelperError::NoAnswer { status }),
                        None => Ok(self.overdue(phase, phases, beat)),
                    };
                }
                Err(_) => {
                    let _ = child.start_kill();
                    self.end(child, phase, beat).await;
                    return Ok(self.overdue(phase, phases, beat));
                }
            }
        }
    }

    /// Waits a short time for a child that should end, and keeps it as stuck otherwise.
    async fn end(&mut self, mut child: Child, phase: Option<Phase>, since: Instant) -> Option<ExitStatus> {
        match tokio::time::timeout(REAP_LIMIT, child.wait()).await {
            Ok(status) => status.ok(),
            Err(_) => {
                let _ = child.start_kill();
                let pid = child.id().unwrap_or(0);
                self.stuck = Some(StuckChild { child, pid, phase, since });
                None
            }
        }
    }

    fn overdue<A>(&self, phase: Option<Phase>, phases: Vec<(Phase, Duration)>, since: Instant) -> Outcome<A> {
        match &self.stuck {
            Some(stuck) => stuck.outcome(phases),
            None => Outcome::Hung { phase, phases, after: since.elapsed() },
        }
    }

    async fn start(&self) -> Result<Child, HelperError> {
        Command::new(&self.program)
            .arg(OsString::from(SUBCOMMAND))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A stuck child must not keep the daemon's own streams open.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| HelperError::Start { program: self.program.clone(), source })
    }
}

impl StuckChild {
    fn outcome<A>(&self, phases: Vec<(Phase, Duration)>) -> Outcome<A> {
        let pid = self.pid;
        // This file can be read for a process in any state; reading `cmdline` and others may block.
        let waits_in = std::fs::read_to_string(format!("/proc/{pid}/wchan")).ok().filter(|name| name.len() > 1);
        Outcome::Stuck { phase: self.phase, phases, after: self.since.elapsed(), pid, waits_in }
    }
}

/// The two pipes to a child.
struct Conversation {
    stdin: Option<tokio::process::ChildStdin>,
    lines: Option<BufReader<tokio::io::Take<ChildStdout>>>,
}

impl Conversation {
    fn new(child: &mut Child) -> Self {
        let lines = child.stdout.take().map(|stdout| BufReader::with_capacity(1024, stdout.take(MOST_BYTES)));
        Self { stdin: child.stdin.take(), lines }
    }

    async fn give<O: Serialize>(&mut self, order: &O) {
        // If the child died already, the other pipe shows it.
        if let (Some(mut stdin), Ok(order)) = (self.stdin.take(), serde_json::to_vec(order)) {
            let _ = stdin.write_all(&order).await;
        }
    }

    /// The next line; `None` if the child closed its end or wrote something else.
    async fn line<A: DeserializeOwned>(&mut self) -> Option<Line<A>> {
        let mut text = Vec::new();
        let read = self.lines.as_mut()?.read_until(b'\n', &mut text).await;
        match read {
            Ok(length) if length > 0 => serde_json::from_slice(&text).ok(),
            _ => None,
        }
    }
}
