//! Reports that wait until a master has stored them.
//!
//! Invariant: a report leaves only when its number was answered, or when a newer report of the same kind
//! has taken its place. So the box holds at most one report of each kind; it cannot grow.

use std::mem::discriminant;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use wire::agent::{FromAgent, Report};

/// The box. Clones are the same box.
#[derive(Debug, Clone)]
pub struct Outbox {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    waiting: Vec<FromAgent>,
}

impl Outbox {
    /// An empty box.
    pub fn new() -> Self {
        Self { inner: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }
    }

    /// Puts a report in; one of the same kind that still waits is dropped.
    pub fn push(&self, report: Report) {
        let mut inner = self.lock();
        inner.last += 1;
        let sequence = inner.last;
        inner.waiting.retain(|waiting| discriminant(&waiting.report) != discriminant(&report));
        inner.waiting.push(FromAgent { sequence, report });
        self.changed.send_replace(sequence);
    }

    /// The report with this number is stored, or will never be.
    pub fn settled(&self, sequence: u64) {
        let mut inner = self.lock();
        inner.waiting.retain(|waiting| waiting.sequence != sequence);
        let last = inner.last;
        self.changed.send_replace(last);
    }

    /// What waits and has a number above `sent`.
    pub fn after(&self, sent: u64) -> Vec<FromAgent> {
        self.lock().waiting.iter().filter(|waiting| waiting.sequence > sent).cloned().collect()
    }

    /// Whether the master does not know yet that a step of the chain is done.
    pub fn has_next_destiny(&self) -> bool {
        self.lock().waiting.iter().any(|waiting| matches!(waiting.report, Report::NextDestiny { .. }))
    }

    /// Tells of every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits until everything is stored.
    pub async fn is_empty(&self) {
        let mut changes = self.changes();
        // The sender lives in `self`: it cannot be gone.
        let _ = changes.wait_for(|_| self.lock().waiting.is_empty()).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newer_report_takes_the_place_of_an_older_one_of_its_kind() {
        let outbox = Outbox::new();
        outbox.push(Report::Status("a".to_owned()));
        outbox.push(Report::HostKeys(Vec::new()));
        outbox.push(Report::Status("b".to_owned()));
        let sequences: Vec<_> = outbox.after(0).iter().map(|waiting| waiting.sequence).collect();
        assert_eq!(sequences, [2, 3]);
        outbox.settled(2);
        assert_eq!(outbox.after(0).len(), 1);
        assert!(outbox.after(3).is_empty());
        outbox.settled(3);
        outbox.is_empty().await;
    }
}
