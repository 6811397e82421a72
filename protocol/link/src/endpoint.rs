//! Endpoints: one UDP socket that dials and accepts.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, Runtime, TokioRuntime, TransportConfig, VarInt};
use service::Health;

use crate::connection::close;
use crate::guard::{Guard, Ids, Peers};
use crate::{Connection, Credentials, LinkError, Role, packet, socket, tls};

/// The name in the TLS handshake; nobody looks at it.
const SERVER_NAME: &str = "margay";
/// How long `dial_any` waits for one address before it tries the next one beside it.
const STAGGER: Duration = Duration::from_millis(300);

/// A dial that is under way.
type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Connection, LinkError>> + Send + 'a>>;

/// What can be set about an endpoint's connections.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many streams the other side may have open. Each costs memory on both sides from the start.
    pub streams: u32,
    /// A sign of life is sent after this much silence.
    pub keep_alive: Duration,
    /// A connection without any sign of life ends after this.
    pub idle_timeout: Duration,
    /// How long a dial may take.
    pub dial_timeout: Duration,
    /// Socket buffer in bytes, each direction.
    pub socket_buffer: usize,
    /// Warn when the system grants less.
    pub warn_if_small: bool,
    /// More connections at once are refused.
    pub max_connections: usize,
    /// Where datagrams that can be no packets for this endpoint are counted (`quic_dropped_...`).
    pub health: Health,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            streams: 64,
            keep_alive: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            dial_timeout: Duration::from_secs(10),
            socket_buffer: 16 * 1024 * 1024,
            warn_if_small: true,
            max_connections: 20_000,
            health: Health::new(),
        }
    }
}

impl Settings {
    /// For a process with one or few connections (client, agent).
    #[must_use]
    pub fn small() -> Self {
        Self { streams: 32, socket_buffer: 1024 * 1024, warn_if_small: false, ..Self::default() }
    }

    fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(IdleTimeout::try_from(self.idle_timeout).ok())
            .stream_receive_window(VarInt::from_u32(1024 * 1024))
            .receive_window(VarInt::from_u32(8 * 1024 * 1024))
            .send_window(8 * 1024 * 1024)
            .datagram_receive_buffer_size(None)
            // A machine room, not the internet: a lost first packet is resent after 0.3 s, not 1 s.
            .initial_rtt(Duration::from_millis(100));
        Arc::new(transport)
    }
}

/// One UDP socket that dials, and accepts when it has server credentials. Clones are the same socket.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quinn: quinn::Endpoint,
    settings: Settings,
    alpns: Arc<Vec<Vec<u8>>>,
    /// Known to the socket's guard.
    peers: Peers,
}

impl Endpoint {
    /// An endpoint that accepts conversations of these ALPNs (and dials).
    ///
    /// # Errors
    /// When the address cannot be bound or the credentials not be used.
    pub fn server(bind: SocketAddr, credentials: &Credentials, alpns: &[&[u8]]) -> Result<Self, LinkError> {
        Self::server_with(bind, credentials, alpns, Settings::default())
    }

    /// [`Endpoint::server`] with settings.
    ///
    /// # Errors
    /// As [`Endpoint::server`].
    pub fn server_with(
        bind: SocketAddr,
        credentials: &Credentials,
        alpns: &[&[u8]],
        settings: Settings,
    ) -> Result<Self, LinkError> {
        let config = server_config(credentials, alpns, &settings)?;
        Self::new(bind, Some(config), alpns, settings)
    }

