//! The orderly end of a daemon: every task has a name and one token tells them all to stop.
//!
//! Invariant: a task is in the register from its spawn to its end. Tasks that are still there when the
//! grace period is over are named and aborted.
//! This is the only place in the workspace that calls `tokio::spawn`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{debug, error};

/// The token and the register of tasks. Clones are the same drain.
#[derive(Debug, Clone)]
pub struct Drain {
    inner: Arc<Inner>,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain without tasks.
    #[must_use]
    pub fn new() -> Self {
        let register = Mutex::new(Register::default());
        Self {
            inner: Arc::new(Inner {
                stop: watch::Sender::new(false),
                running: watch::Sender::new(0),
                register,
            }),
        }
    }

    /// Runs `future` as a named task until it ends or the grace period is over.
    ///
    /// A panic ends this task only; it is logged and counted. Dropping the handle does not end the task.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let name = name.into();
        let mut register = self.inner.register();
        let id = register.next;
        register.next += 1;
        let guard = Guard { inner: self.inner.clone(), id };
        let shown = name.clone();
        let handle = tokio::spawn(async move {
            let guard = guard;
            match CatchPanic(Box::pin(future)).await {
                Ok(output) => output,
                Err(panic) => {
                    error!(task = %shown, "task panicked");
                    guard.inner.register().panics += 1;
                    std::panic::resume_unwind(panic)
                }
            }
        });
        register.tasks.insert(id, (name, handle.abort_handle()));
        self.inner.running.send_replace(register.tasks.len());
        handle
    }

    /// Tells every task to stop. Returns at once; may be called any number of times.
    pub fn stop(&self) {
        self.inner.stop.send_replace(true);
    }

    /// True after [`Drain::stop`].
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.inner.stop.borrow()
    }

    /// Waits for [`Drain::stop`]; the first branch of every loop's `select!`.
    pub async fn stopping(&self) {
        // The sender lives in `self`: it cannot be gone.
        let _ = self.inner.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// How many tasks panicked so far.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.inner.register().panics
    }

    /// Names of the tasks that run now.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.inner.register().tasks.values().map(|(name, _)| name.clone().into_owned()).collect()
    }

    /// Stops every task, waits up to `grace`, aborts the rest. Returns the names of those that did not
    /// stop by themselves. Must not be called from a task of this drain.
    pub async fn finish(&self, grace: Duration) -> Vec<String> {
        self.stop();
        let mut running = self.inner.running.subscribe();
        if tokio::time::timeout(grace, running.wait_for(|count| *count == 0)).await.is_ok() {
            return Vec::new();
        }
        let late: Vec<_> = self.inner.register().tasks.values().cloned().collect();
        for (name, handle) in &late {
            debug!(task = %name, "aborted after the grace period");
            handle.abort();
        }
        // An aborted task leaves the register when its future is dropped; a task that blocks its thread
        // never does, and is not waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), running.wait_for(|count| *count == 0)).await;
        late.into_iter().map(|(name, _)| name.into_owned()).collect()
    }

    /// Stops the drain when the process gets SIGTERM or SIGINT.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn stop_on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let drain = self.clone();
        self.spawn("signals", async move {
            tokio::select! {
                biased;
                () = drain.stopping() => {}
                _ = terminate.recv() => drain.stop(),
                _ = interrupt.recv() => drain.stop(),
            }
        });
        Ok(())
    }
}

#[derive(Debug)]
struct Inner {
    stop: watch::Sender<bool>,
    running: watch::Sender<usize>,
    register: Mutex<Register>,
}

#[derive(Debug, Default)]
struct Register {
    next: u64,
    panics: u64,
    tasks: BTreeMap<u64, (Cow<'static, str>, AbortHandle)>,
}

impl Inner {
    fn register(&self) -> std::sync::MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its task out of the register however the task ends.
struct Guard {
    inner: Arc<Inner>,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut register = self.inner.register();
        register.tasks.remove(&self.id);
        self.inner.running.send_replace(register.tasks.len());
    }
}

/// Polls a future and turns its panic into a value.
struct CatchPanic<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchPanic<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_listen_stop_within_the_grace_period() {
        let drain = Drain::new();
        for _ in 0..10 {
            let inner = drain.clone();
            drain.spawn("listener", async move { inner.stopping().await });
        }
        assert_eq!(drain.running().len(), 10);
        assert!(drain.finish(Duration::from_secs(10)).await.is_empty());
        assert!(drain.running().is_empty());
    }

    #[tokio::test]
    async fn a_task_that_does_not_listen_is_named_and_aborted() {
        let drain = Drain::new();
        let handle = drain.spawn("deaf", std::future::pending::<()>());
        assert_eq!(drain.finish(Duration::from_millis(1)).await, ["deaf"]);
        assert!(handle.await.is_err_and(|error| error.is_cancelled()));
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_and_is_counted() {
        let drain = Drain::new();
        let handle = drain.spawn("bad", async { panic!("on purpose") });
        assert!(handle.await.is_err_and(|error| error.is_panic()));
        assert_eq!(drain.panics(), 1);
        assert_eq!(drain.spawn("good", async { 7 }).await.ok(), Some(7));
        assert!(drain.finish(Duration::from_secs(1)).await.is_empty());
    }
}
