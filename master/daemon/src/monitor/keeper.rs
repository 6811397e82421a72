//! One plug-in on one master.
//!
//! Invariant: a plug-in that runs was told by `start`, `addNodes` and `removeNodes` of the nodes in `known`; what differs
//! from the table is told next. What a master that was killed has told is told again by the next one's `start`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::monitor::{BUILT_IN, settings, wishes};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::plugin::{Plugin, Told};
use super::{Seat, Seen, ask, lines, liveness};
use crate::core::Core;

/// Pause after a first failure; each further one waits twice as long.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(600);
/// Nodes that come and go are looked for this often at most: there may be very many, and their rows change all the time.
const NODES: Duration = Duration::from_secs(1);
/// A master that ends has no more time than this for a plug-in.
const FAREWELL: Duration = Duration::from_secs(4);

/// See the module.
pub(super) struct Keeper {
    core: Core,
    name: String,
    seat: Arc<Seat>,
    pulse: watch::Receiver<()>,
    running: Option<Running>,
    known: BTreeSet<String>,
    /// The revision of nodelist that `known` was compared with.
    compared: u64,
    next_look: Instant,
    failures: u32,
    retry: Option<Instant>,
    /// Of the tables that the last failure was made with.
    failed_at: u64,
}

struct Running {
    nodestatmon: bool,
    settings: BTreeMap<String, String>,
    /// What the built-in one does, if it does anything.
    task: Option<JoinHandle<()>>,
}

/// What the tables say of the plug-in now.
struct Wished {
    /// Revision of the table monitoring.
    at: u64,
    nodestatmon: Option<bool>,
    settings: BTreeMap<String, String>,
    nodelist: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Keeper {
    pub(super) fn new(core: Core, name: String, pulse: watch::Receiver<()>) -> Self {
        let seat = core.monitors.seat(&name);
        Self {
            core,
            name,
            seat,
            pulse,
            running: None,
            known: BTreeSet::new(),
            compared: 0,
            next_look: Instant::now(),
            failures: 0,
            retry: None,
            failed_at: 0,
        }
    }

    /// Works until the master stops.
    pub(super) async fn run(mut self) {
        let drain = self.core.drain.clone();
        while !drain.is_stopping() {
            let turn = self.turn();
            tokio::pin!(turn);
            tokio::select! {
                biased;
                () = &mut turn => {}
                // What was asked meanwhile is done first: a start must not come after the stop.
                () = drain.stopping() => {
                    let _ = tokio::time::timeout(FAREWELL, turn).await;
                }
            }
        }
        if !self.built_in() {
            self.farewell().await;
        }
    }

    fn built_in(&self) -> bool {
        self.name == BUILT_IN
    }

    fn wished(&self) -> Wished {
        let leads = self.core.leads();
        self.core.read(|state| Wished {
            at: state.changed_at("monitoring"),
            nodestatmon: wishes(state)
                .into_iter()
                .find(|wish| leads && wish.name == self.name)
                .map(|wish| wish.nodestatmon),
            settings: settings(state, &self.name),
            nodelist: state.changed_at("nodelist"),
        })
    }

    /// Does one thing, or waits.
    async fn turn(&mut self) {
        self.pulse.mark_unchanged();
        let wished = self.wished();
        if wished.at != self.failed_at {
            (self.failures, self.retry) = (0, None);
        }
        let resting = self.retry.is_some_and(|retry| Instant::now() < retry);
        let done = match (&self.running, wished.nodestatmon) {
            _ if resting => return self.wait(&wished).await,
            (None, None) => return self.wait(&wished).await,
            (None, Some(nodestatmon)) => self.start(&wished, nodestatmon).await,
            (Some(_), None) => self.stop(&wished).await,
            (Some(running), Some(nodestatmon)) if running.nodestatmon != nodestatmon => {
                self.turn_status(&wished, nodestatmon).await
            }
            (Some(running), Some(nodestatmon)) if running.settings != wished.settings => {
                self.set(&wished, nodestatmon).await
            }
            (Some(_), Some(_)) => {
                let looks = !self.built_in() && wished.nodelist != self.compared;
                if !looks || Instant::now() < self.next_look {
                    return self.wait(&wished).await;
                }
                self.nodes(wished.nodelist).await
            }
        };
        match done {
            Ok(()) => {
                (self.failures, self.retry) = (0, None);
                self.seat.seen.send_modify(|seen| seen.fault = None);
            }
            Err(fault) => {
                warn!(plugin = self.name, %fault, "monitoring");
                let pause = PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
                self.failures += 1;
                self.retry = Some(Instant::now() + pause);
                self.failed_at = wished.at;
                self.seat.seen.send_modify(|seen| {
                    seen.fault = Some(fault);
                    seen.settled = wished.at;
                    seen.tries += 1;
                });
            }
        }
    }

    async fn wait(&mut self, wished: &Wished) {
        if self.running.is_none() && wished.nodestatmon.is_none() {
            self.seat.seen.send_modify(|seen| seen.fault = None);
        }
        self.seat.seen.send_if_modified(|seen| {
            let news = seen.settled < wished.at;
            seen.settled = seen.settled.max(wished.at);
            news
        });
        let looks = !self.built_in() && self.running.is_some() && self.compared != wished.nodelist;
        let look = looks.then_some(self.next_look);
        let until = self.retry.into_iter().chain(look).min();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.pulse.changed() => if changed.is_err() {
                // The part that sends them ended; so will this master.
                std::future::pending::<()>().await;
            },
            () = self.core.drain.stopping() => {}
            () = self.seat.hurry.notified() => self.retry = None,
            () = timer => {}
        }
    }

