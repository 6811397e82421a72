//! The master: the front door for people and service nodes, and the place where plans become deeds.
//!
//! [`Config`] says what it is, [`Master::spawn`] starts it, its drain ends it. Everything that decides is in
//! the pure crates below; here is what listens, waits and sends.

pub mod actions;
pub mod audit;
pub mod config;
pub mod core;
pub mod group;
pub mod init;
pub mod interfaces;
pub mod locks;
pub mod machine;
pub mod pki;
pub mod racks;
pub mod spool;

pub use crate::config::Config;
pub use crate::core::{Caller, Core};
