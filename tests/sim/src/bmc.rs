//! Simulated BMCs: many in one process, one UDP address each.
//!
//! They speak RMCP presence pings and RMCP+ with cipher suites 3 and 17, share no cryptography with
//! our client, and can be slow, lossy, silent or lying. Behind each one stands a [`Machine`] that is
//! really started and stopped. Knows nothing of nodes beyond the name it hands to hooks.

mod aes;
mod brain;
mod commands;
mod config;
mod fru;
pub mod machine;
mod packet;
mod sdr;
mod server;
mod session;
mod sol;
mod suite;

pub use config::{Config, Faults};
pub use machine::{BootDevice, Change, Lamp, Machine, Programs, REBOOT_STATUS};
pub use server::{Bmc, Running};
