//! A machine that asks for an identity: collects what is known about it, asks the master, and keeps it on
//! its stream until it is admitted or refused.
//!
//! The service node decides nothing here. It proves two things to the master: by which switch port the
//! machine hangs, and that it holds a token that this service node made.

use std::sync::Arc;
use std::time::Duration;

use link::{Connection, Exchange, LinkError, Receiver, Sender, pki, within};
use netboot::find::{Machine, evidence};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::agent::{ENROL_EXPORTER_BYTES, ENROL_EXPORTER_LABEL, EnrolAnswer, EnrolHello};
use wire::hardware::MAX_REPORT;
use wire::rack::{Enrol, Evidence, RackAnswer, RackReport, TokenProof};

use crate::{Core, tokens};

/// A caller that has not said who it is by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// The greeting carries a hardware report and little else.
const MAX_HELLO: usize = MAX_REPORT + 64 * 1024;
/// Machines that wait at a time; more are turned away and come again.
pub const MAX_PENDING: usize = 1_024;
/// While the master is silent the machine is told so after this time.
const MASTER_PATIENCE: Duration = Duration::from_secs(20);
/// A waiting machine's case is looked at again after a change of the mirror, but not more often than this.
const RECHECK: Duration = Duration::from_secs(2);
/// And after this time also without a change: switches do not tell of theirs.
const LOOK: Duration = Duration::from_secs(5);
/// Without any change the master is asked again after this time: an admin may have decided.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// A waiting machine hears from us at least so often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);
/// After an admission the mirror gets this long to show it before the machine is told.
const MIRROR_PATIENCE: Duration = Duration::from_secs(3);

/// Serves one enrolment.
pub async fn serve(core: Arc<Core>, connection: Connection) {
    let address = connection.remote_address();
    let Ok(_seat) = core.pending.try_acquire() else {
        core.health.counter("enrol_too_many").one();
        connection.close(link::close::REFUSED, "too many machines wait; come again");
        return;
    };
    match converse(&core, &connection).await {
        Ok(()) => {}
        Err(LinkError::Frame(error)) => {
            core.health.counter("enrol_malformed").one();
            debug!(%address, %error, "malformed enrolment");
        }
        Err(error) => debug!(%address, %error, "an enrolment ended early"),
    }
    connection.close(link::close::DONE, "done");
}

async fn converse(core: &Core, connection: &Connection) -> Result<(), LinkError> {
    let mut exchange: Exchange = within(PATIENCE, connection.accept()).await?;
    exchange.receiver.set_limit(MAX_HELLO);
    let hello: EnrolHello = exchange.expect(PATIENCE).await?;
    let (mut sender, receiver) = exchange.split();
    let refusal = refuse(&hello).err();
    let token = match refusal {
        Some(reason) => return deny(&mut sender, reason).await,
        None => match check_token(core, connection, &hello)? {
            Ok(token) => token,
            Err(reason) => {
                let who = connection.remote_address().to_string();
                warn!(%who, %reason, "enrolment refused");
                let audit = RackReport::Audit { who, what: format!("enrolment refused: {reason}") };
                let _ = tokio::time::timeout(MASTER_PATIENCE, core.reports.deliver(audit)).await;
                return deny(&mut sender, reason).await;
            }
        },
    };
    let case = Case { core, connection, hello, token };
    // The machine may give up at any moment; then nobody waits for the answer.
    tokio::select! {
        biased;
        () = sender.stopped() => Err(LinkError::Cancelled),
        error = gone(receiver) => Err(error),
        () = core.drain.stopping() => Ok(()),
        told = case.pursue(&mut sender) => told,
    }
}

/// Ends when the machine has reset its stream; an orderly end of its words is not the end.
async fn gone(mut receiver: Receiver) -> LinkError {
    match receiver.recv_bytes().await {
        Ok(Some(_)) => LinkError::Broken,
        Ok(None) => std::future::pending().await,
        Err(error) => error,
    }
}

fn refuse(hello: &EnrolHello) -> Result<(), String> {
    wire::version::check(hello.version)?;
    if hello.public_key.is_empty() || hello.public_key.len() > pki::MAX_REQUEST {
        return Err("the public key has an impossible length".to_owned());
    }
    if hello.hardware.adapters.len() > wire::hardware::MAX_ADAPTERS {
        return Err(format!("more than {} adapters", wire::hardware::MAX_ADAPTERS));
    }
    Ok(())
}

