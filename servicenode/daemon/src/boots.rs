//! Nodes that shall boot into the discovery image the next time, whatever their destiny says.
//!
//! A node is listed by [`Boots::genesis_next`] before its power is touched and leaves the list when its
//! agent has reported from the discovery image, or after [`PATIENCE`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A machine that has not come by then will not come.
pub const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The list. Clones are the same list; it is bounded by the nodes of the rack.
#[derive(Debug, Clone, Default)]
pub struct Boots(Arc<Mutex<HashMap<String, Instant>>>);

impl Boots {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node's next boot goes into the discovery image.
    pub fn genesis_next(&self, node: &str, now: Instant) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|_, since| now.saturating_duration_since(*since) < PATIENCE);
        list.insert(node.to_owned(), now);
    }

    /// Whether the node's next boot goes into the discovery image.
    #[must_use]
    pub fn is_genesis_next(&self, node: &str, now: Instant) -> bool {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.get(node).is_some_and(|since| now.saturating_duration_since(*since) < PATIENCE)
    }

    /// The node was there. True when it had been listed.
    pub fn arrived(&self, node: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
