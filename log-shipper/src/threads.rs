//! Threads that must run as long as the process: if one ends, even by a panic, the run ends.

use anyhow::Context;
use tokio::sync::mpsc::UnboundedSender;

/// A thread that ended too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name.
    pub name: &'static str,
    /// Whether it panicked.
    pub panicked: bool,
}

/// Reports when its thread ends, and how.
struct Guard {
    name: &'static str,
    ended: UnboundedSender<Ended>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // After the end of the run there is no receiver.
        let _ = self.ended.send(Ended { name: self.name, panicked: std::thread::panicking() });
    }
}

/// Starts a thread.
///
/// # Errors
///
/// The system's error.
pub fn thread(
    name: &'static str,
    ended: &UnboundedSender<Ended>,
    work: impl FnOnce() + Send + 'static,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let guard = Guard { name, ended: ended.clone() };
    let builder = std::thread::Builder::new().name(name.to_owned());
    let spawned = builder.spawn(move || {
        let _guard = guard;
        work();
    });
    spawned.with_context(|| format!("cannot start the {name} thread"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_thread_is_reported_and_a_panic_too() {
        let (ended, mut ends) = unbounded_channel();
        thread("one", &ended, || ()).unwrap();
        let end = ends.recv().await.unwrap();
        assert_eq!((end.name, end.panicked), ("one", false));
        thread("two", &ended, || panic!("on purpose")).unwrap();
        let end = ends.recv().await.unwrap();
        assert_eq!((end.name, end.panicked), ("two", true));
    }
}
