//! What the rack knows of its nodes: the view that the masters send, indexed, versioned, kept on disk.
//!
//! Invariant: readers see either the whole of a revision or the whole of the one before; an update in
//! several pieces is collected and put in place with its last piece.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use wire::ids::Revision;
use wire::names::Mac;
use wire::view::{NodeView, SiteView, ViewUpdate};

mod file;

pub use file::{FileError, load, save};

/// Most nodes that one service node mirrors; an update beyond is refused as a whole.
pub const MAX_NODES: usize = 20_000;

/// Why an update was not taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MirrorError {
    /// More nodes than a service node can hold.
    #[error("the view has more than {MAX_NODES} nodes")]
    TooMany,
}

/// The mirror. Clones are the same mirror.
#[derive(Debug, Clone)]
pub struct Mirror {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    present: RwLock<Arc<Rack>>,
    pieces: std::sync::Mutex<Option<Vec<ViewUpdate>>>,
    revision: watch::Sender<Revision>,
}

/// All nodes at one revision.
#[derive(Debug, Clone, Default)]
pub struct Rack {
    revision: Revision,
    site: Arc<SiteView>,
    nodes: BTreeMap<String, Arc<NodeView>>,
    by_mac: HashMap<Mac, String>,
    by_ip: HashMap<Ipv4Addr, String>,
}

impl Default for Mirror {
    fn default() -> Self {
        Self::new()
    }
}

