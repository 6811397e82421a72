//! Typed numbers that cannot be mixed up.

use crate::{Decode, Encode};

/// The number of an action in the masters' queue; admins see it in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ActionId(pub u64);

/// The number of a committed transaction. Every answer carries the revision it was made at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Revision(pub u64);

/// Names one request for ever: the client's random id and its own count. A request that is sent again
/// keeps its id and is executed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RequestId {
    /// Random, chosen by the client at its start.
    pub client: u64,
    /// Counts the client's requests.
    pub sequence: u64,
}

impl std::fmt::Display for ActionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.client, self.sequence)
    }
}

impl std::str::FromStr for RequestId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a request id (16 hex digits, a dash, a number)");
        let (client, sequence) = text.split_once('-').ok_or_else(wrong)?;
        if client.len() != 16 {
            return Err(wrong());
        }
        Ok(Self {
            client: u64::from_str_radix(client, 16).map_err(|_| wrong())?,
            sequence: sequence.parse().map_err(|_| wrong())?,
        })
    }
}
