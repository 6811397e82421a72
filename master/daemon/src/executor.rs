//! Fan-outs as actions: begun in the log, carried out by a task of their own, followed by clients.
//!
//! Invariant: each node of a fan-out ends in exactly one line or status; an action that was begun ends, and
//! its end is written down by this master or, when it leads no more, by the next one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use commands::Command;
use commands::fanout::{FanOut, Folder, node_error, plain};
use commands::getadapter::Adapters;
use state::RowChange;
use state::actions::{self, Action, Phase};
use tokio::sync::mpsc;
use tracing::{info, warn};
use wire::client::{Answer, Input};
use wire::ids::ActionId;
use wire::op::{Event, Fault, NodeOp, NodeReply, Stream};
use wire::rack::{FanOut as Order, FanOutEvent, FanOutInput};

use crate::actions::{About, Kind, Live, Seat};
use crate::adapters;
use crate::audit;
use crate::core::{Core, done};
use crate::locks::{Held, Holder};
use crate::request::{End, Task, may_see};
use crate::spool;
use crate::talk::{Heard, Talk};

/// Pieces of standard input on their way to service nodes.
const STDIN: usize = 16;
/// For commands that may run as long as they like: a year.
const ENDLESS: Duration = Duration::from_secs(365 * 86_400);
/// After a cancel the nodes have this long to say how they ended.
const GRACE: Duration = Duration::from_secs(5);
/// Changes of status are written together: after this long, or when there are so many.
const STATUS_DELAY: Duration = Duration::from_millis(200);
const STATUS_BATCH: usize = 256;
/// Number of an action that is not written down: for logs of service nodes only.
const UNNUMBERED: u64 = 1 << 63;

/// What an action does.
#[derive(Debug)]
pub enum Work {
    /// Asks or tells nodes.
    FanOut(FanOut),
    /// Waits for the adapters of nodes.
    Adapters(Adapters),
}

impl Work {
    fn nodes(&self) -> usize {
        match self {
            Self::FanOut(plan) => plan.nodes.len(),
            Self::Adapters(plan) => plan.nodes.len(),
        }
    }

    /// It is written down before it is begun.
    fn acts(&self) -> bool {
        match self {
            Self::FanOut(plan) => plan.acts,
            Self::Adapters(_) => true,
        }
    }
}

/// Begins an action; the client follows it unless it detached.
///
/// # Errors
/// How the request ends otherwise.
pub async fn start(
    task: &Task,
    command: &Command,
    args: &[String],
    mut work: Work,
    detach: bool,
    talk: &mut Talk,
) -> Result<u8, End> {
    let core = &task.core;
    let seat = match core.actions.seat(Kind::Action, &task.caller.user) {
        Ok(seat) => seat,
        Err(error) => return task.fail(talk, &error.to_string()).await,
    };
    let line = audit::masked(command.name, args);
    let detach = detach || matches!(&work, Work::FanOut(plan) if plan.detach);
    let id = if work.acts() || detach {
        match write_down(task, command, args, &line, (work.nodes(), detach), talk).await? {
            Begun::As(id) => Some(id),
            Begun::Refused(status) => return Ok(status),
        }
    } else {
        task.remember(command, args);
        None
    };
    let mut wants_stdin = false;
    if let Work::FanOut(FanOut { op: NodeOp::Exec(exec), stdin, .. }) = &mut work {
        wants_stdin = *stdin && task.run.stdin_piped && !detach;
        exec.stdin = wants_stdin;
    }
    let (stdin_in, stdin_out) = mpsc::channel(STDIN);
    let about = About {
        request: task.run.request,
        id,
        user: task.caller.user.clone(),
        command: line,
        started: core.clock.unix(),
    };
    let live = match core.actions.begin(about, wants_stdin.then_some(stdin_in)) {
        Ok(live) => live,
        Err(live) => return follow(&live, 0, talk).await,
    };
    let name = format!("action {}", id.map_or_else(|| "of a question".to_owned(), |id| id.to_string()));
    core.drain.spawn(name, carry_out(core.clone(), live.clone(), work, stdin_out, seat));
    match (detach, id) {
        (true, Some(id)) => {
            talk.text(&plain(Stream::Out, &format!("{id}\n"))).await?;
            Ok(0)
        }
        _ => follow(&live, 0, talk).await,
    }
}

enum Begun {
    As(ActionId),
    Refused(u8),
}

