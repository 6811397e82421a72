//! IPMI 2.0 over LAN: pure codecs and the pure session, and the socket that feeds them.

pub mod decode;
pub mod fru;
pub mod message;
pub mod packet;
pub mod session;
pub mod socket;
pub mod suite;
