//! Cluster time: runs while this master leads, from where the log left it.
//!
//! It is no wall clock. It never goes back, and stands still while nobody leads: a deadline cannot pass
//! while nothing could have been answered. While somebody waits it is written down every few seconds, so
//! that a restarted master goes on from there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use state::discovery::{RackEvent, waits};

use crate::core::Core;

/// How often waits are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How far cluster time may run ahead of what is written down while somebody waits.
const WRITE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ClusterTime {
    /// Cluster time when this master began to lead, and when that was.
    base: Mutex<Option<(u64, Instant)>>,
}

impl ClusterTime {
    /// Milliseconds of cluster time.
    pub(super) fn now(&self, core: &Core) -> u64 {
        let written = core.read(state::State::cluster_time);
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, since) = *base.get_or_insert_with(|| (written, core.clock.now()));
        let passed = core.clock.now().saturating_duration_since(since);
        written.max(start.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Somebody else leads: the next term begins with what is written down.
    fn forget(&self) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Ends waits in time, drops what is kept long enough, keeps cluster time.
pub(super) async fn run(core: Core) {
    loop {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            () = core.clock.sleep(TICK) => {}
        }
        if !core.leads() {
            core.racks.time().forget();
            continue;
        }
        let now = core.racks.time().now(&core);
        let (due, written, keep) = core.read(|state| {
            let keep = seconds(state.site("taskstatekeep"), waits::KEEP) * 1000;
            (waits::due(state, keep, now), state.cluster_time(), keep)
        });
        let behind = now.saturating_sub(written) > u64::try_from(WRITE.as_millis()).unwrap_or(u64::MAX);
        if (due.now || (due.waiting && behind))
            && let Err(error) = core.racks.report(RackEvent::Sweep { keep }).await
        {
            tracing::debug!(%error, "waits are not swept now");
        }
    }
}

/// A number of seconds in a site value.
pub(crate) fn seconds(value: Option<&str>, default: u64) -> u64 {
    value.and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}
