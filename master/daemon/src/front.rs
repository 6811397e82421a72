//! The front door: who connects, by certificate, and which conversation that is.

use std::time::Duration;

use link::{Arrival, Connection, Exchange, Role, close};
use tracing::{debug, info, warn};
use wire::client::Request;
use wire::peer::Forward;

use crate::core::{Caller, Core};
use crate::{forward, join, notify, racks, request};

/// How long a client may take to say what it wants.
const FIRST: Duration = Duration::from_secs(10);

/// Accepts connections until the master stops.
pub async fn serve(core: Core) {
    loop {
        let arrival = tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            arrival = core.endpoint.accept() => arrival,
        };
        let Some(arrival) = arrival else { return };
        let inner = core.clone();
        core.drain.spawn("connection", async move {
            let drain = inner.drain.clone();
            tokio::select! {
                biased;
                () = drain.stopping() => {}
                () = connection(inner, arrival) => {}
            }
        });
    }
}

async fn connection(core: Core, arrival: Arrival) {
    let connection = match arrival.complete(&core.config.cluster).await {
        Ok(connection) => connection,
        Err(error) => {
            core.health.counter("connections_refused").one();
            return info!(%error, "connection refused");
        }
    };
    let address = connection.remote_address();
    if connection.alpn() == wire::ALPN_ENROL {
        return join::serve(core, connection).await;
    }
    let Some(identity) = connection.identity().cloned() else {
        return connection.close(close::REFUSED, "no certificate");
    };
    if connection.alpn() == wire::ALPN_PEER {
        if let Err(error) = core.group.serve_peer(connection).await {
            debug!(%address, %identity, %error, "peer connection ended");
        }
        return;
    }
    match identity.role {
        Role::Admin => clients(&core, &connection, Some(&identity.name)).await,
        Role::Master => clients(&core, &connection, None).await,
        Role::ServiceNode => racks::serve(core, connection).await,
        Role::Node => {
            warn!(%address, %identity, "a node may not talk to a master");
            core.health.counter("connections_refused").one();
            connection.close(close::REFUSED, "nodes talk to their service node");
        }
    }
}

/// Serves the requests of one connection; without `user` they are passed on by another master.
async fn clients(core: &Core, connection: &Connection, user: Option<&str>) {
    while let Ok(exchange) = connection.accept().await {
        let core = core.clone();
        let address = connection.remote_address().to_string();
        let caller = user.map(|user| Caller { user: user.to_owned(), address });
        let drain = core.drain.clone();
        drain.spawn("request", async move {
            let drain = core.drain.clone();
            let ended = tokio::select! {
                biased;
                // The client looks for another master and sends its request again.
                () = drain.stopping() => return,
                ended = client(core, caller, exchange) => ended,
            };
            if let Err(error) = ended {
                debug!(%error, "request ended early");
            }
        });
    }
}

async fn client(core: Core, caller: Option<Caller>, mut exchange: Exchange) -> Result<(), link::LinkError> {
    let (caller, request) = match caller {
        Some(caller) => (caller, exchange.expect::<Request>(FIRST).await?),
        None => {
            let Forward { user, address, request } = exchange.expect::<Forward>(FIRST).await?;
            // A master that no longer leads sends the client away instead of in a circle.
            if !core.leads() {
                let answer = wire::client::Answer::NotLeader(core.leader());
                exchange.send(&answer).await?;
                return exchange.sender.flush(Duration::from_secs(5)).await;
            }
            if let Request::Entry(bytes) = &request {
                return notify::take_entry(&core, bytes, exchange).await;
            }
            (Caller { user, address }, request)
        }
    };
    if core.leads() {
        request::serve(core, caller, request, exchange).await;
    } else {
        forward::pass(&core, &caller, request, exchange).await;
    }
    Ok(())
}
