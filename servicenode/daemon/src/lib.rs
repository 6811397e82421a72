//! The service node: serves its rack's machines (addresses, boot files, identities, commands) from a
//! mirror of its part of the tables, and carries wishes down and reports up.
//!
//! A rack goes on booting known nodes with no master up: everything that is answered is answered from
//! the [`mirror`]. Knows nothing of tables, commands or policies.

pub mod boots;
pub mod bootstate;
pub mod dhcp_sock;
pub mod http;
pub mod mirror;
pub mod switches;
pub mod tftp_sock;
pub mod tokens;