    /// Asks; `None` when the plug-in has no such function.
    async fn ask(&self, function: &str, nodes: &[String]) -> Result<Option<Vec<String>>, String> {
        let _turn = self.seat.turn.lock().await;
        match ask(&self.core, &self.name, function, nodes, false).await {
            Ok(printed) => Ok(printed.map(|printed| lines(&printed, ""))),
            Err((printed, fault)) => {
                self.seat.seen.send_modify(|seen| seen.said = printed);
                Err(fault)
            }
        }
    }

    async fn start(&mut self, wished: &Wished, nodestatmon: bool) -> Result<(), String> {
        let settings = wished.settings.clone();
        if self.built_in() {
            let run = || self.core.drain.spawn("status of nodes", liveness::run(self.core.clone()));
            let task = nodestatmon.then(run);
            self.running = Some(Running { nodestatmon, settings, task });
            self.said(wished, vec![liveness::started(&self.core, nodestatmon)], true);
            return Ok(());
        }
        let known: BTreeSet<String> = self.core.read(|state| state.node_names().map(str::to_owned).collect());
        let mut said = self.ask("start", &[]).await?.ok_or("it has no function start")?;
        if nodestatmon {
            said.extend(self.feed(true).await?);
        }
        if said.is_empty() {
            said.push("started".to_owned());
        }
        info!(plugin = self.name, "monitoring is started");
        (self.known, self.compared) = (known, wished.nodelist);
        self.running = Some(Running { nodestatmon, settings, task: None });
        self.said(wished, said, true);
        Ok(())
    }

    async fn stop(&mut self, wished: &Wished) -> Result<(), String> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let mut said = Vec::new();
        if !self.built_in() {
            let feeds = running.nodestatmon;
            self.running = Some(running);
            if feeds {
                said.extend(self.feed(false).await?);
            }
            said.extend(self.ask("stop", &[]).await?.unwrap_or_default());
            self.running = None;
        }
        if said.is_empty() {
            said.push("stopped".to_owned());
        }
        info!(plugin = self.name, "monitoring is stopped");
        self.known.clear();
        self.said(wished, said, false);
        Ok(())
    }

    fn said(&self, wished: &Wished, said: Vec<String>, running: bool) {
        self.seat.seen.send_modify(|seen| {
            *seen = Seen { settled: wished.at, running, tries: seen.tries + 1, said, fault: None };
        });
    }

    /// Has the plug-in begin or end to keep the status of nodes.
    async fn feed(&self, on: bool) -> Result<Vec<String>, String> {
        if on {
            let able = self.ask("supportNodeStatusMon", &[]).await?.unwrap_or_default();
            if able.last().is_none_or(|word| word.trim() != "1") {
                return Err("it does not keep the status of nodes, and its row has nodestatmon=Y".to_owned());
            }
        }
        let function = if on { "startNodeStatusMon" } else { "stopNodeStatusMon" };
        Ok(self.ask(function, &[]).await?.unwrap_or_default())
    }

    async fn turn_status(&mut self, wished: &Wished, on: bool) -> Result<(), String> {
        if self.built_in() {
            self.running = None;
            return self.start(wished, on).await;
        }
        self.feed(on).await?;
        if let Some(running) = &mut self.running {
            running.nodestatmon = on;
        }
        Ok(())
    }

    async fn set(&mut self, wished: &Wished, nodestatmon: bool) -> Result<(), String> {
        if self.built_in() {
            self.running = None;
            return self.start(wished, nodestatmon).await;
        }
        self.ask("processSettingChanges", &[]).await?;
        if let Some(running) = &mut self.running {
            running.settings = wished.settings.clone();
        }
        Ok(())
    }

    /// Tells the plug-in of nodes that came and went.
    async fn nodes(&mut self, at: u64) -> Result<(), String> {
        self.next_look = Instant::now() + NODES;
        let (added, left) = self.core.read(|state| {
            let now: BTreeSet<&str> = state.node_names().collect();
            let added: Vec<String> = now
                .iter()
                .filter(|name| !self.known.contains(**name))
                .map(|name| (*name).to_owned())
                .collect();
            let left: Vec<String> =
                self.known.iter().filter(|name| !now.contains(name.as_str())).cloned().collect();
            (added, left)
        });
        if !left.is_empty() {
            self.ask("removeNodes", &left).await?;
            for name in &left {
                self.known.remove(name);
            }
        }
        if !added.is_empty() {
            self.ask("addNodes", &added).await?;
            self.known.extend(added);
        }
        self.compared = at;
        Ok(())
    }

    /// Stops the plug-in though this master ends.
    async fn farewell(&mut self) {
        let Some(running) = self.running.take() else { return };
        let Ok(plugin) = Plugin::find(&self.core.config.monitor, &self.name) else { return };
        let functions: &[&str] = if running.nodestatmon { &["stopNodeStatusMon", "stop"] } else { &["stop"] };
        let all = async {
            for function in functions {
                let told = Told {
                    settings: running.settings.clone(),
                    deadline: Some(FAREWELL / 2),
                    ..Told::default()
                };
                let said = plugin.ask(&self.core.config.monitor, function, told).await;
                if let Some(fault) = said.fault {
                    warn!(plugin = self.name, %fault, "monitoring");
                }
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            warn!(plugin = self.name, "monitoring was not stopped in time");
        }
    }
}
