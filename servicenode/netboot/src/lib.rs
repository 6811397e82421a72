//! Network boot as pure decisions: DHCP answers, TFTP transfers, boot scripts, and which node a
//! machine is.
//!
//! Knows nothing of sockets, disks, clocks and randomness: bytes, rows and a time come in, bytes
//! and effects go out. The shells are in `servicenode/daemon`.

pub mod boot;
pub mod dhcp;
pub mod find;
pub mod http;
pub mod tftp;
pub mod world;

pub use world::{Boot, BootSite, World};
