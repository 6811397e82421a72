//! What every part of a master shares.

use std::sync::Arc;

use link::{Credentials, Endpoint};
use service::{Clock, Drain, Health};
use state::{Entry, Outcome, Precondition, RowChange, State, Transaction};
use storage::{Group, ProposeError};
use tokio::sync::broadcast;
use wire::ids::RequestId;

use crate::actions::Actions;
use crate::adapters::Claims;
use crate::audit::Questions;
use crate::config::Config;
use crate::forward::ToLeader;
use crate::locks::Locks;
use crate::machine::{Answer, Committed, Machine, Watchers};
use crate::monitor::Monitors;
use crate::pki::Pki;
use crate::racks::Racks;
use crate::stages::{self, Stages};

/// The shared parts. Clones are the same master.
#[derive(Debug, Clone)]
pub struct Core(Arc<Parts>);

/// See [`Core`].
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// Time.
    pub clock: Clock,
    /// Tasks and their end.
    pub drain: Drain,
    /// Numbers about this master.
    pub health: Health,
    /// The replicated state.
    pub group: Group<Machine>,
    /// Who is told of committed changes.
    pub watchers: Watchers,
    /// Certificates.
    pub pki: Pki,
    /// What this master shows.
    pub credentials: Credentials,
    /// The one UDP socket.
    pub endpoint: Endpoint,
    /// Service nodes that are connected here.
    pub racks: Racks,
    /// Actions that run here.
    pub actions: Actions,
    /// Changes that are on their way in parts.
    pub stages: Stages,
    /// Nodes that are acted on.
    pub locks: Locks,
    /// Waits for adapters that this master sees to.
    pub claims: Claims,
    /// Plain questions that were asked.
    pub questions: Questions,
    /// The way to the leader, for clients that reach this member.
    pub to_leader: ToLeader,
    /// Monitoring plug-ins.
    pub monitors: Monitors,
}

/// A [`Core`] that does not keep the master alive: for parts that are themselves in it.
#[derive(Debug, Clone, Default)]
pub struct WeakCore(std::sync::Weak<Parts>);

impl WeakCore {
    /// The master, while it lives.
    #[must_use]
    pub fn core(&self) -> Option<Core> {
        self.0.upgrade().map(Core)
    }
}

impl std::ops::Deref for Core {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Why something was not done, or perhaps not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Another member leads (its address; empty when nobody does). Nothing was done.
    #[error("this master does not lead{}", if .0.is_empty() { String::new() } else { format!("; {} does", .0) })]
    NotLeader(String),
    /// It may or may not be done.
    #[error("the outcome of the change is unknown")]
    Unknown,
    /// A precondition did not hold: somebody else was faster. Nothing was done.
    #[error("{0}")]
    Conflict(state::Refusal),
    /// Nothing was done.
    #[error("{0}")]
    Refused(String),
}

impl From<ProposeError> for Trouble {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::NotLeader { leader } => {
                Self::NotLeader(leader.map_or_else(String::new, |leader| leader.address.to_string()))
            }
            ProposeError::Unknown => Self::Unknown,
            other => Self::Refused(other.to_string()),
        }
    }
}

/// Who asks: the name from the certificate, and the address for policy and audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub user: String,
    /// Address with port.
    pub address: String,
}

impl Caller {
    /// The address without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(&self.address, |(host, _)| host)
    }
}

impl Core {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// See [`WeakCore`].
    #[must_use]
    pub fn downgrade(&self) -> WeakCore {
        WeakCore(Arc::downgrade(&self.0))
    }

    /// The name in errors.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.config.cluster
    }

    /// Reads the applied state. Short: nothing is applied meanwhile.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        self.group.read(|machine| read(machine.state()))
    }

    /// Waits until everything that was acknowledged before this call is visible to [`Core::read`].
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn barrier(&self) -> Result<(), Trouble> {
        match self.group.read_barrier().await {
            Ok(_) => Ok(()),
            Err(_) => Err(Trouble::NotLeader(self.leader())),
        }
    }

    /// Committed changes from now on; a receiver that lags must read everything anew.
    #[must_use]
    pub fn committed(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.watchers.subscribe()
    }

    /// Whether this member leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.group.leads()
    }

    /// Address of the leader; empty when there is none or it is this member.
    #[must_use]
    pub fn leader(&self) -> String {
        let status = self.group.status();
        let status = status.borrow();
        let other = status.leader.as_ref().filter(|leader| leader.id != self.config.id);
        other.map_or_else(String::new, |leader| leader.address.to_string())
    }

    /// Proposes an entry and waits until it is applied here.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn propose(&self, entry: &Entry) -> Result<Answer, Trouble> {
        let bytes = wire::frame::encode(entry).map_err(|error| Trouble::Refused(error.to_string()))?;
        Ok(self.group.propose(bytes).await?.1)
    }

    /// Changes rows as this master itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn change(&self, command: &str, changes: Vec<RowChange>) -> Result<Answer, Trouble> {
        self.transact("master", command, None, Vec::new(), changes).await
    }

    /// Proposes a transaction; one that is too large for an entry goes in parts.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn transact(
        &self,
        author: &str,
        command: &str,
        request: Option<RequestId>,
        preconditions: Vec<Precondition>,
        changes: Vec<RowChange>,
    ) -> Result<Answer, Trouble> {
        let transaction = Transaction {
            author: author.to_owned(),
            command: command.to_owned(),
            request,
            time: self.clock.unix(),
            preconditions,
            changes,
        };
        match stages::is_large(&transaction) {
            true => stages::in_parts(self, transaction).await,
            false => self.propose(&Entry::Transaction(transaction)).await,
        }
    }
}

/// The outcome of a transaction; a repeated one counts as done.
///
/// # Errors
/// [`Trouble::Conflict`] when it was refused.
pub fn done(answer: &Answer) -> Result<&Outcome, Trouble> {
    let none = || Trouble::Refused("the entry was no transaction".to_owned());
    let outcome = answer.outcome.as_ref().ok_or_else(none)?;
    match &outcome.refused {
        None => Ok(outcome),
        Some(refusal) => Err(Trouble::Conflict(refusal.clone())),
    }
}