/// Writes the beginning of an action into the log, with its audit row.
async fn write_down(
    task: &Task,
    command: &Command,
    args: &[String],
    line: &str,
    (nodes, detached): (usize, bool),
    talk: &mut Talk,
) -> Result<Begun, End> {
    let core = &task.core;
    let record = Action {
        id: ActionId(0),
        request: Some(task.run.request),
        author: task.caller.user.clone(),
        command: line.to_owned(),
        nodes: nodes as u64,
        phase: Phase::Running,
        status: 0,
        created: core.clock.unix(),
        ended: 0,
        master: core.config.name.clone(),
        detached,
        text: String::new(),
    };
    let mut changes = vec![actions::submit(&record)];
    changes.extend(task.audit_row(command, args, "Allowed"));
    let request = Some(task.run.request);
    let answer = match core.transact(&task.caller.user, line, request, Vec::new(), changes).await {
        Ok(answer) => answer,
        Err(trouble) => return Ok(Begun::Refused(task.trouble(trouble, talk).await?)),
    };
    match (done(&answer), answer.action) {
        (Ok(_), Some(id)) => Ok(Begun::As(id)),
        // The request had begun its action before, at a master that is gone. A wait for adapters goes on
        // under its number: it was made to be asked again.
        (Ok(_), None) => match core.read(|state| actions::of_request(state, task.run.request)) {
            Some(action) if command.name == "getadapter" => {
                let cells = [("state", Phase::Running.word())];
                let row = RowChange::set("actions", &[&action.id.to_string()], &cells);
                match core.change(line, vec![row]).await {
                    Ok(_) => Ok(Begun::As(action.id)),
                    Err(trouble) => Ok(Begun::Refused(task.trouble(trouble, talk).await?)),
                }
            }
            _ => Err(End::Elsewhere(core.leader())),
        },
        (Err(trouble), _) => Ok(Begun::Refused(task.trouble(trouble, talk).await?)),
    }
}

/// Shows an action's output to a client until its end. A client that goes away detaches.
///
/// # Errors
/// The client is gone.
pub async fn follow(live: &Arc<Live>, skip: usize, talk: &mut Talk) -> Result<u8, End> {
    if let Some(id) = live.about.id {
        talk.send(&Answer::Accepted(id)).await?;
    }
    talk.lay_out().await?;
    let mut stdin = live.take_stdin();
    if stdin.is_some() {
        talk.send(&Answer::WantStdin).await?;
    }
    let mut from = skip;
    let mut seen = (0, 0);
    let mut waiting: VecDeque<FanOutInput> = VecDeque::new();
    loop {
        let ready = stdin.clone().filter(|_| !waiting.is_empty());
        let batch = tokio::select! {
            biased;
            // While a piece waits for the nodes no other is taken, but a cancel and a loss are noticed.
            heard = talk.listen(waiting.is_empty()) => {
                match heard {
                    Heard::Cancel => live.cancel(),
                    Heard::Gone => return Err(End::Gone),
                    Heard::Input(Input::Stdin(bytes)) if stdin.is_some() => {
                        waiting.push_back(FanOutInput::Stdin(bytes));
                    }
                    Heard::Input(Input::StdinEnd) if stdin.is_some() => {
                        waiting.push_back(FanOutInput::StdinEnd);
                    }
                    Heard::Input(_) => {}
                }
                continue;
            }
            permit = reserve(ready), if !waiting.is_empty() => {
                match (permit, waiting.pop_front()) {
                    (Some(permit), Some(piece)) => { permit.send(piece); }
                    // The nodes take no more.
                    _ => { stdin = None; waiting.clear(); }
                }
                continue;
            }
            batch = live.spool.next(from, seen) => batch,
        };
        from += batch.items.len();
        for text in &batch.items {
            talk.text(text).await?;
        }
        if batch.progress != seen && batch.end.is_none() {
            seen = batch.progress;
            let (done, of) = seen;
            talk.send(&Answer::Progress { done, of, what: live.about.command.clone() }).await?;
        }
        if let Some(end) = batch.end {
            return Ok(end.status);
        }
    }
}

async fn reserve(sender: Option<mpsc::Sender<FanOutInput>>) -> Option<mpsc::OwnedPermit<FanOutInput>> {
    match sender {
        Some(sender) => sender.reserve_owned().await.ok(),
        None => None,
    }
}

