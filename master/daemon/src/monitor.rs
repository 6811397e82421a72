//! Monitoring plug-ins: the leader starts those that the table monitoring wishes, tells them of nodes that come and go,
//! and stops them when they are wished no longer or another master leads.
//!
//! Each plug-in has a [`Keeper`], a task that compares what is wished with what runs and does one thing after another;
//! so a plug-in that hangs delays nobody but itself. Commands change the table and wait for the keeper.
//! docs/decisions/047-monitoring.md has the plug-ins' side.

mod keeper;
mod liveness;
pub mod perform;
pub mod plugin;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commands::Output;
use commands::monitor::{BUILT_IN, Deed, Order, settings};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::core::Core;
use keeper::Keeper;
use plugin::{Plugin, Told};

/// Longer than a keeper takes for anything but its calls.
const SLACK: Duration = Duration::from_secs(15);
/// Calls that a keeper makes to start or stop a plug-in.
const CALLS: u32 = 3;
/// A plug-in says nothing better.
const NO_DESCRIPTION: &str = "No description available.";

/// What is known of each plug-in here.
#[derive(Debug, Default)]
pub struct Monitors(Mutex<BTreeMap<String, Arc<Seat>>>);

/// One plug-in: what its keeper did last, and the turn to ask it.
#[derive(Debug, Default)]
struct Seat {
    turn: tokio::sync::Mutex<()>,
    seen: watch::Sender<Seen>,
    /// Somebody wants what failed to be tried again now.
    hurry: Notify,
}

/// What a keeper did.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// It has done what the table monitoring wished at this revision.
    settled: u64,
    running: bool,
    /// How often it was started or stopped, or failed to be.
    tries: u64,
    /// Lines of the last start or stop.
    said: Vec<String>,
    /// Why it is not as it should be.
    fault: Option<String>,
}

impl Monitors {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Seat>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self, name: &str) -> Arc<Seat> {
        self.seats().entry(name.to_owned()).or_default().clone()
    }

    /// Lines for `margay status`.
    pub fn lines(&self) -> Vec<String> {
        let seen: Vec<(String, Seen)> =
            self.seats().iter().map(|(name, seat)| (name.clone(), seat.seen.borrow().clone())).collect();
        let mut lines = Vec::new();
        let running: Vec<&str> =
            seen.iter().filter(|(_, seen)| seen.running).map(|(name, _)| name.as_str()).collect();
        if !running.is_empty() {
            lines.push(format!("monitoring: {}", running.join(", ")));
        }
        for (name, seen) in &seen {
            if let Some(fault) = &seen.fault {
                lines.push(format!("ALARM: monitoring plug-in {name}: {fault}"));
            }
        }
        lines
    }
}

