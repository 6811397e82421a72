//! DHCP for IPv4: a packet comes in, the answer for this very moment goes out.
//!
//! Nothing is generated beforehand. A known MAC gets the address of the tables and never one of
//! the pool; an unknown one gets a pool address and the discovery image.

mod answer;
pub mod arch;
mod decide;
mod lease;
mod packet;

pub use decide::{Arrival, Drop, Outcome, Reply, Settings, Verdict, decide};
pub use lease::{Leases, MAX_LEASES, OFFER_SECONDS, POOL_LEASE_SECONDS};
pub use packet::{Bad, Kind, MAX_PACKET, Query, parse};
