//! The Raft group as the rest of the master sees it.

use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use crate::machine::{Answer, Machine};

/// Who leads, as far as this member knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// This member leads.
    pub leads: bool,
    /// Member number of the leader; 0 when there is none.
    pub leader: u64,
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Another member leads (its address; empty when nobody does).
    #[error("this master does not lead{}", if .0.is_empty() { String::new() } else { format!("; {0} does", .0) })]
    NotLeader(String),
    /// The leader changed or the time was over before the answer came.
    #[error("whether the change was made is unknown: {0}")]
    Unknown(String),
    /// It was not stored.
    #[error("{0}")]
    Refused(String),
}

/// The group. Clones are the same.
#[derive(Debug, Clone)]
pub struct Group {
    machine: Arc<RwLock<(u64, Machine)>>,
    status: watch::Sender<Status>,
}

impl Group {
    /// A group of this member only.
    #[must_use]
    pub fn alone(machine: Machine) -> Self {
        let status = watch::Sender::new(Status { leads: true, leader: 1 });
        Self { machine: Arc::new(RwLock::new((0, machine))), status }
    }

    /// Adds an entry to the log and waits until it is applied here.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn propose(&self, entry: Vec<u8>) -> Result<Answer, Trouble> {
        let mut machine = self.machine.write().map_err(|_| Trouble::Refused("poisoned".to_owned()))?;
        machine.0 += 1;
        let index = machine.0;
        Ok(machine.1.apply(index, &entry, |_, _| ()))
    }

    /// Waits until everything acknowledged before this call is visible to [`Group::read`].
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn barrier(&self) -> Result<(), Trouble> {
        Ok(())
    }

    /// Reads the applied state.
    pub fn read<R>(&self, read: impl FnOnce(&Machine) -> R) -> R {
        read(&self.machine.read().expect("no reader or writer panics").1)
    }

    /// Who leads, with every change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}
