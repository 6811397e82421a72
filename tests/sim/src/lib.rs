//! Simulated surroundings of the product: machines and their BMCs.

pub mod bmc;
pub mod soft;
