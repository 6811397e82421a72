//! Getting an identity: the machine shows what it is and, when it has one, proves that it holds the
//! one-time token of its boot files. The service node proves that it belongs to the pinned cluster.

use std::net::SocketAddr;
use std::time::Duration;

use link::pki::{self, Key};
use link::{Connection, Credentials, LinkError, Role};
use ring::hmac;
use service::Backoff;
use tracing::{info, warn};
use wire::agent::{ENROL_EXPORTER_BYTES, ENROL_EXPORTER_LABEL, EnrolAnswer, EnrolHello};
use wire::hardware::Hardware;

use crate::{Life, MAX_WAIT};

/// A service node that has said nothing for so long is asked again: it repeats `Pending` sooner.
const SILENCE: Duration = Duration::from_secs(180);

enum Attempt {
    Admitted(Credentials),
    Denied(String),
}

/// Asks every service node in turn until one admits the machine.
///
/// The key is made once: an answer that was lost on its way is repeated for the same key.
pub async fn until_admitted(life: &Life, hardware: &Hardware) -> Credentials {
    let mut backoff = Backoff::new(Duration::from_millis(500), MAX_WAIT);
    let mut key = None;
    loop {
        for address in &life.config.service_nodes {
            let made = match &key {
                Some(made) => made,
                None => match Key::generate() {
                    Ok(made) => key.insert(made),
                    Err(error) => {
                        warn!(%error, "no key can be made");
                        continue;
                    }
                },
            };
            match attempt(life, *address, hardware, made).await {
                Ok(Attempt::Admitted(credentials)) => return credentials,
                Ok(Attempt::Denied(reason)) => warn!(%address, %reason, "not admitted"),
                Err(error) => info!(%address, %error, "enrolment did not succeed"),
            }
        }
        tokio::time::sleep(backoff.wait(service::random::number())).await;
    }
}

async fn attempt(
    life: &Life,
    address: SocketAddr,
    hardware: &Hardware,
    key: &Key,
) -> Result<Attempt, LinkError> {
    let config = &life.config;
    let connection = life.endpoint.dial_pinned(address, config.pin, wire::ALPN_ENROL).await?;
    let hello = EnrolHello {
        version: wire::version::CURRENT,
        public_key: key.public_der.clone(),
        proof: proof(&connection, config.token.as_deref(), &key.public_der)?,
        hardware: hardware.clone(),
        boot_id: config.boot_id.clone(),
        phase: config.phase,
    };
    let mut exchange = connection.open().await?;
    exchange.send(&hello).await?;
    loop {
        match exchange.expect(SILENCE).await? {
            EnrolAnswer::Pending(reason) => info!(%address, %reason, "waiting to be admitted"),
            EnrolAnswer::Denied(reason) => return Ok(Attempt::Denied(reason)),
            EnrolAnswer::Admitted { node, certificate, ca, now } => {
                let credentials =
                    Credentials { ca_pem: ca, cert_pem: certificate, key_pem: key.key_pem.clone() };
                check(&credentials, &node, config.pin)?;
                info!(%node, "admitted");
                if config.set_clock {
                    set_clock(now).await;
                }
                connection.close(link::close::DONE, "admitted");
                return Ok(Attempt::Admitted(credentials));
            }
        }
    }
}

/// HMAC-SHA256(token, TLS exporter || public key): worth nothing on another connection.
fn proof(connection: &Connection, token: Option<&str>, public_key: &[u8]) -> Result<Vec<u8>, LinkError> {
    let Some(token) = token else { return Ok(Vec::new()) };
    let channel = connection.export_keying_material::<ENROL_EXPORTER_BYTES>(ENROL_EXPORTER_LABEL, b"")?;
    let secret = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
    Ok(hmac::sign(&secret, &[&channel[..], public_key].concat()).as_ref().to_vec())
}

/// The answer must be of the pinned cluster, for a node, and for the node it names.
fn check(credentials: &Credentials, node: &str, pin: [u8; 32]) -> Result<(), LinkError> {
    let refuse = |what: &str| Err(LinkError::Credentials(what.to_owned()));
    if pki::pin(&credentials.ca_pem)? != pin {
        return refuse("the answer brings another CA than the pinned one");
    }
    let identity = credentials.identity()?;
    if identity.role != Role::Node || identity.name != node {
        return refuse("the certificate names somebody else");
    }
    Ok(())
}

/// Sets the system's clock when it is more than a minute off (machines with a dead battery).
async fn set_clock(now: u64) {
    if service::Clock::Real.unix().abs_diff(now) <= 60 {
        return;
    }
    let mut date = tokio::process::Command::new("date");
    date.args(["-u", "-s", &format!("@{now}")]).stdout(std::process::Stdio::null());
    match date.status().await {
        Ok(status) if status.success() => info!(now, "the clock was wrong and is set"),
        _ => warn!(now, "the clock is wrong and cannot be set"),
    }
}