    /// An endpoint that only dials. Bind `0.0.0.0:0` for IPv4, `[::]:0` for both.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn client(bind: SocketAddr) -> Result<Self, LinkError> {
        Self::client_with(bind, Settings::small())
    }

    /// [`Endpoint::client`] with settings.
    ///
    /// # Errors
    /// As [`Endpoint::client`].
    pub fn client_with(bind: SocketAddr, settings: Settings) -> Result<Self, LinkError> {
        Self::new(bind, None, &[], settings)
    }

    /// A dialing endpoint for both address families, or for IPv4 where IPv6 is switched off.
    ///
    /// # Errors
    /// When neither can be bound.
    pub fn client_anywhere() -> Result<Self, LinkError> {
        Self::client(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
            .or_else(|_| Self::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
    }

    fn new(
        bind: SocketAddr,
        server: Option<quinn::ServerConfig>,
        alpns: &[&[u8]],
        settings: Settings,
    ) -> Result<Self, LinkError> {
        let failed = |source| LinkError::Bind { address: bind, source };
        let socket = socket::bind(bind, settings.socket_buffer, settings.warn_if_small).map_err(failed)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        let (ids, peers) = (Ids::default(), Peers::default());
        let config = config(&ids);
        let guard = Guard::new(socket, ids, peers.clone(), server.is_some(), &settings.health);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            config,
            server,
            Arc::new(guard),
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let alpns = Arc::new(alpns.iter().map(|alpn| alpn.to_vec()).collect());
        Ok(Self { quinn, settings, alpns, peers })
    }

    /// The same socket; connections that are dialed through this handle have other settings.
    #[must_use]
    pub fn with_settings(&self, settings: Settings) -> Self {
        Self { settings, ..self.clone() }
    }

    /// The settings of connections that are dialed through this handle.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The address it is bound to (the port where 0 was asked for).
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.quinn.local_addr().map_err(|error| LinkError::Closed(error.to_string()))
    }

    /// New connections are answered with these credentials from now on (after a renewal).
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn renew(&self, credentials: &Credentials) -> Result<(), LinkError> {
        let alpns: Vec<&[u8]> = self.alpns.iter().map(Vec::as_slice).collect();
        self.quinn.set_server_config(Some(server_config(credentials, &alpns, &self.settings)?));
        Ok(())
    }

    /// A connection to a peer of this role, proved by its certificate.
    ///
    /// # Errors
    /// When it is not reached in time or is somebody else.
    pub async fn dial(
        &self,
        address: SocketAddr,
        credentials: &Credentials,
        alpn: &[u8],
        role: Role,
    ) -> Result<Connection, LinkError> {
        let config = tls::client(credentials, alpn, role, None)?;
        self.connect(address, config, alpn).await
    }

    /// A connection to the peer of this role and name.
    ///
    /// # Errors
    /// When it is not reached in time or is somebody else.
    pub async fn dial_named(
        &self,
        address: SocketAddr,
        credentials: &Credentials,
        alpn: &[u8],
        role: Role,
        name: &str,
    ) -> Result<Connection, LinkError> {
        let config = tls::client(credentials, alpn, role, Some(name))?;
        self.connect(address, config, alpn).await
    }

    /// A connection to the first of several addresses that answers. They are tried in order, the next
    /// one beside the last when that has not answered within 0.3 s.
    ///
    /// # Errors
    /// The last address's error when none answers; [`LinkError::Credentials`] without addresses.
    pub async fn dial_any(
        &self,
        addresses: &[SocketAddr],
        credentials: &Credentials,
        alpn: &[u8],
        role: Role,
    ) -> Result<Connection, LinkError> {
        let mut attempts: Vec<Attempt<'_>> = Vec::new();
        let mut waiting = addresses.iter();
        let mut failure = LinkError::Credentials("no address to dial".to_owned());
        loop {
            if let Some(address) = waiting.next() {
                attempts.push(Box::pin(self.dial(*address, credentials, alpn, role)));
            }
            if attempts.is_empty() {
                return Err(failure);
            }
            let first = poll_fn(|context| {
                for (index, attempt) in attempts.iter_mut().enumerate() {
                    if let Poll::Ready(result) = attempt.as_mut().poll(context) {
                        return Poll::Ready((index, result));
                    }
                }
                Poll::Pending
            });
            tokio::select! {
                biased;
                (index, result) = first => match result {
                    Ok(connection) => return Ok(connection),
                    Err(error) => {
                        failure = error;
                        drop(attempts.remove(index));
                    }
                },
                () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
            }
        }
    }

    /// A connection for enrolment: the server's CA has this SHA-256, this side shows no certificate, and
    /// no dates are looked at.
    ///
    /// # Errors
    /// When it is not reached in time or does not belong to that CA.
    pub async fn dial_pinned(
        &self,
        address: SocketAddr,
        pin: [u8; 32],
        alpn: &[u8],
    ) -> Result<Connection, LinkError> {
        self.connect(address, tls::pinned(pin, alpn)?, alpn).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        tls: quinn::crypto::rustls::QuicClientConfig,
        alpn: &[u8],
    ) -> Result<Connection, LinkError> {
        let failed = |reason: String| LinkError::Dial { address, reason };
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(self.settings.transport());
        let connecting = self
            .quinn
            .connect_with(config, address, SERVER_NAME)
            .map_err(|error| failed(error.to_string()))?;
        let limit = self.settings.dial_timeout;
        let connection = match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {limit:?}"))),
        };
        let peer = self.peers.hold(connection.remote_address());
        Connection::dialed(connection, alpn, peer)
    }

    /// The next caller, or `None` when the endpoint is closed. The handshake is not done yet: complete it
    /// in a task of its own, so that a slow caller delays nobody.
    pub async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.quinn.accept().await?;
            if self.quinn.open_connections() >= self.settings.max_connections {
                incoming.refuse();
                continue;
            }
            let (limit, peers) = (self.settings.dial_timeout, self.peers.clone());
            return Some(Arrival { incoming, limit, peers });
        }
    }

    /// Open connections right now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.quinn.open_connections()
    }

    /// Closes every connection and waits a moment for the farewells to be sent.
    pub async fn close(&self, reason: &str) {
        self.quinn.close(VarInt::from_u32(close::STOPPING), reason.as_bytes());
        let _ = tokio::time::timeout(Duration::from_secs(1), self.quinn.wait_idle()).await;
    }
}

