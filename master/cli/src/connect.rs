//! Finding a master that answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use link::{Connection, Credentials, Endpoint, Receiver, Role, Sender, Settings};

use crate::config::Config;

/// How long one round over all masters may take.
const ROUND: Duration = Duration::from_secs(4);

/// The masters as this client knows them.
#[derive(Debug)]
pub struct Masters {
    endpoint: Endpoint,
    credentials: Credentials,
    named: Vec<String>,
    preferred: Option<String>,
    connection: Option<Connection>,
}

/// An open conversation with a master.
#[derive(Debug)]
pub struct Talk {
    /// What we say.
    pub send: Sender,
    /// What we hear.
    pub receive: Receiver,
}

impl Masters {
    /// Reads the user's certificate and opens a socket.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn new(config: &Config) -> Result<Self, String> {
        let credentials = Credentials::from_files(&config.ca, &config.cert, &config.key)
            .map_err(|error| error.to_string())?;
        let settings = Settings {
            // A lost master must be noticed soon: another one takes over within seconds.
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            dial_timeout: ROUND,
            ..Settings::small()
        };
        let any = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 0], 0));
        let any_v4 = SocketAddr::from(([0, 0, 0, 0], 0));
        let v4 = config.masters.iter().all(|address| !address.starts_with('['));
        let endpoint =
            Endpoint::client_with(if v4 { any_v4 } else { any }, settings).map_err(|error| chain(&error))?;
        Ok(Self { endpoint, credentials, named: config.masters.clone(), preferred: None, connection: None })
    }

    /// All addresses, for messages.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.named.join(", ")
    }

    /// The leader was said to be there.
    pub fn prefer(&mut self, address: &str) {
        self.preferred = Some(address.to_owned());
        self.disconnect();
    }

    /// The connection broke.
    pub fn lost(&mut self) {
        self.preferred = None;
        self.disconnect();
    }

    /// Opens a conversation with any master, over the present connection if there is one.
    ///
    /// # Errors
    /// A sentence for the user.
    pub async fn talk(&mut self, give_up: Instant) -> Result<Talk, String> {
        let limit = ROUND.min(give_up.saturating_duration_since(Instant::now())).max(Duration::from_secs(1));
        let connection = match self.connection.clone().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect(limit).await?,
        };
        let exchange = link::within(limit, connection.open()).await.map_err(|error| error.to_string())?;
        let (send, receive) = exchange.split();
        Ok(Talk { send, receive })
    }

    async fn connect(&mut self, limit: Duration) -> Result<Connection, String> {
        let mut addresses = Vec::new();
        let mut trouble = None;
        for name in self.preferred.iter().chain(&self.named) {
            match resolve(name).await {
                Ok(found) => addresses.extend(found),
                Err(reason) => trouble = Some(reason),
            }
        }
        let mut seen = Vec::new();
        addresses.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        if addresses.is_empty() {
            return Err(trouble.unwrap_or_else(|| "no address".to_owned()));
        }
        let dial = self.endpoint.dial_any(&addresses, &self.credentials, wire::ALPN_MAIN, Role::Master);
        let connection = link::within(limit, dial).await.map_err(|error| error.to_string())?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Says farewell, so that the master need not wait for a sign of life.
    pub async fn farewell(mut self) {
        self.disconnect();
        // The socket's task sends it; it runs as soon as this one steps aside.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close(link::close::DONE, "done");
        }
    }
}

async fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    let lookup = tokio::time::timeout(ROUND, tokio::net::lookup_host(name.to_owned())).await;
    match lookup {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        Err(_) => Err(format!("{name}: no name server answers")),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
