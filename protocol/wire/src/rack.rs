//! The conversation between a service node and the masters.
//!
//! The service node dials the leader (a follower answers [`Down::NotLeader`]) and keeps one stream,
//! [`FromRack::Uplink`], on which view updates come down. Reports go up on streams of their own; the
//! answer comes when the report is committed. The master opens a stream per fan-out.

use crate::agent::{EnrolHello, Report};
use crate::ids::{ActionId, Revision};
use crate::op::{NodeEvent, NodeOp};
use crate::view::ViewUpdate;
use crate::{Decode, Encode};

/// First frame of a stream that the service node opens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "a message lives for one frame; boxing it buys nothing")]
pub enum FromRack {
    /// I am here; keep my mirror fresh. Frames back: [`Down`]; frames on: [`Up`].
    Uplink(RackHello),
    /// Something to commit. One [`RackAnswer`] comes back.
    Report(RackReport),
    /// Exchange a join token for a certificate (enrolment ALPN). One [`JoinAnswer`] comes back.
    Join(JoinRequest),
}

/// A service node's greeting.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RackHello {
    /// Protocol version.
    pub version: u32,
    /// Program version, for `margay status`.
    pub program: String,
    /// What its mirror holds; 0 for nothing.
    pub mirror: Revision,
    /// Where its agents and boot clients reach it, for `margay status`.
    pub addresses: Vec<String>,
    /// Nodes whose agents are connected now.
    pub agents: Vec<String>,
}

/// What comes down the uplink.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "a message lives for one frame; boxing it buys nothing")]
pub enum Down {
    /// Ask there instead (address, perhaps empty).
    NotLeader(String),
    /// Not admitted, and why; do not come back before a minute.
    Refused(String),
    /// A piece of the view.
    View(ViewUpdate),
    /// Addresses of all masters, for the next dial.
    Masters(Vec<String>),
}

/// What goes up the uplink beside reports.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Up {
    /// The mirror is durable at this revision.
    Mirrored(Revision),
    /// Agents came or went since the last message.
    Agents {
        /// Connected.
        up: Vec<String>,
        /// Gone.
        down: Vec<String>,
    },
}

/// Something a rack has to say.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "a message lives for one frame; boxing it buys nothing")]
pub enum RackReport {
    /// A machine wants an identity.
    Enrol(Enrol),
    /// An enrolled node reports (node from its certificate, never from the message).
    Node {
        /// The node.
        node: String,
        /// What it said.
        report: Report,
        /// When the service node received it, unix seconds.
        at: u64,
    },
    /// Several node reports of a storm, in order; each is stored.
    Nodes(Vec<(String, Report, u64)>),
    /// Something that must be in the audit log.
    Audit {
        /// Who, as far as known: a certificate's name or an address.
        who: String,
        /// What was tried.
        what: String,
    },
}

/// A machine that asks for an identity, with all that the service node found out.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Enrol {
    /// What the machine sent.
    pub hello: EnrolHello,
    /// Address it came from.
    pub address: String,
    /// Evidence of the service node, in the order of trust.
    pub evidence: Vec<Evidence>,
    /// A verified one-time token: node, boot generation, SHA-256 of the token in hex, expiry (unix seconds).
    pub token: Option<TokenProof>,
}

/// A one-time boot token that the service node minted and whose proof it checked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TokenProof {
    /// Node it was made for.
    pub node: String,
    /// Boot generation it was made for.
    pub generation: u64,
    /// SHA-256 of the token, hex: the consumed thing.
    pub digest: String,
    /// Unix seconds.
    pub expires: u64,
}

/// What one method of recognition says.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Evidence {
    /// `switch`, `mtms`, `mac`, ...
    pub method: String,
    /// The node that it points to; empty when none.
    pub node: String,
    /// Why, or why not, in a sentence: `switch1 port swp3`, `switch1 (10.0.0.9) did not answer SNMP within 5 s`.
    pub reason: String,
}

/// A master's answer to a report.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RackAnswer {
    /// Committed at this revision.
    Stored(Revision),
    /// The machine is this node now.
    Admitted {
        /// The node.
        node: String,
        /// Its certificate, PEM.
        certificate: String,
        /// How it was recognised.
        method: String,
        /// The revision of the admission.
        revision: Revision,
    },
    /// Kept and listed; ask again later (the reason per method is in the discovery list).
    Pending {
        /// Why.
        reason: String,
    },
    /// Refused for good.
    Denied {
        /// Why.
        reason: String,
    },
    /// Ask the leader instead (address, perhaps empty).
    NotLeader(String),
    /// Could not be stored now; keep it and send it again.
    Again(String),
}

/// What the master asks of a service node: first frame of a stream that the master opens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum ToRack {
    /// Do this at these nodes. Frames back: [`FanOutEvent`]; frames on: [`FanOutInput`].
    FanOut(FanOut),
}

/// One operation at many nodes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FanOut {
    /// For logs and for doing nothing twice.
    pub action: ActionId,
    /// What.
    pub op: NodeOp,
    /// Where.
    pub nodes: Vec<String>,
    /// How many at a time; 0 is the service node's default.
    pub window: u32,
    /// Each node's own deadline in milliseconds, counted from when it is its turn.
    pub deadline: u64,
}

/// What follows a fan-out from the master.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FanOutInput {
    /// End everything.
    Cancel,
    /// Standard input for every node.
    Stdin(Vec<u8>),
    /// Standard input ended.
    StdinEnd,
}

/// What a fan-out sends back.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FanOutEvent {
    /// At a node.
    Node(NodeEvent),
    /// Every node had its final event.
    End,
}

/// A new service node with its join token.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinRequest {
    /// Its name as given to `margay sn add`.
    pub name: String,
    /// The token.
    pub token: String,
    /// Its public key, SubjectPublicKeyInfo DER.
    pub public_key: Vec<u8>,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum JoinAnswer {
    /// Welcome.
    Joined {
        /// Certificate, PEM.
        certificate: String,
        /// CA, PEM.
        ca: String,
        /// Addresses of the masters.
        masters: Vec<String>,
    },
    /// Not with this token; why.
    Refused(String),
    /// Ask the leader instead.
    NotLeader(String),
}