/// A caller whose handshake is still to be done.
#[derive(Debug)]
pub struct Arrival {
    incoming: quinn::Incoming,
    limit: Duration,
    peers: Peers,
}

impl Arrival {
    /// Where the caller is, as it claims.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Does the handshake. Without a certificate only the enrolment conversation is let in; a
    /// certificate must be of our own cluster.
    ///
    /// # Errors
    /// [`LinkError::Refused`] with the reason.
    pub async fn complete(self, own_cluster: &str) -> Result<Connection, LinkError> {
        let address = self.incoming.remote_address();
        let refused = |reason: String| LinkError::Refused { address, reason };
        let connecting = self.incoming.accept().map_err(|error| refused(error.to_string()))?;
        let connection = match tokio::time::timeout(self.limit, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("the handshake did not end in time".to_owned())),
        };
        let peer = self.peers.hold(connection.remote_address());
        Connection::accepted(connection, own_cluster, peer)
    }
}

/// What the guard of the socket relies on: ids that it knows, one version, one size, no greasing of the bit
/// that tells QUIC from noise.
fn config(ids: &Ids) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    let ids = ids.clone();
    config
        .cid_generator(move || Box::new(ids.clone()))
        .supported_versions(vec![packet::VERSION])
        .grease_quic_bit(false)
        .max_udp_payload_size(packet::MAX_DATAGRAM)
        .expect("more than QUIC's minimum of 1200");
    config
}

fn server_config(
    credentials: &Credentials,
    alpns: &[&[u8]],
    settings: &Settings,
) -> Result<quinn::ServerConfig, LinkError> {
    let distinct: HashSet<_> = alpns.iter().collect();
    if distinct.is_empty() || distinct.len() != alpns.len() {
        return Err(LinkError::Credentials("no ALPN, or one twice".to_owned()));
    }
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls::server(credentials, alpns)?));
    config.transport_config(settings.transport());
    Ok(config)
}
