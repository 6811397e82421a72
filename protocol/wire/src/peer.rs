//! The conversation between masters beside Raft: a follower passes a client's stream on to the leader.
//!
//! The first frame of such a stream is a [`Forward`]; what follows is the client's conversation
//! unchanged. Only a master's certificate may open it: the leader believes the name inside.

use crate::client::Request;
use crate::{Decode, Encode};

/// A client's request, passed on by the master it reached.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Forward {
    /// The client's user, from its certificate.
    pub user: String,
    /// Address the client came from.
    pub address: String,
    /// What it asked.
    pub request: Request,
}
