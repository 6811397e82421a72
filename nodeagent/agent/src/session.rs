//! The connection of an enrolled node to its service node: one control stream, and calls.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use link::{Connection, Credentials, LinkError, Role, within};
use tokio::sync::mpsc;
use tracing::{info, warn};
use wire::agent::{AgentHello, IDENTITY_REFUSED, ToAgent};

use crate::{Life, Outcome, calls};

/// A service node that does not read for so long is lost.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// How a session ended.
pub enum End {
    /// The machine boots.
    Leave(Outcome),
    /// The service node does not take our certificate.
    Refused(String),
    /// The connection broke, or could not be made.
    Lost(String),
}

/// Holds a session until it ends.
pub async fn hold(life: &Arc<Life>, credentials: &Credentials, left: &mut mpsc::Receiver<Outcome>) -> End {
    let config = &life.config;
    let dial = life.endpoint.dial_any(&config.service_nodes, credentials, wire::ALPN_MAIN, Role::ServiceNode);
    let connection = tokio::select! {
        biased;
        outcome = left.recv() => return leave(outcome),
        dialed = dial => match dialed {
            Ok(connection) => connection,
            Err(error) => return lost(&error),
        },
    };
    let end = converse(life, &connection, left).await;
    if let Ok(End::Leave(_)) = end {
        connection.close(link::close::DONE, "the machine boots");
    }
    match end {
        Ok(end) => end,
        // A connection that was closed says why only there, not on its streams.
        Err(_) if connection.is_closed() => lost(&connection.closed().await),
        Err(error) => lost(&error),
    }
}

async fn converse(
    life: &Arc<Life>,
    connection: &Connection,
    left: &mut mpsc::Receiver<Outcome>,
) -> Result<End, LinkError> {
    let (mut sender, mut receiver) = connection.open().await?.split();
    let hello = AgentHello {
        version: wire::version::CURRENT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: life.config.boot_id.clone(),
        phase: life.config.phase,
        generation: life.generation.load(Ordering::Relaxed),
    };
    within(SEND_LIMIT, sender.send(&hello)).await?;
    info!(service_node = %connection.remote_address(), "connected");
    let mut changes = life.outbox.changes();
    changes.mark_changed();
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            outcome = left.recv() => return Ok(leave(outcome)),
            message = receiver.recv::<ToAgent>() => match message? {
                Some(message) => take(life, message),
                None => return Err(LinkError::Ended),
            },
            changed = changes.changed() => {
                if changed.is_err() {
                    return Err(LinkError::Ended);
                }
                for report in life.outbox.after(sent) {
                    within(SEND_LIMIT, sender.send(&report)).await?;
                    sent = report.sequence;
                }
            }
            exchange = connection.accept() => {
                life.drain.spawn("call", calls::answer(life.clone(), exchange?));
            }
        }
    }
}

fn take(life: &Life, message: ToAgent) {
    match message {
        ToAgent::Stored(sequence) => life.outbox.settled(sequence),
        ToAgent::Rejected { sequence, reason } => {
            warn!(sequence, %reason, "a report was not taken");
            life.outbox.settled(sequence);
        }
        ToAgent::Destiny(destiny) => life.steps.next(&destiny, &life.outbox),
        ToAgent::Config(config) => {
            life.wanted.send_replace(Some(config));
        }
    }
}

fn leave(outcome: Option<Outcome>) -> End {
    End::Leave(outcome.unwrap_or(Outcome::Stopped))
}

fn lost(error: &LinkError) -> End {
    let reason = error.to_string();
    if reason.contains(IDENTITY_REFUSED) { End::Refused(reason) } else { End::Lost(reason) }
}