/// Ends an action for a client.
///
/// # Errors
/// How the request ends otherwise.
pub async fn cancel(task: &Task, id: ActionId, talk: &mut Talk) -> Result<u8, End> {
    let core = &task.core;
    let Some(record) = core.read(|state| actions::find(state, id)) else {
        return task.fail(talk, &format!("There is no action {id}")).await;
    };
    if !may_see(core, &task.caller, &record.author, &record.command) {
        let text = format!("{}: the action is {}'s", state::policy::DENIED, record.author);
        return task.fail(talk, &text).await;
    }
    if record.phase != Phase::Running {
        return task.fail(talk, &format!("action {id} has ended already ({})", record.phase.word())).await;
    }
    let Some(live) = core.actions.of_id(id) else {
        return task.fail(talk, &format!("action {id} runs on no master any more")).await;
    };
    live.cancel();
    info!(user = %task.caller.user, action = %id, "cancelled");
    let deadline = tokio::time::Instant::now() + GRACE * 2;
    let mut seen = (0, 0);
    let mut from = 0;
    loop {
        let Ok(batch) = tokio::time::timeout_at(deadline, live.spool.next(from, seen)).await else {
            return task.fail(talk, &format!("action {id} is being cancelled")).await;
        };
        from += batch.items.len();
        seen = batch.progress;
        if batch.end.is_some() {
            talk.text(&plain(Stream::Out, &format!("action {id} cancelled\n"))).await?;
            return Ok(0);
        }
    }
}

/// The action itself.
async fn carry_out(core: Core, live: Arc<Live>, work: Work, stdin: mpsc::Receiver<FanOutInput>, seat: Seat) {
    let (status, text) = match work {
        Work::FanOut(plan) => fan_out(&core, &live, plan, stdin).await,
        Work::Adapters(plan) => (adapters::run(&core, &plan, &live).await, String::new()),
    };
    let phase = if live.is_cancelled() { Phase::Cancelled } else { Phase::Done };
    // A master that stops leaves its actions to the next one.
    let stopping = core.drain.is_stopping();
    if let Some(id) = live.about.id.filter(|_| !stopping) {
        let row = actions::finish(id, phase, status, core.clock.unix(), &text);
        if let Err(error) = core.change(&live.about.command, vec![row]).await {
            warn!(action = %id, %error, "the end of an action could not be written down");
        }
    }
    drop(seat);
    if stopping {
        return;
    }
    let revision = core.read(state::State::revision);
    core.actions.end(&live, spool::End { status, revision });
}

async fn fan_out(
    core: &Core,
    live: &Live,
    mut plan: FanOut,
    stdin: mpsc::Receiver<FanOutInput>,
) -> (u8, String) {
    let mut worst = plan.output.status;
    for text in std::mem::take(&mut plan.output.items) {
        live.spool.push(text);
    }
    let held = plan.lock.then(|| lock(core, live, &mut plan, &mut worst));
    let mut folder = Folder::new(&plan, core.server());
    if !plan.nodes.is_empty() {
        let kept = match plan.then_status {
            Some(word) => Some(Kept::Word(word)),
            None => plan.keep_life.then_some(Kept::Life),
        };
        let statuses = kept.map(|kept| Statuses::new(core.clone(), kept, &live.about.command));
        run(core, live, plan, &mut folder, stdin, statuses, held).await;
    }
    let (_, of) = folder.progress();
    (worst.max(folder.status()), format!("{} of {of} nodes did it", folder.good().len()))
}

/// Takes the nodes' locks; nodes that another action holds are told and left out.
fn lock(core: &Core, live: &Live, plan: &mut FanOut, worst: &mut u8) -> Held {
    let holder = Holder {
        action: live.about.id.map_or(0, |id| id.0),
        command: live.about.command.clone(),
        user: live.about.user.clone(),
    };
    let (held, refused) = core.locks.take(&plan.nodes, &holder);
    for (node, other) in refused {
        let text = format!("action {} ({}, by {}) holds this node", other.action, other.command, other.user);
        live.spool.push(node_error(&node, core.server(), &text));
        plan.nodes.retain(|known| *known != node);
        *worst = (*worst).max(1);
    }
    held
}

