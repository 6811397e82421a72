//! Tells registered handlers of changes: each change once for each registration, in the order of revisions.
//!
//! Every member has a [`Worker`] for each registration. The leader's calls the handler, in a process that outlives
//! the daemon ([`runner`]); a follower's only tells how a call ended that it began while it led. How far a
//! registration is lies in the log ([`state::notify`]): a call begins when the log says which master begins it, and
//! the next begins when the log says how it ended. docs/decisions/042-notification.md has the reasons.
//!
//! Commands never wait for any of this: workers read the history from the store.

pub(crate) mod handler;
mod journal;
mod post;
mod reader;
mod remote;
pub mod runner;
mod worker;

use std::collections::BTreeMap;

use state::notify::TABLE;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::core::Core;
use worker::Worker;

pub use remote::take_entry;

/// Runs until the master stops.
pub async fn run(core: Core) {
    let pulse = watch::Sender::new(());
    let mut committed = core.committed();
    let mut status = core.group.status();
    let mut workers: BTreeMap<(String, u64), JoinHandle<()>> = BTreeMap::new();
    let mut seen = None;
    loop {
        let now = core.read(|state| (state.changed_at(TABLE), state.cursors().len()));
        if seen != Some(now) {
            seen = Some(now);
            workers.retain(|_, worker| !worker.is_finished());
            let known: Vec<(String, u64)> = core.read(|state| {
                state.cursors().iter().map(|(file, cursor)| (file.clone(), cursor.since)).collect()
            });
            for key in known {
                workers.entry(key).or_insert_with_key(|(file, since)| {
                    let worker = Worker::new(core.clone(), file.clone(), *since, pulse.subscribe());
                    core.drain.spawn("handler of changes", worker.run())
                });
            }
        }
        // Whatever a worker waits for, it can have come with a change, a step or another leader.
        pulse.send_replace(());
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            change = committed.recv() => if matches!(change, Err(RecvError::Closed)) {
                return;
            },
            changed = status.changed() => if changed.is_err() {
                return;
            },
        }
    }
}
