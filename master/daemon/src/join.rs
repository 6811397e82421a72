//! A new service node exchanges its join token for a certificate.
//!
//! It has no certificate yet: it has proved nothing but the token. One stream, one small message, ten
//! seconds.

use std::time::Duration;

use link::{Connection, LinkError, Role, close};
use state::discovery::{Outcome, RackEvent};
use wire::rack::{FromRack, JoinAnswer, JoinRequest};

use crate::core::{Core, Trouble};
pub use crate::enrol::hex;
use crate::pki::lifetime;

/// How long the whole conversation may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest request.
const BYTES: usize = 64 * 1024;

/// Serves a connection of the enrolment conversation.
pub async fn serve(core: Core, connection: Connection) {
    let result = link::within(LIMIT, converse(&core, &connection)).await;
    if let Err(error) = result {
        tracing::debug!(from = %connection.remote_address(), %error, "join failed");
    }
    connection.close(close::DONE, "");
}

async fn converse(core: &Core, connection: &Connection) -> Result<(), LinkError> {
    let mut exchange = connection.accept().await?;
    exchange.receiver.set_limit(BYTES);
    let answer = match exchange.expect::<FromRack>(LIMIT).await? {
        FromRack::Join(request) => answer(core, request).await,
        _ => JoinAnswer::Refused("only a join is possible without a certificate".to_owned()),
    };
    exchange.send(&answer).await?;
    exchange.sender.flush(LIMIT).await
}

async fn answer(core: &Core, request: JoinRequest) -> JoinAnswer {
    if !core.leads() {
        return JoinAnswer::NotLeader(core.leader());
    }
    if let Err(error) = wire::names::check_name("service node name", &request.name) {
        return JoinAnswer::Refused(error.to_string());
    }
    let life = lifetime::SERVICE_NODE;
    let certificate = match core.pki.issue(Role::ServiceNode, &request.name, &request.public_key, life) {
        Ok(certificate) => certificate,
        Err(error) => return JoinAnswer::Refused(error.to_string()),
    };
    let event = RackEvent::Join {
        name: request.name.clone(),
        digest: token_digest(&request.token),
        fingerprint: hex(&link::pki::digest(&request.public_key)),
    };
    match core.racks.report(event).await {
        Ok(answered) if answered.outcome == Outcome::Joined => {
            tracing::info!(rack = %request.name, "service node joined");
            JoinAnswer::Joined {
                certificate,
                ca: core.pki.ca_pem().to_owned(),
                masters: core.config.members().into_iter().map(|member| member.address).collect(),
            }
        }
        Ok(answered) => match answered.outcome {
            Outcome::Denied(reason) => {
                tracing::warn!(rack = %request.name, %reason, "join refused");
                JoinAnswer::Refused(reason)
            }
            _ => JoinAnswer::Refused("not joined".to_owned()),
        },
        Err(Trouble::NotLeader(leader)) => JoinAnswer::NotLeader(leader),
        Err(trouble) => JoinAnswer::Refused(trouble.to_string()),
    }
}

/// How a token is written down: the SHA-256 of its text, hexadecimal.
#[must_use]
pub fn token_digest(token: &str) -> String {
    hex(&link::pki::digest(token.trim().as_bytes()))
}
