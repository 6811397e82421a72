//! Which node a machine is: by the switch port that its cable ends at, else by its serial number,
//! else nobody, and why not.
//!
//! Knows nothing of SNMP: tables that a switch told come in, evidence goes out. Nothing is guessed:
//! two nodes for one machine is no match.

mod matcher;
pub mod switch;

pub use matcher::{Found, Machine, PortOf, evidence, find};
