//! Which BMC is meant, and what can go wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use wire::op::Fault;
use wire::secret::Secret;
use wire::view::BmcView;

/// Port of IPMI over LAN.
pub const IPMI_PORT: u16 = 623;

/// How to reach the BMC of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BmcTarget {
    /// The node, for logs.
    pub node: String,
    /// Address, or a name for the system's resolver.
    pub address: String,
    /// UDP port; zero means 623.
    pub port: u16,
    /// User name; anonymous logins are refused.
    pub user: Secret,
    /// Password of at most 20 bytes.
    pub password: Secret,
}

impl BmcTarget {
    /// The target that the mirror describes.
    #[must_use]
    pub fn of(node: &str, view: &BmcView) -> Self {
        Self {
            node: node.to_owned(),
            address: view.address.clone(),
            port: view.port,
            user: view.user.clone(),
            password: view.password.clone(),
        }
    }

    /// The UDP port with its default.
    #[must_use]
    pub fn port(&self) -> u16 {
        if self.port == 0 { IPMI_PORT } else { self.port }
    }
}

/// Why a BMC did not do what it was asked. The texts are for the admin: they begin with the words
/// scripts know from xCAT and name address and step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BmcError {
    /// No answer until the deadline.
    #[error("timeout: BMC {address} did not answer while {step} ({tries} requests in {waited:.1?})")]
    Timeout {
        /// Its address.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
        /// Requests sent in this step.
        tries: u32,
        /// Since the operation began.
        waited: Duration,
        /// A power change or another deed may have happened.
        maybe_done: bool,
    },
    /// The session was refused for the password.
    #[error("Incorrect password provided: BMC {address}, user {user}")]
    Password {
        /// Its address.
        address: SocketAddr,
        /// The user tried.
        user: String,
    },
    /// The session was refused for another reason.
    #[error("BMC {address} refused while {step}: {reason}")]
    Session {
        /// Its address.
        address: SocketAddr,
        /// What was tried.
        step: &'static str,
        /// The reason in words.
        reason: String,
        /// The refusal concerns user or privilege.
        denied: bool,
    },
    /// A command was answered with a completion code.
    #[error("{reason} (BMC {address}, {step}, completion code {code:02X}h)")]
    Completion {
        /// Its address.
        address: SocketAddr,
        /// The command in words.
        step: &'static str,
        /// The code.
        code: u8,
        /// The code in words.
        reason: &'static str,
    },
    /// An answer that cannot be read.
    #[error("BMC {address} gave an unreadable answer while {step}: {reason}")]
    Unreadable {
        /// Its address.
        address: SocketAddr,
        /// The command in words.
        step: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The network refuses to carry the packet.
    #[error("no route to BMC {address}: {source}")]
    Unreachable {
        /// Its address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The name has no address.
    #[error("the address of BMC '{name}' cannot be found: {reason}")]
    Unresolved {
        /// The name.
        name: String,
        /// Why.
        reason: String,
    },
    /// User or password are missing or cannot be used.
    #[error("BMC {name}: {reason}")]
    Credentials {
        /// The BMC as the tables name it.
        name: String,
        /// What is wrong and what to do.
        reason: &'static str,
    },
    /// Too many operations wait for this BMC.
    #[error("BMC {address} has {waiting} operations waiting already")]
    Busy {
        /// Its address.
        address: SocketAddr,
        /// How many.
        waiting: usize,
    },
    /// The operation is none of a BMC.
    #[error("{0} is not done by a BMC")]
    NotForBmc(&'static str),
    /// The inventory kind is unknown.
    #[error("unsupported BMC inv argument {0}")]
    Kind(String),
}

impl BmcError {
    /// The kind, for exit codes and folding.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Timeout { maybe_done: true, .. } => Fault::Unknown,
            Self::Timeout { .. } => Fault::Timeout,
            Self::Password { .. } | Self::Session { denied: true, .. } => Fault::Denied,
            Self::Unreachable { .. } | Self::Unresolved { .. } | Self::Busy { .. } => Fault::Unreachable,
            Self::Credentials { .. } => Fault::Undefined,
            Self::Session { .. }
            | Self::Completion { .. }
            | Self::Unreadable { .. }
            | Self::NotForBmc(_)
            | Self::Kind(_) => Fault::Refused,
        }
    }
}
