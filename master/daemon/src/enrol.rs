//! What racks report, and the answers: machines that want an identity, nodes that tell something.
//!
//! Who a machine is, is decided in the log ([`state::discovery`]); here its certificate is made and the
//! answer is given, after the commit.

use link::Role;
use state::discovery::{self, Enrolment, Outcome, RackEvent, Times};
use wire::agent::Report;
use wire::rack::{Enrol, RackAnswer, RackReport};

use crate::core::{Core, Trouble};
use crate::pki::lifetime;
use crate::racks::{Answered, refused};

/// Most reports in one message.
const MAX_NODES: usize = 4096;
/// Longest text of an audit line that a service node sends.
const MAX_AUDIT: usize = 1024;
/// Most machines that are listed without a node; a flood of made-up ones must not fill the tables.
const MAX_PENDING: usize = 20_000;

/// The answer to what service node `rack` reports.
pub async fn answer(core: &Core, rack: &str, report: RackReport) -> RackAnswer {
    if !core.leads() {
        return RackAnswer::NotLeader(core.leader());
    }
    match report {
        RackReport::Enrol(enrol) => machine(core, rack, enrol).await,
        RackReport::Node { node, report, at } => {
            told(core.racks.report(node_event(rack, node, report, at)).await)
        }
        RackReport::Nodes(reports) => nodes(core, rack, reports).await,
        RackReport::Audit { who, what } => {
            let cut = |text: String| text.chars().take(MAX_AUDIT).collect::<String>();
            let what = format!("{} (service node {rack})", cut(what));
            told(core.racks.report(RackEvent::Audit { who: cut(who), what }).await)
        }
    }
}

fn node_event(rack: &str, node: String, report: Report, at: u64) -> RackEvent {
    RackEvent::Report { rack: rack.to_owned(), node, report, at }
}

/// Many reports in order: all go into the log together, each is answered for itself there; the service
/// node learns that none is to be sent again.
async fn nodes(core: &Core, rack: &str, reports: Vec<(String, Report, u64)>) -> RackAnswer {
    if reports.len() > MAX_NODES {
        return RackAnswer::Denied {
            reason: format!("{} reports at once, the limit is {MAX_NODES}", reports.len()),
        };
    }
    let mut answers = Vec::with_capacity(reports.len());
    for (node, report, at) in reports {
        match core.racks.queue(node_event(rack, node, report, at)).await {
            Ok(answer) => answers.push(answer),
            Err(trouble) => return again(trouble),
        }
    }
    let mut last = wire::ids::Revision(core.read(state::State::revision));
    for answer in answers {
        match answer.await {
            Ok(Ok(answered)) => {
                if let Some(reason) = refused(&answered.outcome) {
                    tracing::warn!(%rack, %reason, "report refused");
                }
                last = last.max(answered.revision);
            }
            Ok(Err(trouble)) => return again(trouble),
            Err(_) => return RackAnswer::Again("the master is stopping".to_owned()),
        }
    }
    RackAnswer::Stored(last)
}

/// A machine that wants an identity.
async fn machine(core: &Core, rack: &str, request: Enrol) -> RackAnswer {
    let public_key = request.hello.public_key.clone();
    if public_key.is_empty() {
        return RackAnswer::Denied { reason: "no public key was offered".to_owned() };
    }
    let named = request.evidence.iter().map(|evidence| evidence.node.as_str());
    let connected = named.filter(|node| core.racks.is_connected(node)).map(str::to_owned).collect();
    let fingerprint = hex(&link::pki::digest(&public_key));
    let event =
        RackEvent::Enrol(Box::new(Enrolment { rack: rack.to_owned(), fingerprint, request, connected }));
    // What would be decided now: a machine that waits asks every few seconds and changes nothing.
    let preview = core.read(|state| {
        let times =
            Times { wall: core.clock.unix(), cluster: state.cluster_time(), revision: state.revision() };
        discovery::decide(state, &event, times)
    });
    let mut ready = None;
    match &preview.outcome {
        Outcome::Pending(reason) if preview.writes.is_empty() => {
            return RackAnswer::Pending { reason: reason.clone() };
        }
        Outcome::Pending(reason) if too_many_pending(core) => {
            tracing::warn!(%rack, "the list of unknown machines is full ({MAX_PENDING}); one is not listed");
            return RackAnswer::Pending { reason: format!("{reason}; the list of unknown machines is full") };
        }
        // A key that cannot be in a certificate must not take a node.
        Outcome::Admitted { node, .. } => match core.pki.issue(Role::Node, node, &public_key, lifetime::NODE)
        {
            Ok(certificate) => ready = Some((node.clone(), certificate)),
            Err(error) => return RackAnswer::Denied { reason: error.to_string() },
        },
        _ => {}
    }
    let answered = match core.racks.report(event).await {
        Ok(answered) => answered,
        Err(trouble) => return again(trouble),
    };
    match answered.outcome {
        Outcome::Admitted { node, method, generation } => {
            let certificate = match ready {
                Some((known, certificate)) if known == node => Ok(certificate),
                _ => core.pki.issue(Role::Node, &node, &public_key, lifetime::NODE),
            };
            tracing::info!(%rack, %node, %method, generation, "machine admitted");
            match certificate {
                Ok(certificate) => {
                    RackAnswer::Admitted { node, certificate, method, revision: answered.revision }
                }
                Err(error) => RackAnswer::Denied { reason: error.to_string() },
            }
        }
        Outcome::Pending(reason) => {
            tracing::info!(%rack, %reason, "machine not recognized");
            RackAnswer::Pending { reason }
        }
        outcome => told(Ok(Answered { outcome, revision: answered.revision })),
    }
}

/// Whether as many machines are listed without a node as may be.
fn too_many_pending(core: &Core) -> bool {
    core.racks.list_is_full(|| {
        core.read(|state| {
            let listed = state.named("discoverydata").map_or(0, state::Table::len);
            listed > state.node_names().count() + MAX_PENDING
        })
    })
}

fn told(answered: Result<Answered, Trouble>) -> RackAnswer {
    match answered {
        Err(trouble) => again(trouble),
        Ok(answered) => match refused(&answered.outcome) {
            Some(reason) => RackAnswer::Denied { reason: reason.to_owned() },
            None => RackAnswer::Stored(answered.revision),
        },
    }
}

fn again(trouble: Trouble) -> RackAnswer {
    match trouble {
        Trouble::NotLeader(leader) => RackAnswer::NotLeader(leader),
        other => RackAnswer::Again(other.to_string()),
    }
}

/// Bytes as hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
