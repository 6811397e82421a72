//! What the leader does unasked: found the cluster, settle what an earlier leader left, keep lists short.

use std::time::Duration;

use state::RowChange;
use state::actions::{self, Phase};
use storage::Role;
use tracing::{error, info, warn};

use crate::audit;
use crate::core::{Core, Trouble};
use crate::init::Founding;

/// How often lists are looked at.
const ROUND: Duration = Duration::from_secs(60);
/// Wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Status of an action whose master went away.
const LOST: u8 = 1;

/// Runs until the master stops.
pub async fn run(core: Core) {
    let mut status = core.group.status();
    let mut settled = None;
    loop {
        let (leads, term) = {
            let status = status.borrow_and_update();
            (status.role == Role::Leader, status.term)
        };
        let wait = if !leads {
            settled = None;
            ROUND
        } else if settled == Some(term) {
            tidy(&core).await;
            ROUND
        } else {
            match settle(&core).await {
                Ok(()) => {
                    settled = Some(term);
                    ROUND
                }
                Err(error) => {
                    warn!(%error, "the new leader is not ready yet");
                    AGAIN
                }
            }
        };
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            // What is applied meanwhile is no reason to look again, only who leads.
            changed = status.wait_for(|now| (now.role == Role::Leader, now.term) != (leads, term)) => {
                if changed.is_err() {
                    return;
                }
            }
            () = core.clock.sleep(wait) => {}
        }
    }
}

/// A new leader founds the cluster if that was not done, and settles actions whose executor is gone.
async fn settle(core: &Core) -> Result<(), Trouble> {
    core.barrier().await?;
    if core.read(state::State::revision) == 0 {
        match Founding::read(&core.config.bootstrap) {
            Ok(founding) => {
                let rows = founding.rows(core.server());
                let request = Some(wire::ids::RequestId { client: 0, sequence: 1 });
                core.transact("master", "init", request, Vec::new(), rows).await?;
                info!(cluster = core.server(), "the cluster is founded");
            }
            // Nobody is allowed anything then; the admin finds the reason here.
            Err(error) => error!(%error, "the new cluster has no first rows"),
        }
    }
    let now = core.clock.unix();
    let lost: Vec<RowChange> = core
        .read(actions::list)
        .into_iter()
        .filter(|action| action.phase == Phase::Running && core.actions.of_id(action.id).is_none())
        .map(|action| {
            let text = format!("master {} went away; what the nodes did is not known", action.master);
            actions::finish(action.id, Phase::Unknown, LOST, now, &text)
        })
        .collect();
    if !lost.is_empty() {
        core.change("settle", lost).await?;
    }
    Ok(())
}

/// Drops what is older than the lists may be.
async fn tidy(core: &Core) {
    let rows = core.read(|state| {
        let mut rows = actions::trim(state);
        rows.extend(audit::trim(state));
        rows
    });
    if rows.is_empty() {
        return;
    }
    if let Err(error) = core.change("tidy", rows).await {
        warn!(%error, "old rows were not dropped");
    }
}
