//! Which service nodes have found this master since it leads.
//!
//! A new leader, or a master that was started anew, is found by its service nodes within seconds. Until then
//! an order waits for them instead of failing; one that was here and left is away. With its leadership a
//! master also takes up the waits that are open.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use state::view::{Tables, column};
use storage::Role;
use tokio::sync::watch;

use crate::adapters;
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
    number: u64,
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
    fn begin(&self, number: u64, now: Instant, here: BTreeSet<String>) {
        *self.term() = Term { number, since: Some(now), seen: here };
        self.changed.send_modify(|count| *count += 1);
    }

    /// It leads, and that was noticed here.
    fn counts(&self, term: u64) -> bool {
        let known = self.term();
        known.since.is_some() && known.number == term
    }

    fn term(&self) -> std::sync::MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when one of these service nodes is awaited, when none of them is here. No names are all of them.
pub(super) fn awaited(core: &Core, names: &[String]) -> Option<Instant> {
    if here(core, names) { None } else { missing(core, names) }
}

/// Whether one of these service nodes is here.
fn here(core: &Core, names: &[String]) -> bool {
    let sessions = core.racks.sessions();
    if names.is_empty() { !sessions.is_empty() } else { names.iter().any(|name| sessions.contains_key(name)) }
}

/// Until when one of these service nodes may still come for the first time. Who never joined is not awaited.
fn missing(core: &Core, names: &[String]) -> Option<Instant> {
    let joined: Vec<String> = core.read(|state| {
        let rows = Tables::rows(state, "servicenodes");
        let joined = rows.iter().filter(|row| !column(row, "fingerprint").is_empty());
        let joined = joined.map(|row| column(row, "name"));
        joined
            .filter(|name| names.is_empty() || names.iter().any(|own| own == name))
            .map(str::to_owned)
            .collect()
    });
    let now = core.clock.now();
    let (leads, term) = {
        let status = core.group.status();
        let status = status.borrow();
        (status.role == Role::Leader, status.term)
    };
    if leads && !joined.is_empty() && !core.racks.arrivals().counts(term) {
        return Some(now + GRACE);
    }
    joined.iter().filter_map(|name| core.racks.arrivals().awaited(name, now)).max()
}

/// Waits until one of these service nodes is here or none is awaited.
pub(super) async fn settled(core: &Core, names: &[String]) {
    while_some(core, || awaited(core, names)).await;
}

/// Waits until every one of these service nodes has come or had the time to.
pub(super) async fn complete(core: &Core, names: &[String]) {
    while_some(core, || missing(core, names)).await;
}

/// Waits until one of each of these lists is here, at most so long.
pub(super) async fn back(core: &Core, lists: &BTreeSet<Vec<String>>, patience: Duration) {
    let until = core.clock.now() + patience;
    let away = || lists.iter().any(|names| !here(core, names)) && core.clock.now() < until;
    while_some(core, || away().then_some(until)).await;
}

/// Waits while something is awaited until some moment.
async fn while_some(core: &Core, awaited: impl Fn() -> Option<Instant>) {
    let mut changes = core.racks.arrivals().changes();
    while let Some(until) = awaited() {
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
            core.racks.arrivals().begin(term.unwrap_or_default(), core.clock.now(), here);
            core.drain.spawn("open waits", adapters::resume(core.clone()));
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
        arrivals.begin(7, now, BTreeSet::from(["r2sn".to_owned()]));
        assert!(arrivals.counts(7) && !arrivals.counts(8));
        assert_eq!(arrivals.awaited("r1sn", now), Some(now + GRACE));
        assert_eq!(arrivals.awaited("r2sn", now), None);
        arrivals.arrived("r1sn");
        assert_eq!(arrivals.awaited("r1sn", now), None);
        assert_eq!(arrivals.awaited("r3sn", now + GRACE), None);
    }
}
