//! The conversation between a service node and a node's agent.
//!
//! Enrolment has its own ALPN: the agent sends [`EnrolHello`], the service node answers with one or more
//! [`EnrolAnswer`]s on the same stream (`Pending` keeps it open). Afterwards the agent dials with its
//! certificate, opens one control stream and sends [`AgentHello`]; then [`FromAgent`] goes up and
//! [`ToAgent`] comes down. Calls (commands, questions) are streams that the service node opens.

use crate::hardware::{Adapter, Hardware};
use crate::op::{Exec, NodeReply, Stream};
use crate::view::NodeConfig;
use crate::{Decode, Encode};

/// Where in its life a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// In the discovery image.
    Genesis,
    /// In an installed or diskless system.
    System,
}

/// A machine asks for an identity.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EnrolHello {
    /// Protocol version.
    pub version: u32,
    /// Fresh public key, SubjectPublicKeyInfo DER.
    pub public_key: Vec<u8>,
    /// HMAC-SHA256(token, TLS exporter || public key); empty without a token.
    pub proof: Vec<u8>,
    /// What the machine is made of.
    pub hardware: Hardware,
    /// Differs for each boot of the machine.
    pub boot_id: String,
    /// Where it is.
    pub phase: Phase,
}

/// Label of the TLS exporter that binds a token's proof to its connection (RFC 8446, 7.5).
pub const ENROL_EXPORTER_LABEL: &[u8] = b"EXPORTER-margay-enrol";
/// Bytes of that exporter.
pub const ENROL_EXPORTER_BYTES: usize = 32;

/// How the reason begins with which a service node closes the connection of an agent whose certificate it
/// does not take (any more). The agent then enrols again.
pub const IDENTITY_REFUSED: &str = "identity refused";

/// What the machine is told.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EnrolAnswer {
    /// It is this node.
    Admitted {
        /// The node.
        node: String,
        /// Its certificate, PEM.
        certificate: String,
        /// The CA, PEM.
        ca: String,
        /// The time, unix seconds (the machine's clock may be wrong).
        now: u64,
    },
    /// Not yet; wait on this stream.
    Pending(String),
    /// No.
    Denied(String),
}

/// First frame of the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct AgentHello {
    /// Protocol version.
    pub version: u32,
    /// Program version.
    pub program: String,
    /// Differs for each boot of the machine.
    pub boot_id: String,
    /// Where it is.
    pub phase: Phase,
    /// Generation of the configuration that it has applied; 0 for none.
    pub generation: u64,
}

/// What the agent sends on its control stream after the greeting.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct FromAgent {
    /// Counts up; the answer carries it.
    pub sequence: u64,
    /// What.
    pub report: Report,
}

/// A report of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Report {
    /// The whole machine (discovery, start-up).
    Hardware(Box<Hardware>),
    /// The adapters (getadapter).
    Adapters(Vec<Adapter>),
    /// A status word for `nodelist.status`.
    Status(String),
    /// The present step of the chain is done: what next? The answer is a [`ToAgent::Destiny`].
    NextDestiny {
        /// The step that was done, `runcmd=...`.
        done: String,
        /// Its exit status.
        status: i32,
    },
    /// The system is up and configured.
    Booted(Booted),
    /// Public ssh host keys.
    HostKeys(Vec<String>),
}

/// How the set-up of a booted node went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Booted {
    /// Which configuration.
    pub generation: u64,
    /// Steps that failed, with the reason.
    pub failed_steps: Vec<(String, String)>,
    /// Exit status of the start command; none when there is none.
    pub start_status: Option<i32>,
}

/// What comes down the control stream.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[expect(clippy::large_enum_variant, reason = "a message lives for one frame; boxing it buys nothing")]
pub enum ToAgent {
    /// The report with this sequence is committed.
    Stored(u64),
    /// The report with this sequence was not taken; why. It is not to be sent again.
    Rejected {
        /// Which.
        sequence: u64,
        /// Why.
        reason: String,
    },
    /// What to do now: `standby`, `shell`, `runcmd=...`, `runimage=...`, `boot`.
    Destiny(String),
    /// Set yourself up like this.
    Config(NodeConfig),
}

/// First frame of a stream that the service node opens.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Call {
    /// Run a command. Frames on: [`CallInput`]; frames back: [`CallEvent`]. A reset stream kills it.
    Exec(Exec),
    /// What are your adapters? One [`CallEvent::Reply`].
    Adapters,
    /// What are you made of? One [`CallEvent::Reply`].
    Hardware,
}

/// What follows a call.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CallInput {
    /// Standard input.
    Stdin(Vec<u8>),
    /// Standard input ended.
    StdinEnd,
    /// End the command (its whole process group).
    Cancel,
}

/// What comes back from a call.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum CallEvent {
    /// Output, whole lines where there are lines.
    Output {
        /// Of which stream.
        stream: Stream,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The end of a command: status, 128 + signal when killed.
    Exit(i32),
    /// The answer to a question.
    Reply(NodeReply),
    /// It could not be done; why.
    Failed(String),
}