/// Runs until the master stops.
pub async fn run(core: Core) {
    let pulse = watch::Sender::new(());
    let mut committed = core.committed();
    let mut status = core.group.status();
    let mut keepers: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    let mut seen = None;
    loop {
        let now =
            core.read(|state| ["monitoring", "monsetting", "nodelist"].map(|table| state.changed_at(table)));
        let now = (now, core.leads());
        if seen != Some(now) {
            seen = Some(now);
            keepers.retain(|_, keeper| !keeper.is_finished());
            for name in core.read(names) {
                keepers.entry(name).or_insert_with_key(|name| {
                    let keeper = Keeper::new(core.clone(), name.clone(), pulse.subscribe());
                    core.drain.spawn("monitoring plug-in", keeper.run())
                });
            }
            pulse.send_replace(());
        }
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

fn names(state: &state::State) -> Vec<String> {
    commands::monitor::wishes(state).into_iter().map(|wish| wish.name).collect()
}

/// Waits until a plug-in is started or stopped as the table wishes, and shows what it said.
pub async fn effect(core: &Core, order: &Order, output: &mut Output) {
    let revision = core.read(|state| state.changed_at("monitoring"));
    if settle(core, order, output, |seen| seen.settled >= revision).await
        && (order.remote || !order.nodes.is_empty())
    {
        // It was for all nodes and only on this machine; more is wanted.
        self::order(core, order, output).await;
    }
}

/// Waits until the keeper has done something, and shows it; false when that is no success.
async fn settle(core: &Core, order: &Order, output: &mut Output, done: impl FnMut(&Seen) -> bool) -> bool {
    let mut seen = core.monitors.seat(&order.plugin).seen.subscribe();
    let limit = Duration::from_secs(core.config.monitor.deadline) * CALLS + SLACK;
    let settled = tokio::select! {
        biased;
        () = core.drain.stopping() => None,
        settled = tokio::time::timeout(limit, seen.wait_for(done)) => {
            settled.ok().and_then(Result::ok).map(|seen| seen.clone())
        }
    };
    let Some(settled) = settled else {
        fail(core, output, &format!("{}: it has not come to an end yet; margay status tells", order.plugin));
        return false;
    };
    show(core, output, &settled.said);
    if let Some(fault) = &settled.fault {
        fail(core, output, &format!("{}: {fault}", order.plugin));
    }
    settled.fault.is_none()
}

/// Asks a plug-in for a command.
pub async fn order(core: &Core, order: &Order, output: &mut Output) {
    let seat = core.monitors.seat(&order.plugin);
    let seen = seat.seen.borrow().clone();
    let plain = order.nodes.is_empty() && !order.remote;
    if order.deed == Deed::Start && plain && !seen.running && seen.fault.is_some() {
        seat.hurry.notify_one();
        settle(core, order, output, |now| now.tries > seen.tries).await;
        return;
    }
    if order.plugin == BUILT_IN {
        let text = match order.deed {
            Deed::Start => liveness::started(core, true),
            Deed::Stop => "stopped".to_owned(),
            Deed::Config | Deed::Deconfig | Deed::Describe => "nothing to be done".to_owned(),
        };
        return show(core, output, &[text]);
    }
    let function = match order.deed {
        Deed::Start => "start",
        Deed::Stop => "stop",
        Deed::Config => "config",
        Deed::Deconfig => "deconfig",
        Deed::Describe => "getDescription",
    };
    let _turn = seat.turn.lock().await;
    match ask(core, &order.plugin, function, &order.nodes, order.remote).await {
        Ok(None) if order.deed == Deed::Describe => output.line(&format!("  {NO_DESCRIPTION}")),
        Ok(None) => show(core, output, &[format!("{} has no function {function}", order.plugin)]),
        Ok(Some(printed)) if order.deed == Deed::Describe => output.text(&printed),
        Ok(Some(printed)) => show(core, output, &lines(&printed, "done")),
        Err((printed, fault)) => {
            show(core, output, &printed);
            fail(core, output, &format!("{}: {fault}", order.plugin));
        }
    }
}

/// Asks a plug-in: what it printed, if it has the function, or what it printed and what was wrong.
async fn ask(
    core: &Core,
    name: &str,
    function: &str,
    nodes: &[String],
    remote: bool,
) -> Result<Option<String>, (Vec<String>, String)> {
    let config = &core.config.monitor;
    let plugin = Plugin::find(config, name).map_err(|fault| (Vec::new(), fault))?;
    let told = Told { nodes, remote, settings: core.read(|state| settings(state, name)), deadline: None };
    let said = plugin.ask(config, function, told).await;
    match said.fault {
        None => Ok(said.printed),
        Some(fault) => Err((lines(said.printed.as_deref().unwrap_or_default(), ""), fault)),
    }
}

/// The lines that were printed, or this one.
fn lines(printed: &str, or: &str) -> Vec<String> {
    let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
    if lines.is_empty() && !or.is_empty() { vec![or.to_owned()] } else { lines }
}

fn show(core: &Core, output: &mut Output, lines: &[String]) {
    for line in lines {
        output.line(&format!("{}: {line}", core.config.name));
    }
}

fn fail(core: &Core, output: &mut Output, text: &str) {
    output.complain(&format!("Error: [{}]: {text}", core.server()));
    output.status = 1;
}
