//! Service nodes that are connected to this master.
//!
//! A service node has one session: its connection with the uplink on which its mirror is kept fresh. What
//! it reports comes on streams of its own; what the executor wants of nodes goes out through
//! [`Racks::fan_out`]. Who it is comes from its certificate, whose key must be the one registered when it
//! joined; a row that is changed or removed ends the session.

mod arrivals;
mod fanout;
mod feed;
mod reports;
mod session;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use state::discovery::{Outcome, RackEvent};
use tokio::sync::{mpsc, oneshot};
use wire::ids::Revision;
use wire::rack::{FanOut, FanOutEvent, FanOutInput};

pub use reports::{Answered, Waiting};
pub use session::{Session, serve};
pub(crate) use time::seconds;

use crate::core::{Core, Trouble, WeakCore};

/// How often the list of unknown machines is counted.
const COUNT: Duration = Duration::from_secs(10);

/// Sessions of service nodes, and what is common to them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Racks(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    core: OnceLock<WeakCore>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
    reports: OnceLock<mpsc::Sender<Waiting>>,
    feed: feed::Feed,
    time: time::ClusterTime,
    arrivals: arrivals::Arrivals,
    /// When the list of unknown machines was looked at last, and whether it was full.
    full: Mutex<Option<(Instant, bool)>>,
}

/// A service node as `margay status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RackStatus {
    /// Its name.
    pub name: String,
    /// Its program's version.
    pub program: String,
    /// Address it is connected from.
    pub address: String,
    /// Where its agents and boot clients reach it.
    pub addresses: Vec<String>,
    /// The revision its mirror holds.
    pub mirror: Revision,
    /// How many agents are connected to it.
    pub agents: usize,
}

impl Racks {
    /// Begins the work that is common to all sessions. Called once, when the master starts.
    pub fn start(&self, core: &Core) {
        let (sender, receiver) = mpsc::channel(reports::QUEUE);
        if self.0.core.set(core.downgrade()).is_err() || self.0.reports.set(sender).is_err() {
            return;
        }
        core.drain.spawn("rack reports", reports::run(core.clone(), receiver));
        core.drain.spawn("rack views", feed::follow(core.clone()));
        core.drain.spawn("cluster time", time::run(core.clone()));
        core.drain.spawn("arrivals of service nodes", arrivals::run(core.clone()));
    }

    /// Asks nodes through their service nodes. Dropping the receiver cancels.
    #[must_use]
    pub fn fan_out(&self, order: FanOut, input: mpsc::Receiver<FanOutInput>) -> mpsc::Receiver<FanOutEvent> {
        let (sender, receiver) = mpsc::channel(fanout::EVENTS);
        if let Some(core) = self.core() {
            let drain = core.drain.clone();
            drain.spawn("fan-out", fanout::run(core, order, input, sender));
        }
        receiver
    }

    /// Commits an event and waits until it is applied here.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn report(&self, event: RackEvent) -> Result<Answered, Trouble> {
        let answer = self.queue(event).await?;
        answer.await.unwrap_or(Err(Trouble::Unknown))
    }

    /// Puts an event into the queue; the answer comes when it is applied here.
    ///
    /// # Errors
    /// [`Trouble`] when the master is stopping.
    pub async fn queue(
        &self,
        event: RackEvent,
    ) -> Result<oneshot::Receiver<Result<Answered, Trouble>>, Trouble> {
        let stopping = || Trouble::Refused("the master is stopping".to_owned());
        let (sender, receiver) = oneshot::channel();
        let queue = self.0.reports.get().ok_or_else(stopping)?;
        queue.send(Waiting { event, answer: sender }).await.map_err(|_| stopping())?;
        Ok(receiver)
    }

    /// Whether as many machines are listed without a node as may be; counted now and then.
    pub(crate) fn list_is_full(&self, count: impl FnOnce() -> bool) -> bool {
        let mut counted = self.0.full.lock().unwrap_or_else(PoisonError::into_inner);
        match *counted {
            Some((at, full)) if at.elapsed() < COUNT => full,
            _ => {
                let full = count();
                *counted = Some((Instant::now(), full));
                full
            }
        }
    }

    /// Cluster time now, milliseconds; of meaning on the leader only.
    #[must_use]
    pub fn cluster_time(&self) -> u64 {
        self.core().map_or(0, |core| self.0.time.now(&core))
    }

    /// All connected service nodes.
    #[must_use]
    pub fn status(&self) -> Vec<RackStatus> {
        self.sessions().values().map(|session| session.status()).collect()
    }

    /// Whether the node's agent is connected to one of them.
    #[must_use]
    pub fn is_connected(&self, node: &str) -> bool {
        self.sessions().values().any(|session| session.has_agent(node))
    }

    /// All nodes whose agents are connected.
    #[must_use]
    pub fn connected(&self) -> BTreeSet<String> {
        self.sessions().values().flat_map(|session| session.agents()).collect()
    }

    /// Waits until all service nodes of these nodes have found this master, or had the time to: only then it
    /// is known whose agents are connected.
    pub async fn settled(&self, nodes: &[String]) {
        let Some(core) = self.core() else { return };
        for list in lists(&core, nodes) {
            arrivals::complete(&core, &list).await;
        }
    }

    /// Waits until each of these nodes has a service node here again, at most so long.
    pub async fn back(&self, nodes: &[String], patience: Duration) {
        let Some(core) = self.core() else { return };
        let lists = lists(&core, nodes);
        arrivals::back(&core, &lists, patience).await;
    }

    fn core(&self) -> Option<Core> {
        self.0.core.get().and_then(WeakCore::core)
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a session in the place of an older one of the same service node.
    fn enter(&self, session: &Arc<Session>) {
        let old = self.sessions().insert(session.name().to_owned(), session.clone());
        if let Some(old) = old {
            old.replace();
        }
        self.0.arrivals.arrived(session.name());
    }

    /// Takes a session out, unless another one has taken its place.
    fn leave(&self, session: &Arc<Session>) {
        let mut sessions = self.sessions();
        if sessions.get(session.name()).is_some_and(|known| Arc::ptr_eq(known, session)) {
            sessions.remove(session.name());
        }
    }

    fn feed(&self) -> &feed::Feed {
        &self.0.feed
    }

    fn arrivals(&self) -> &arrivals::Arrivals {
        &self.0.arrivals
    }

    fn time(&self) -> &time::ClusterTime {
        &self.0.time
    }
}

/// The service nodes of these nodes, each list once.
fn lists(core: &Core, nodes: &[String]) -> BTreeSet<Vec<String>> {
    core.read(|state| nodes.iter().map(|node| state::view::servicenodes_of(state, node)).collect())
}

/// Waits until this master no longer leads.
async fn deposed(core: &Core) {
    // A group that is gone leads no more.
    let _ = core.group.status().wait_for(|status| status.role != storage::Role::Leader).await;
}

/// The only outcome of an event, as words for the one who sent it.
pub(crate) fn refused(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Rejected(reason) | Outcome::Denied(reason) => Some(reason),
        _ => None,
    }
}
