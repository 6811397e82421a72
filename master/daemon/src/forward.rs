//! A follower passes a client's conversation on to the leader, byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use link::{Connection, Exchange, LinkError, Role};
use tokio::sync::Mutex;
use wire::client::{Answer, Request};
use wire::peer::Forward;

use crate::core::{Caller, Core};

/// How long a leader may take to be reached.
const REACH: Duration = Duration::from_secs(3);
/// How long a leader is looked for.
const SEARCH: Duration = Duration::from_secs(4);

/// The connection to the leader, shared by all conversations.
#[derive(Debug, Default)]
pub struct ToLeader(Mutex<Option<(SocketAddr, Connection)>>);

impl ToLeader {
    async fn connection(
        &self,
        core: &Core,
        address: SocketAddr,
        name: &str,
    ) -> Result<Connection, LinkError> {
        let mut kept = self.0.lock().await;
        if let Some((known, connection)) = &*kept
            && *known == address
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let dial = core.endpoint.dial_named(address, &core.credentials, wire::ALPN_MAIN, Role::Master, name);
        let connection = link::within(REACH, dial).await?;
        *kept = Some((address, connection.clone()));
        Ok(connection)
    }
}

/// Passes a request on. Without a leader the client is asked to come again.
pub async fn pass(core: &Core, caller: &Caller, request: Request, mut client: Exchange) {
    match link::within(SEARCH, reach(core, caller, &request)).await {
        Ok((leader, exchange)) => {
            let mut status = core.group.status();
            let deposed = async {
                // What it still would say is worth nothing; the client asks the new one.
                let _ = status.wait_for(|status| status.leader.as_ref().map(|l| l.id) != Some(leader)).await;
            };
            tokio::select! {
                biased;
                () = deposed => {}
                () = pump(client, exchange) => {}
            }
        }
        Err(_) => {
            if client.send(&Answer::NotLeader(core.leader())).await.is_ok() {
                let _ = client.sender.flush(Duration::from_secs(5)).await;
            }
        }
    }
}

/// A conversation with whoever leads, and its number. When the leader changes meanwhile, the old one is waited for no more.
pub(crate) async fn reach(
    core: &Core,
    caller: &Caller,
    request: &Request,
) -> Result<(u64, Exchange), LinkError> {
    let mut status = core.group.status();
    loop {
        let leader = status.borrow_and_update().leader.clone();
        let Some(leader) = leader.filter(|leader| leader.id != core.config.id) else {
            if core.leads() {
                return Err(LinkError::Closed("this master leads now".to_owned()));
            }
            status.changed().await.map_err(|_| LinkError::Closed("this master stops".to_owned()))?;
            continue;
        };
        let changed = async {
            // Whatever else changes in the status does not matter here.
            let other = |status: &storage::Status| status.leader.as_ref().map(|l| l.id) != Some(leader.id);
            let _ = status.wait_for(other).await;
        };
        tokio::select! {
            biased;
            () = changed => {}
            opened = open(core, caller, request.clone(), leader.address, &leader.name) => {
                return opened.map(|exchange| (leader.id, exchange));
            }
        }
    }
}

async fn open(
    core: &Core,
    caller: &Caller,
    request: Request,
    address: SocketAddr,
    name: &str,
) -> Result<Exchange, LinkError> {
    let connection = core.to_leader.connection(core, address, name).await?;
    let mut exchange = link::within(REACH, connection.open()).await?;
    let forward = Forward { user: caller.user.clone(), address: caller.address.clone(), request };
    link::within(REACH, exchange.send(&forward)).await?;
    Ok(exchange)
}

/// Copies frames both ways until the leader ends or the client is gone; what is dropped then tells the
/// other side.
async fn pump(client: Exchange, leader: Exchange) {
    let (mut to_client, mut from_client) = client.split();
    let (mut to_leader, mut from_leader) = leader.split();
    let gone = to_client.stopped();
    let up = async {
        while let Ok(Some(frame)) = from_client.recv_bytes().await {
            if to_leader.send_bytes(&frame).await.is_err() {
                break;
            }
        }
        // The client ended its half only; whether it still listens is told by the other half.
        std::future::pending::<()>().await;
    };
    let down = async {
        loop {
            match from_leader.recv_bytes().await {
                Ok(Some(frame)) => {
                    if to_client.send_bytes(&frame).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    let _ = to_client.flush(Duration::from_secs(5)).await;
                    return;
                }
                // Dropping the sender resets the stream: the client looks for another master.
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        biased;
        () = gone => {}
        () = down => {}
        () = up => {}
    }
}
