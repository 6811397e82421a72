//! The leader forgets what old revisions changed when `site.historydays` says how long the past is wanted.
//!
//! Invariant: what a registered handler has not been told yet stays, however old it is.

use std::time::Duration;

use commands::notice;
use state::State;
use storage::Role;
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};

use crate::core::{Core, Trouble};
use crate::past;

/// The row of `site` with the days that changes stay readable.
const KEY: &str = "historydays";
/// How often the past is looked at.
const ROUND: Duration = Duration::from_secs(3600);
/// Wait before something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Runs until the master stops.
pub async fn run(core: Core) {
    let mut status = core.group.status();
    let mut committed = core.committed();
    loop {
        let (leads, term) = {
            let status = status.borrow_and_update();
            (status.role == Role::Leader, status.term)
        };
        let wish = core.read(wished);
        // It counts from here: a clock that is moved while the work lasts is noticed.
        let (round, again) = (core.clock.sleep(ROUND), core.clock.sleep(AGAIN));
        let mut failed = false;
        if leads {
            tokio::select! {
                biased;
                () = core.drain.stopping() => return,
                end = forget(&core) => if let Err(error) = end {
                    warn!(%error, "old history was not forgotten");
                    failed = true;
                },
            }
        }
        tokio::pin!(round, again);
        loop {
            tokio::select! {
                biased;
                () = core.drain.stopping() => return,
                changed = status.wait_for(|now| (now.role == Role::Leader, now.term) != (leads, term)) => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                change = committed.recv() => match change {
                    Err(RecvError::Closed) => return,
                    _ if core.read(wished) != wish => break,
                    _ => {}
                },
                () = &mut again, if failed => break,
                () = &mut round => break,
            }
        }
    }
}

fn wished(state: &State) -> String {
    state.site(KEY).unwrap_or_default().trim().to_owned()
}

/// Forgets once what is older than `site.historydays` and needed by nobody, in entries that each take a moment.
///
/// # Errors
/// [`Trouble`]; a master that does not lead any more stops with it.
pub async fn forget(core: &Core) -> Result<(), Trouble> {
    core.barrier().await?;
    let wish = core.read(wished);
    let days = match wish.as_str() {
        "" => return Ok(()),
        text => text.parse::<u64>().ok().filter(|days| *days > 0),
    };
    let Some(days) = days else {
        warn!("site.{KEY} is {wish:?}, which is no number of days; nothing is forgotten by time");
        return Ok(());
    };
    let Some(time) = core.clock.unix().checked_sub(days.saturating_mul(24 * 3600)) else { return Ok(()) };
    let old = past::revision_at(core, time).await.map_err(Trouble::Refused)?;
    let upto = core.read(|state| {
        let needed = notice::needed(state).map_or(u64::MAX, |(_, at)| at.saturating_sub(1));
        old.min(needed).min(state.revision().saturating_sub(1))
    });
    let before = core.read(State::oldest);
    if before < upto {
        let oldest = past::forget(core, upto).await?;
        info!(days, before, oldest, "old history was forgotten");
    }
    Ok(())
}
