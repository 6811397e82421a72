//! Numbers that a daemon keeps about itself: counters that only grow and gauges that are set.
//! A name is given once, in code; there are no labels per node.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One number of a [`Health`].
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// `n` more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The number is now `n` (gauges).
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// What it stands at.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All numbers of one daemon.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<&'static str, Counter>>>);

impl Health {
    /// No numbers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number with this name; the first call makes it.
    #[must_use]
    pub fn counter(&self, name: &'static str) -> Counter {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().clone()
    }

    /// All names and numbers, ordered by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, u64)> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters.iter().map(|(name, counter)| ((*name).to_owned(), counter.value())).collect()
    }

    /// Resident memory of this process in bytes, where the system tells.
    #[must_use]
    pub fn resident() -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_is_the_same_number() {
        let health = Health::new();
        health.counter("dropped").one();
        health.counter("dropped").add(2);
        health.counter("answers").set(7);
        assert_eq!(health.all(), [("answers".to_owned(), 7), ("dropped".to_owned(), 3)]);
    }

    #[test]
    fn a_process_knows_its_size() {
        assert!(Health::resident().is_some_and(|bytes| bytes > 100_000));
    }
}