async fn run(
    core: &Core,
    live: &Live,
    plan: FanOut,
    folder: &mut Folder,
    mut stdin: mpsc::Receiver<FanOutInput>,
    mut statuses: Option<Statuses>,
    mut held: Option<Held>,
) {
    let (input, inputs) = mpsc::channel(STDIN);
    let with_stdin = matches!(&plan.op, NodeOp::Exec(exec) if exec.stdin);
    let order = Order {
        action: live.about.id.unwrap_or(ActionId(UNNUMBERED | live.about.request.client >> 1)),
        op: plan.op,
        nodes: plan.nodes,
        window: plan.window,
        deadline: u64::try_from(plan.deadline.unwrap_or(ENDLESS).as_millis()).unwrap_or(0),
    };
    let mut events = core.racks.fan_out(order, inputs);
    let mut stdin_open = with_stdin;
    let mut cancelled = false;
    let mut limit = None;
    let ended_by = loop {
        let grace = async {
            match limit {
                Some(limit) => tokio::time::sleep_until(limit).await,
                None => std::future::pending().await,
            }
        };
        let flush = async {
            match statuses.as_ref().and_then(|statuses| statuses.due) {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = core.drain.stopping() => break "this master is stopping",
            () = live.cancelled(), if !cancelled => {
                cancelled = true;
                limit = Some(tokio::time::Instant::now() + GRACE);
                stdin_open = false;
                // Service nodes that do not even take this are cut off when the grace is over.
                let _ = input.try_send(FanOutInput::Cancel);
            }
            () = grace => break "cancelled",
            event = events.recv() => match event {
                Some(FanOutEvent::Node(event)) => {
                    for text in folder.event(&event) {
                        live.spool.push(text);
                    }
                    if !matches!(event.event, Event::Output { .. }) {
                        let (done, of) = folder.progress();
                        live.spool.progress(done, of);
                        if let Some(held) = &mut held {
                            held.release(&event.node);
                        }
                        if let (Some(statuses), Event::Reply(reply)) = (&mut statuses, &event.event) {
                            statuses.add(event.node, reply).await;
                        }
                    }
                }
                Some(FanOutEvent::End) | None => break "its service node said nothing more of it",
            },
            permit = next_stdin(&mut stdin, &input), if stdin_open => stdin_open = permit,
            () = flush => if let Some(statuses) = &mut statuses { statuses.flush().await },
        }
    };
    let fault = if cancelled { Fault::Cancelled } else { Fault::Unknown };
    let reason = if cancelled { "cancelled" } else { ended_by };
    for text in folder.abandon(fault, reason) {
        live.spool.push(text);
    }
    if let Some(mut statuses) = statuses {
        statuses.flush().await;
    }
}

/// Passes one piece of standard input on when there is room for it; false when there will be no more.
async fn next_stdin(stdin: &mut mpsc::Receiver<FanOutInput>, input: &mpsc::Sender<FanOutInput>) -> bool {
    let Ok(permit) = input.reserve().await else { return false };
    match stdin.recv().await {
        Some(FanOutInput::StdinEnd) | None => {
            permit.send(FanOutInput::StdinEnd);
            false
        }
        Some(piece) => {
            permit.send(piece);
            true
        }
    }
}

/// What of an answer goes into `nodelist`.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// This word is the status.
    Word(&'static str),
    /// What the node's life was found to be.
    Life,
}

impl Kept {
    fn cells(self, reply: &NodeReply) -> Vec<(&'static str, String)> {
        match (self, reply) {
            (Kept::Word(word), _) => vec![("status", word.to_owned())],
            (Kept::Life, NodeReply::Text(state)) => commands::fanout::life_cells(state),
            (Kept::Life, _) => Vec::new(),
        }
    }
}

/// Columns of `nodelist`, written together.
struct Statuses {
    core: Core,
    kept: Kept,
    command: String,
    nodes: Vec<(String, Vec<(&'static str, String)>)>,
    due: Option<tokio::time::Instant>,
    wanted: bool,
}

impl Statuses {
    fn new(core: Core, kept: Kept, command: &str) -> Self {
        let off = |value: &str| matches!(value, "n" | "N" | "no" | "0");
        let wanted = !core.read(|state| state.site("nodestatus").is_some_and(off));
        Self { core, kept, command: command.to_owned(), nodes: Vec::new(), due: None, wanted }
    }

    async fn add(&mut self, node: String, reply: &NodeReply) {
        if !self.wanted {
            return;
        }
        self.nodes.push((node, self.kept.cells(reply)));
        self.due.get_or_insert_with(|| tokio::time::Instant::now() + STATUS_DELAY);
        if self.nodes.len() >= STATUS_BATCH {
            self.flush().await;
        }
    }

    async fn flush(&mut self) {
        self.due = None;
        if self.nodes.is_empty() {
            return;
        }
        let time = commands::action::status_time(self.core.clock.unix());
        let known = self
            .core
            .read(|state| self.nodes.drain(..).filter(|(node, _)| state.is_node(node)).collect::<Vec<_>>());
        let row = |(node, cells): &(String, Vec<(&'static str, String)>)| {
            let mut all: Vec<(&str, &str)> = Vec::new();
            for (column, text) in cells {
                all.push((column, text));
                all.push((if *column == "status" { "statustime" } else { "appstatustime" }, time.as_str()));
            }
            RowChange::set("nodelist", &[node], &all)
        };
        let rows: Vec<RowChange> = known.iter().filter(|(_, cells)| !cells.is_empty()).map(row).collect();
        if let Err(error) = self.core.change(&self.command, rows).await {
            warn!(%error, "the status of nodes could not be written down");
        }
    }
}
