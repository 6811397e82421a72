//! What racks tell the masters: machines that want an identity, reports of nodes, waits for adapters.
//!
//! Everything here is decided while a log entry is applied, against the state that the entries before it
//! left: two machines that claim one node, in one batch or through two service nodes, meet here and one of
//! them wins on every master alike. Nothing can fail: what is not accepted is an [`Outcome`] with a reason.
//!
//! Knows nothing of certificates (a key is its fingerprint), clocks (times come with the entry) or waiters.

pub mod adapters;
pub mod admit;
pub mod calendar;
pub mod chain;
mod inventory;
mod machine;
mod report;
pub mod waits;

use wire::ids::RequestId;
use wire::rack::Enrol;
use wire::{Decode, Encode};

pub use machine::{machine_key, machine_macs};

use crate::view::Tables;

/// Several events in one log entry, applied in order.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RackEntry {
    /// Wall clock of the leader, unix seconds: a label, and the measure of tokens' lives.
    pub time: u64,
    /// Cluster time in milliseconds: never goes back, stands still while nobody leads.
    pub cluster_time: u64,
    /// What happened.
    pub events: Vec<RackEvent>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RackEvent {
    /// A machine wants an identity.
    Enrol(Box<Enrolment>),
    /// A node reports.
    Report {
        /// Service node that passed it on.
        rack: String,
        /// The node, from its certificate.
        node: String,
        /// What it said.
        report: wire::agent::Report,
        /// When the service node received it, unix seconds.
        at: u64,
    },
    /// For the audit log.
    Audit {
        /// Who.
        who: String,
        /// What was tried.
        what: String,
    },
    /// A request begins to wait at nodes.
    Open(waits::Open),
    /// Nodes go into the discovery image for a wait: their boot state is put aside.
    Arm {
        /// The nodes.
        nodes: Vec<String>,
    },
    /// A wait ends without an answer.
    Close {
        /// The nodes.
        nodes: Vec<String>,
        /// How: cancelled, failed or timeout.
        end: waits::End,
        /// Only this request's part; the wait ends when nobody else waits. None: for everybody.
        request: Option<RequestId>,
        /// Why, in a sentence.
        text: String,
    },
    /// Waits whose deadline is over end; what is kept too long is dropped.
    Sweep {
        /// How long final rows are kept, milliseconds of cluster time.
        keep: u64,
    },
    /// A service node exchanges its join token for a certificate.
    Join {
        /// Its name.
        name: String,
        /// SHA-256 of the token, hexadecimal.
        digest: String,
        /// SHA-256 of its public key, hexadecimal.
        fingerprint: String,
    },
    /// As `Open`; nodes may be rebooted though they run.
    OpenByForce(waits::Open),
}

/// A machine's request, with what the leader adds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Enrolment {
    /// Service node that passed it on.
    pub rack: String,
    /// SHA-256 of the offered public key, hexadecimal.
    pub fingerprint: String,
    /// What the service node found out.
    pub request: Enrol,
    /// Nodes with a connected agent among those that the evidence points to.
    pub connected: Vec<String>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored,
    /// Not taken; the reason is for the sender.
    Rejected(String),
    /// The machine is this node.
    Admitted {
        /// The node.
        node: String,
        /// How it was recognized.
        method: String,
        /// The node's key generation.
        generation: u64,
    },
    /// The machine is kept and listed.
    Pending(String),
    /// The machine is refused.
    Denied(String),
    /// The request waits, joined, or has its answers already: one answer a node.
    Opened(Vec<(String, waits::Opened)>),
    /// The service node may have its certificate.
    Joined,
}

/// What those who wait must be told, on every master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A node's adapters are committed.
    Adapters {
        /// The node.
        node: String,
        /// Output lines without line feeds.
        lines: Vec<String>,
        /// Whether the `nics` row holds them (false when no adapter has a name).
        stored: bool,
    },
    /// A wait ended without an answer.
    Closed {
        /// The node.
        node: String,
        /// How.
        end: waits::End,
        /// Only for this request.
        request: Option<RequestId>,
        /// Why, in a sentence; may be empty.
        text: String,
    },
}

/// A change of a row that follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets columns of the row with this key; an empty value unsets. Other columns stay.
    Set {
        /// Table.
        table: &'static str,
        /// Key columns.
        key: Vec<(&'static str, String)>,
        /// Other columns.
        values: Vec<(&'static str, String)>,
    },
    /// Removes the row.
    Delete {
        /// Table.
        table: &'static str,
        /// Key columns.
        key: Vec<(&'static str, String)>,
    },
    /// Appends to the audit log.
    Audit {
        /// Who.
        who: String,
        /// What was tried, and what came of it.
        what: String,
        /// Whether it was allowed.
        allowed: bool,
    },
}

impl Write {
    /// Sets columns of a node's row.
    #[must_use]
    pub fn node(table: &'static str, node: &str, values: Vec<(&'static str, String)>) -> Self {
        Self::Set { table, key: vec![("node", node.to_owned())], values }
    }
}

/// What an event comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// For the one who sent it.
    pub outcome: Outcome,
    /// Row changes.
    pub writes: Vec<Write>,
    /// For those who wait.
    pub notices: Vec<Notice>,
}

impl Verdict {
    fn new(outcome: Outcome, writes: Vec<Write>) -> Self {
        Self { outcome, writes, notices: Vec::new() }
    }

    fn rejected(reason: impl Into<String>) -> Self {
        Self::new(Outcome::Rejected(reason.into()), Vec::new())
    }

    /// Not allowed: nothing changes but the audit log.
    fn refused(who: &str, what: &str, outcome: Outcome) -> Self {
        let audit = Write::Audit { who: who.to_owned(), what: what.to_owned(), allowed: false };
        Self::new(outcome, vec![audit])
    }
}

/// The times of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Wall clock, unix seconds.
    pub wall: u64,
    /// Cluster time, milliseconds.
    pub cluster: u64,
    /// Revision that the changes will have.
    pub revision: u64,
}

/// Decides one event against the state that the events before it left.
#[must_use]
pub fn decide(tables: &dyn Tables, event: &RackEvent, times: Times) -> Verdict {
    match event {
        RackEvent::Enrol(enrolment) => admit::enrol(tables, enrolment, times),
        RackEvent::Report { rack, node, report, at } => {
            report::report(tables, rack, node, report, *at, times)
        }
        RackEvent::Audit { who, what } => Verdict::refused(who, what, Outcome::Stored),
        RackEvent::Open(open) => waits::open(tables, open, false, times),
        RackEvent::OpenByForce(open) => waits::open(tables, open, true, times),
        RackEvent::Arm { nodes } => waits::arm(tables, nodes, times),
        RackEvent::Close { nodes, end, request, text } => {
            waits::close(tables, nodes, *end, *request, text, times)
        }
        RackEvent::Sweep { keep } => waits::sweep(tables, *keep, times),
        RackEvent::Join { name, digest, fingerprint } => {
            admit::join(tables, name, digest, fingerprint, times)
        }
    }
}

#[cfg(test)]
mod tests;