impl Mirror {
    /// A mirror that shows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            present: RwLock::default(),
            pieces: std::sync::Mutex::default(),
            revision: watch::Sender::new(Revision::default()),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Everything at the present revision; later updates do not change what was returned.
    #[must_use]
    pub fn rack(&self) -> Arc<Rack> {
        self.inner.present.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of every change. The value is the revision that the mirror is at.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Revision> {
        self.inner.revision.subscribe()
    }

    /// Waits until the mirror has reached `revision`. The caller brings the deadline.
    pub async fn reached(&self, revision: Revision) {
        // The sender lives in `self`: it cannot be gone.
        let _ = self.inner.revision.subscribe().wait_for(|present| *present >= revision).await;
    }

    /// Takes a piece of the view. True when it completed a revision.
    ///
    /// # Errors
    /// When the update is too large; the mirror is unchanged.
    pub fn apply(&self, update: ViewUpdate) -> Result<bool, MirrorError> {
        let mut pieces = self.inner.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        let more = update.more;
        let waiting = pieces.get_or_insert_default();
        if update.full {
            waiting.clear();
        }
        waiting.push(update);
        if waiting.iter().map(|piece| piece.nodes.len()).sum::<usize>() > MAX_NODES {
            *pieces = None;
            return Err(MirrorError::TooMany);
        }
        if more {
            return Ok(false);
        }
        let complete = pieces.take().unwrap_or_default();
        let mut next = Rack::clone(&self.rack());
        for piece in complete {
            next.take(piece);
        }
        if next.nodes.len() > MAX_NODES {
            return Err(MirrorError::TooMany);
        }
        next.index();
        let revision = next.revision;
        *self.inner.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        drop(pieces);
        self.inner.revision.send_replace(revision);
        Ok(true)
    }

    /// Forgets the pieces of an update that was cut off with its connection.
    pub fn drop_pieces(&self) {
        *self.inner.pieces.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Rack {
    /// The revision that everything here is of.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What all nodes share.
    #[must_use]
    pub fn site(&self) -> &SiteView {
        &self.site
    }

    /// A `site` key that service nodes understand.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.site.settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All nodes, ordered by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(name)
    }

    /// The node that has this adapter.
    #[must_use]
    pub fn by_mac(&self, mac: Mac) -> Option<&Arc<NodeView>> {
        self.nodes.get(self.by_mac.get(&mac)?)
    }

    /// The node that has this address.
    #[must_use]
    pub fn by_ip(&self, address: Ipv4Addr) -> Option<&Arc<NodeView>> {
        self.nodes.get(self.by_ip.get(&address)?)
    }

    /// The address that the rack's own tables give to a host name: a node, one of its aliases, or a
    /// host of one of its adapters; with or without the domain.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        let short = match name.strip_suffix(self.site.domain.as_str()).and_then(|name| name.strip_suffix('.'))
        {
            Some(short) if !self.site.domain.is_empty() => short,
            _ => name,
        };
        if let Some(address) = self.nodes.get(short).and_then(|node| node.ip.parse().ok()) {
            return Some(address);
        }
        self.nodes.values().find_map(|node| {
            let named = node.aliases.iter().any(|alias| alias == short || alias == name);
            let own = named.then(|| node.ip.parse().ok()).flatten();
            let adapter = || node.macs.iter().find(|mac| mac.host == short)?.ip.parse().ok();
            own.or_else(adapter)
        })
    }

    fn take(&mut self, piece: ViewUpdate) {
        if piece.full {
            self.nodes.clear();
        }
        self.revision = piece.revision;
        if let Some(site) = piece.site {
            self.site = Arc::new(site);
        }
        for name in &piece.removed {
            self.nodes.remove(name);
        }
        for node in piece.nodes {
            self.nodes.insert(node.name.clone(), Arc::new(node));
        }
    }

    fn index(&mut self) {
        self.by_mac.clear();
        self.by_ip.clear();
        for node in self.nodes.values() {
            if let Ok(address) = node.ip.parse() {
                self.by_ip.insert(address, node.name.clone());
            }
            for adapter in &node.macs {
                if let Ok(mac) = Mac::parse(&adapter.mac) {
                    self.by_mac.insert(mac, node.name.clone());
                }
                if let Ok(address) = adapter.ip.parse() {
                    self.by_ip.entry(address).or_insert_with(|| node.name.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wire::view::NodeMac;

    use super::*;

    fn node(name: &str, ip: &str, mac: &str) -> NodeView {
        NodeView {
            name: name.to_owned(),
            ip: ip.to_owned(),
            macs: vec![NodeMac { mac: mac.to_owned(), ..NodeMac::default() }],
            ..NodeView::default()
        }
    }

    fn update(revision: u64, nodes: Vec<NodeView>) -> ViewUpdate {
        ViewUpdate { revision: Revision(revision), nodes, ..ViewUpdate::default() }
    }

    #[test]
    fn a_node_is_found_by_name_adapter_and_address_and_is_gone_when_removed() {
        let mirror = Mirror::new();
        assert!(mirror.apply(update(3, vec![node("n1", "10.0.0.1", "02:00:00:00:00:01")])).unwrap());
        let rack = mirror.rack();
        let mac = Mac::parse("02:00:00:00:00:01").unwrap();
        assert_eq!(rack.by_mac(mac).unwrap().name, "n1");
        assert_eq!(rack.by_ip("10.0.0.1".parse().unwrap()).unwrap().name, "n1");
        assert_eq!(rack.address_of("n1"), Some("10.0.0.1".parse().unwrap()));
        let removed = ViewUpdate { removed: vec!["n1".to_owned()], ..update(4, Vec::new()) };
        mirror.apply(removed).unwrap();
        assert!(mirror.rack().by_mac(mac).is_none());
        assert_eq!(rack.len(), 1, "what was handed out stays as it was");
    }

    #[test]
    fn an_update_in_pieces_shows_only_when_it_is_whole() {
        let mirror = Mirror::new();
        let first = ViewUpdate { full: true, more: true, ..update(5, vec![node("n1", "", "")]) };
        assert!(!mirror.apply(first).unwrap());
        assert!(mirror.rack().is_empty());
        assert!(mirror.apply(update(5, vec![node("n2", "", "")])).unwrap());
        assert_eq!(mirror.rack().len(), 2);
        assert_eq!(*mirror.changes().borrow(), Revision(5));
    }

    #[test]
    fn a_full_update_drops_what_was_before_and_the_cut_one_before_it() {
        let mirror = Mirror::new();
        mirror.apply(update(1, vec![node("old", "", "")])).unwrap();
        mirror.apply(ViewUpdate { full: true, more: true, ..update(2, vec![node("lost", "", "")]) }).unwrap();
        mirror.apply(ViewUpdate { full: true, ..update(3, vec![node("new", "", "")]) }).unwrap();
        let names: Vec<_> = mirror.rack().nodes().map(|node| node.name.clone()).collect();
        assert_eq!(names, ["new"]);
    }
}
