//! What travels between the parts of Margay and what things are called.
//!
//! Knows nothing of sockets, roles' behavior or storage. The rule for change: variants and fields are
//! only appended, never reordered, renamed or removed; each message has its exact bytes frozen below
//! `tests/frozen`, and a frozen file is never edited.

pub mod agent;
pub mod client;
pub mod frame;
pub mod hardware;
pub mod ids;
pub mod names;
pub mod op;
pub mod peer;
pub mod rack;
pub mod secret;
pub mod version;
pub mod view;

pub use frame::{Decode, Encode, Message};

/// ALPN of authenticated conversations (mutual TLS, role from the certificate).
pub const ALPN_MAIN: &[u8] = b"margay/1";
/// ALPN of enrolment (server-authenticated only; the agent pins the cluster's CA).
pub const ALPN_ENROL: &[u8] = b"margay-enrol/1";
/// ALPN between masters (Raft messages and snapshots).
pub const ALPN_PEER: &[u8] = b"margay-peer/1";
