//! Talks to the BMCs of a rack: IPMI over LAN with RMCP+ sessions.
//!
//! One [`Bmcs`] serves all BMCs of a service node over one UDP socket. Everything that decides
//! (packets, keys, sessions, retransmission, the rules of each operation) is pure; only
//! [`ipmi::socket`] touches the network. Knows nothing of tables, masters or fan-outs: the caller
//! brings target, operation and deadline.

mod driver;
mod inventory;
pub mod ipmi;
mod target;

pub use driver::Bmcs;
pub use target::{BmcError, BmcTarget, IPMI_PORT};
