//! Which service nodes have found this master since it leads.
//!
//! A new leader, or a master that was started anew, is found by its service nodes within seconds. Until then
//! an order waits for them instead of failing; one that was here and left is away.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use state::view::{Tables, column};
use storage::Role;
use tokio::sync::watch;

use crate::core::Core;

/// How long service nodes may take to find a new leader.
const GRACE: Duration = Duration::from_secs(12);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    term: Mutex<Term>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Term {
    since: Option<Instant>,
    seen: BTreeSet<String>,
}

impl Arrivals {
    /// Until when a service node is awaited; none when it is not: it was here, or had its time.
    fn awaited(&self, name: &str, now: Instant) -> Option<Instant> {
        let term = self.term();
        let until = term.since? + GRACE;
        (now < until && !term.seen.contains(name)).then_some(until)
    }

    /// Tells of every arrival.
    fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A service node has come.
    pub(super) fn arrived(&self, name: &str) {
        self.term().seen.insert(name.to_owned());
        self.changed.send_modify(|count| *count += 1);
    }

    /// This master begins to lead; who is here already has arrived.
    fn begin(&self, now: Instant, here: BTreeSet<String>) {
        *self.term() = Term { since: Some(now), seen: here };
    }

    fn term(&self) -> std::sync::MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when one of these service nodes is awaited, when none of them is here. Who never joined is not awaited.
pub(super) fn awaited(core: &Core, names: &[String]) -> Option<Instant> {
    if names.iter().any(|name| core.racks.sessions().contains_key(name)) {
        return None;
    }
    let now = core.clock.now();
    let joined = |name: &str| {
        let row = core.read(|state| state.row("servicenodes", &[name])).unwrap_or_default();
        !column(&row, "fingerprint").is_empty()
    };
    let awaited = names.iter().filter(|name| joined(name));
    awaited.filter_map(|name| core.racks.arrivals().awaited(name, now)).max()
}

/// Waits until one of these service nodes is here or none is awaited.
pub(super) async fn settled(core: &Core, names: &[String]) {
    let mut changes = core.racks.arrivals().changes();
    while let Some(until) = awaited(core, names) {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            _ = changes.changed() => {}
            () = core.clock.sleep(until.saturating_duration_since(core.clock.now())) => {}
        }
    }
}

/// Notices when this master begins to lead.
pub(super) async fn run(core: Core) {
    let mut status = core.group.status();
    let mut led = None;
    loop {
        let term = {
            let now = status.borrow_and_update();
            (now.role == Role::Leader).then_some(now.term)
        };
        if term.is_some() && term != led {
            let here = core.racks.sessions().keys().cloned().collect();
            core.racks.arrivals().begin(core.clock.now(), here);
        }
        led = term;
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            changed = status.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_who_was_not_here_yet_is_awaited_and_not_for_ever() {
        let arrivals = Arrivals::default();
        let now = Instant::now();
        assert_eq!(arrivals.awaited("r1sn", now), None);
        arrivals.begin(now, BTreeSet::from(["r2sn".to_owned()]));
        assert_eq!(arrivals.awaited("r1sn", now), Some(now + GRACE));
        assert_eq!(arrivals.awaited("r2sn", now), None);
        arrivals.arrived("r1sn");
        assert_eq!(arrivals.awaited("r1sn", now), None);
        assert_eq!(arrivals.awaited("r3sn", now + GRACE), None);
    }
}
