//! One connection: who is at the other end, and the exchanges on it.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::HandshakeData;
use quinn::{ConnectionError, VarInt};
use rustls::pki_types::CertificateDer;

use crate::guard::Peer;
use crate::{Exchange, Identity, LinkError};

/// Codes with which a connection is closed.
pub mod close {
    /// The work is done.
    pub const DONE: u32 = 0;
    /// Not allowed to be here.
    pub const REFUSED: u32 = 1;
    /// This side is stopping.
    pub const STOPPING: u32 = 2;
    /// Another connection has taken this one's place.
    pub const REPLACED: u32 = 3;
}

/// An established connection. Clones are the same connection; it ends when the last clone and the last
/// stream of it are dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    quinn: quinn::Connection,
    alpn: Arc<[u8]>,
    identity: Option<Arc<Identity>>,
    peer: Arc<Peer>,
}

impl Connection {
    pub(crate) fn dialed(quinn: quinn::Connection, alpn: &[u8], peer: Arc<Peer>) -> Result<Self, LinkError> {
        let identity = shown_identity(&quinn)?;
        Ok(Self { quinn, alpn: alpn.into(), identity: identity.map(Arc::new), peer })
    }

    pub(crate) fn accepted(
        quinn: quinn::Connection,
        own_cluster: &str,
        peer: Arc<Peer>,
    ) -> Result<Self, LinkError> {
        let data = quinn.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
        let alpn = data.and_then(|data| data.protocol).unwrap_or_default();
        let shown = shown_identity(&quinn).map_err(|error| error.to_string());
        let verdict = shown.and_then(|identity| match identity {
            Some(identity) if identity.cluster != own_cluster => {
                Err(format!("{identity} is of another cluster"))
            }
            None if alpn != wire::ALPN_ENROL => Err("no certificate".to_owned()),
            identity => Ok(identity),
        });
        match verdict {
            Ok(identity) => Ok(Self { quinn, alpn: alpn.into(), identity: identity.map(Arc::new), peer }),
            Err(reason) => {
                quinn.close(VarInt::from_u32(close::REFUSED), reason.as_bytes());
                Err(LinkError::Refused { address: quinn.remote_address(), reason })
            }
        }
    }

    /// Who is at the other end; `None` for a caller that enrols.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_deref()
    }

    /// The conversation that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> &[u8] {
        &self.alpn
    }

    /// Where the other end is now; for logs and checks, never for identity.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.quinn.remote_address()
    }

    /// The local address that the other side reached, where the system tells.
    #[must_use]
    pub fn local_ip(&self) -> Option<std::net::IpAddr> {
        self.quinn.local_ip()
    }

    /// A number that tells this connection from every other one of this process.
    #[must_use]
    pub fn id(&self) -> usize {
        self.quinn.stable_id()
    }

    /// The certificates that the other side showed (DER), its own first.
    #[must_use]
    pub fn certificates(&self) -> Vec<Vec<u8>> {
        shown(&self.quinn).map_or_else(Vec::new, |all| all.iter().map(|der| der.to_vec()).collect())
    }

    /// Starts an exchange. Waits while as many are open as the other side allows.
    ///
    /// The other side learns of it with the first message that is sent.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn open(&self) -> Result<Exchange, LinkError> {
        let (send, receive) = self.quinn.open_bi().await.map_err(closed)?;
        Ok(Exchange::new(send, receive, &self.peer))
    }

    /// The next exchange that the other side starts.
    ///
    /// # Errors
    /// When the connection is over.
    pub async fn accept(&self) -> Result<Exchange, LinkError> {
        let (send, receive) = self.quinn.accept_bi().await.map_err(closed)?;
        Ok(Exchange::new(send, receive, &self.peer))
    }

    /// Waits until the connection is over and says why.
    pub async fn closed(&self) -> LinkError {
        closed(self.quinn.closed().await)
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.quinn.close_reason().is_some()
    }

    /// Ends the connection at once; unread data of either side is lost. See [`close`] for codes.
    pub fn close(&self, code: u32, reason: &str) {
        self.quinn.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Key material that only the two ends of this very connection can compute (RFC 8446, 7.5).
    ///
    /// # Errors
    /// When TLS cannot give that many bytes.
    pub fn export_keying_material<const N: usize>(
        &self,
        label: &[u8],
        context: &[u8],
    ) -> Result<[u8; N], LinkError> {
        let mut out = [0; N];
        self.quinn
            .export_keying_material(&mut out, label, context)
            .map_err(|_| LinkError::Closed("no keying material".to_owned()))?;
        Ok(out)
    }
}

/// Our words for the end of a connection.
pub(crate) fn closed(error: ConnectionError) -> LinkError {
    LinkError::Closed(match error {
        ConnectionError::TimedOut => "no sign of life".to_owned(),
        ConnectionError::LocallyClosed => "closed by this side".to_owned(),
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the other side: {}", String::from_utf8_lossy(&close.reason))
        }
        other => other.to_string(),
    })
}

type Shown = Box<Vec<CertificateDer<'static>>>;

fn shown(connection: &quinn::Connection) -> Option<Shown> {
    connection.peer_identity()?.downcast().ok()
}

fn shown_identity(connection: &quinn::Connection) -> Result<Option<Identity>, LinkError> {
    match shown(connection) {
        Some(all) => match all.first() {
            Some(own) => Identity::from_certificate(own).map(Some),
            None => Ok(None),
        },
        None => Ok(None),
    }
}
