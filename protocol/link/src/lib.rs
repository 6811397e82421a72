//! Authenticated connections between the parts of Margay: QUIC with mutual TLS 1.3, one request = one
//! stream of typed frames.
//!
//! Knows nothing of what the messages mean. Who the other side is comes from its certificate
//! ([`Identity`]), never from its address.
//!
//! # How a conversation ends
//! A [`Sender`] that is finished ends its direction in order: the far side's `recv` gives `None`. A
//! [`Sender`] that is *dropped* without [`Sender::finish`] resets the stream: the far side's `recv` gives
//! [`LinkError::Reset`], also for what was sent and not read yet. A [`Receiver`] that is dropped before
//! its end makes the far side's next `send` fail with [`LinkError::Cancelled`] and resolves its
//! [`Sender::stopped`]. So dropping an [`Exchange`] cancels the far side.

pub mod connection;
pub mod endpoint;
pub mod exchange;
mod guard;
pub mod identity;
mod packet;
pub mod pki;
mod seal;
mod socket;
mod tls;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

pub use connection::{Connection, close};
pub use endpoint::{Arrival, Endpoint, Settings};
pub use exchange::{Exchange, Receiver, Sender};
pub use identity::{Identity, Role, identity};
pub use tls::Credentials;

/// Why a connection could not be made or a message not be passed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No UDP socket at this address.
    #[error("cannot bind UDP {address}")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The certificate files of this side cannot be used.
    #[error("credentials: {0}")]
    Credentials(String),
    /// The far side could not be reached or proved nothing.
    #[error("{address}: {reason}")]
    Dial {
        /// Who was called.
        address: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// A caller was turned away.
    #[error("refused {address}: {reason}")]
    Refused {
        /// Who called.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// The call did not end in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The connection is over.
    #[error("connection lost: {0}")]
    Closed(String),
    /// The far side dropped its sending half.
    #[error("the other side cancelled (code {0})")]
    Reset(u64),
    /// The far side no longer reads what we send.
    #[error("the other side no longer listens")]
    Cancelled,
    /// The stream ended where a message was expected.
    #[error("the conversation ended early")]
    Ended,
    /// The stream ended inside a message.
    #[error("the conversation was cut inside a message")]
    Cut,
    /// An earlier send was dropped half-way: the stream cannot carry another message.
    #[error("the stream is broken by an unfinished send")]
    Broken,
    /// A message is too large or malformed.
    #[error(transparent)]
    Frame(#[from] wire::frame::FrameError),
}

/// Waits for `future`, but not longer than `limit`.
///
/// # Errors
/// [`LinkError::Deadline`] or the future's own error.
pub async fn within<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(LinkError::Deadline(limit)),
    }
}

#[cfg(test)]
mod tests;