/// The token behind a proof. A wrong proof is refused; none at all is an unknown machine.
fn check_token(
    core: &Core,
    connection: &Connection,
    hello: &EnrolHello,
) -> Result<Result<Option<TokenProof>, String>, LinkError> {
    if hello.proof.is_empty() {
        return Ok(Ok(None));
    }
    let channel = connection.export_keying_material::<ENROL_EXPORTER_BYTES>(ENROL_EXPORTER_LABEL, b"")?;
    let message = [&channel[..], &hello.public_key].concat();
    let rack = core.mirror.rack();
    let candidates: Vec<_> = Machine::of(&hello.hardware)
        .macs
        .into_iter()
        .filter_map(|mac| rack.by_mac(mac).map(|node| node.name.clone()))
        .collect();
    match core.tokens.check(&candidates, &message, &hello.proof, core.clock.unix()) {
        Some(proof) => Ok(Ok(Some(proof))),
        None => {
            core.health.counter("enrol_bad_token").one();
            Ok(Err("the boot token is unknown or expired; boot again from the network".to_owned()))
        }
    }
}

async fn deny(sender: &mut Sender, reason: String) -> Result<(), LinkError> {
    within(PATIENCE, sender.send(&EnrolAnswer::Denied(reason))).await?;
    sender.flush(PATIENCE).await
}

struct Case<'a> {
    core: &'a Core,
    connection: &'a Connection,
    hello: EnrolHello,
    token: Option<TokenProof>,
}

impl Case<'_> {
    async fn pursue(&self, sender: &mut Sender) -> Result<(), LinkError> {
        let mut said = (String::new(), Instant::now());
        let mut changes = self.core.mirror.changes();
        loop {
            changes.mark_unchanged();
            let found = self.evidence().await;
            let asked = Instant::now();
            let reason = match self.ask(found.clone()).await {
                None => "no master answers; the machine is kept here until one does".to_owned(),
                Some(RackAnswer::Admitted { node, certificate, method, revision }) => {
                    let fingerprint = tokens::hex(&pki::digest(&self.hello.public_key));
                    info!(%node, %method, address = %self.connection.remote_address(), "admitted");
                    self.core.agents.admitted(&node, &fingerprint);
                    let _ = tokio::time::timeout(MIRROR_PATIENCE, self.core.mirror.reached(revision)).await;
                    let ca = self.core.credentials.ca_pem.clone();
                    let now = self.core.clock.unix();
                    let answer = EnrolAnswer::Admitted { node, certificate, ca, now };
                    within(PATIENCE, sender.send(&answer)).await?;
                    return sender.flush(PATIENCE).await;
                }
                Some(RackAnswer::Denied { reason }) => return deny(sender, reason).await,
                Some(RackAnswer::Pending { reason }) => reason,
                Some(RackAnswer::Stored(_) | RackAnswer::NotLeader(_) | RackAnswer::Again(_)) => {
                    "the master answered something else".to_owned()
                }
            };
            if said.0 != reason || said.1.elapsed() > SIGN_OF_LIFE {
                info!(address = %self.connection.remote_address(), serial = %self.hello.hardware.serial, %reason, "pending");
                within(PATIENCE, sender.send(&EnrolAnswer::Pending(reason.clone()))).await?;
                said = (reason, Instant::now());
            }
            self.until_worthwhile(asked, &found, &mut changes).await;
        }
    }

    /// Asks the master; none when it is silent.
    async fn ask(&self, evidence: Vec<Evidence>) -> Option<RackAnswer> {
        let report = RackReport::Enrol(Enrol {
            hello: self.hello.clone(),
            address: self.connection.remote_address().ip().to_string(),
            evidence,
            token: self.token.clone(),
        });
        tokio::time::timeout(MASTER_PATIENCE, self.core.reports.deliver(report)).await.ok()
    }

    /// Waits until the master could answer otherwise: other evidence, another master, or simply time.
    async fn until_worthwhile(
        &self,
        asked: Instant,
        before: &[Evidence],
        changes: &mut tokio::sync::watch::Receiver<wire::ids::Revision>,
    ) {
        let jitter = Duration::from_millis(service::random::number() % 3_000);
        let end = tokio::time::sleep_until(asked + ASK_AGAIN + jitter);
        tokio::pin!(end);
        let mut recheck = tokio::time::interval_at(Instant::now() + RECHECK, RECHECK);
        let mut looked = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                _ = recheck.tick() => {
                    let changed = changes.has_changed().unwrap_or(true);
                    // A switch's table changes without any word to us.
                    if changed || looked.elapsed() >= LOOK {
                        looked = Instant::now();
                        changes.mark_unchanged();
                        if self.evidence().await != before {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// What is known about the machine. A token says it all: then no switch is asked.
    async fn evidence(&self) -> Vec<Evidence> {
        let machine = Machine::of(&self.hello.hardware);
        let view = self.core.boot.view();
        let port = if self.token.is_some() {
            let reason = "not asked: the machine holds a boot token".to_owned();
            Evidence { method: "switch".to_owned(), node: String::new(), reason }
        } else {
            self.core.switches.port_of(&view, &machine.macs).await
        };
        evidence(&machine, &view, port)
    }
}
