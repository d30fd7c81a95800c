//! From a program's `main` to its exit code.

use std::future::Future;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::settings::{EXIT_USAGE, Problems};
use crate::{causes, stdio};

/// The most threads for blocking calls (name lookups and files). A resolver that hangs blocks at most these.
const MOST_BLOCKING: usize = 16;

/// Runs `program` on one thread and returns its exit code: the program's own; 0 after `--help`; [`EXIT_USAGE`] after it
/// printed what is wrong with the arguments or settings; 1 after it printed any other error with its causes. It does
/// not wait for threads that are still blocked.
pub fn run(name: &str, program: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(MOST_BLOCKING).build();
    let done = runtime.map_err(Into::into).and_then(|runtime| {
        let done = runtime.block_on(program);
        runtime.shutdown_background();
        done
    });
    done.unwrap_or_else(|error| failed(name, &error))
}

fn failed(name: &str, error: &anyhow::Error) -> ExitCode {
    if let Some(problems) = error.downcast_ref::<Problems>() {
        return problems.report();
    }
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        let printed = stdio::printed(usage.print());
        return match usage.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                printed.map_or_else(|error| failed(name, &error), |()| ExitCode::SUCCESS)
            }
            _ => ExitCode::from(EXIT_USAGE),
        };
    }
    stdio::complain(&format!("{name}: {}", causes::with_causes(error.as_ref())));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(done: anyhow::Result<ExitCode>) -> String {
        format!("{:?}", run("thing", async { done }))
    }

    #[test]
    fn each_result_has_its_exit_code() {
        let shown = |code: u8| format!("{:?}", ExitCode::from(code));
        let mut problems = Problems::default();
        problems.add("THING", "is wrong", "right");
        assert_eq!(exit(Ok(ExitCode::from(3))), shown(3));
        assert_eq!(exit(Err(problems.into())), shown(EXIT_USAGE));
        assert_eq!(exit(Err(clap::Error::new(ErrorKind::UnknownArgument).into())), shown(EXIT_USAGE));
        assert_eq!(exit(Err(clap::Error::new(ErrorKind::DisplayHelp).into())), shown(0));
        assert_eq!(exit(Err(anyhow::anyhow!("broken"))), shown(1));
    }

    #[test]
    fn the_end_does_not_wait_for_a_hung_thread() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let done = run("thing", async {
            // Blocks until the sender is dropped, which is after this program.
            tokio::task::spawn_blocking(move || receiver.recv());
            Ok(ExitCode::SUCCESS)
        });
        assert_eq!(format!("{done:?}"), format!("{:?}", ExitCode::SUCCESS));
        drop(sender);
    }
}
