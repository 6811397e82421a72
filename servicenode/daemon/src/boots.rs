//! Nodes that shall boot into the discovery image the next time, whatever their destiny says.
//!
//! A node is listed by [`Boots::genesis_next`] before its power is touched and leaves the list when its
//! agent has reported from the discovery image, or after [`PATIENCE`]. The list outlives the daemon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use service::Clock;
use tracing::warn;

/// A machine that has not come by then will not come.
pub const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The list. Clones are the same list; it is bounded by the nodes of the rack.
#[derive(Debug, Clone, Default)]
pub struct Boots(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    nodes: HashMap<String, Instant>,
    file: Option<PathBuf>,
}

impl Boots {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The list kept in the file `path`; what cannot be read there is forgotten.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let (now, unix) = (Instant::now(), Clock::Real.unix());
        let since = |line: &str| {
            let (at, node) = line.split_once(' ')?;
            let age = Duration::from_secs(unix.saturating_sub(at.parse().ok()?));
            Some((node.to_owned(), now.checked_sub(age)?))
        };
        let nodes = text.lines().filter_map(since).collect();
        Self(Arc::new(Mutex::new(List { nodes, file: Some(path.to_owned()) })))
    }

    /// The node's next boot goes into the discovery image.
    pub fn genesis_next(&self, node: &str, now: Instant) {
        let mut list = self.list();
        list.nodes.retain(|_, since| now.saturating_duration_since(*since) < PATIENCE);
        list.nodes.insert(node.to_owned(), now);
        list.keep(now);
    }

    /// Whether the node's next boot goes into the discovery image.
    #[must_use]
    pub fn is_genesis_next(&self, node: &str, now: Instant) -> bool {
        self.list().nodes.get(node).is_some_and(|since| now.saturating_duration_since(*since) < PATIENCE)
    }

    /// The node was there. True when it had been listed.
    pub fn arrived(&self, node: &str) -> bool {
        let mut list = self.list();
        let listed = list.nodes.remove(node).is_some();
        if listed {
            list.keep(Instant::now());
        }
        listed
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn keep(&self, now: Instant) {
        let Some(path) = &self.file else { return };
        let unix = Clock::Real.unix();
        let line = |(node, since): (&String, &Instant)| {
            format!("{} {node}\n", unix.saturating_sub(now.saturating_duration_since(*since).as_secs()))
        };
        let text: String = self.nodes.iter().map(line).collect();
        let fresh = path.with_extension("new");
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, path));
        if let Err(error) = written {
            warn!(%error, path = %path.display(), "a restart will forget which nodes boot the discovery image");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_list_outlives_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("boots");
        let boots = Boots::open(&path);
        boots.genesis_next("n1", Instant::now());
        boots.genesis_next("n2", Instant::now());
        boots.arrived("n2");
        let again = Boots::open(&path);
        assert!(again.is_genesis_next("n1", Instant::now()));
        assert!(!again.is_genesis_next("n2", Instant::now()));
    }

    #[test]
    fn a_node_is_listed_until_it_arrives_or_patience_ends() {
        let boots = Boots::new();
        let now = Instant::now();
        boots.genesis_next("n1", now);
        boots.genesis_next("n2", now);
        assert!(boots.is_genesis_next("n1", now));
        assert!(boots.arrived("n1") && !boots.arrived("n1"));
        assert!(!boots.is_genesis_next("n1", now));
        assert!(!boots.is_genesis_next("n2", now + PATIENCE));
    }
}
