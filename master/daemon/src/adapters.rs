//! getadapter: who waits for a node's adapters, and what makes the node tell them (spec/seeds.md 3.3).
//!
//! The wait is rows of `taskstate`, opened in one entry before anything is sent; the answer is a report
//! like any other. This module only listens to what is committed and wakes its own waiters, on whichever
//! master they are. Nothing is polled, no node costs a thread, and a client that is gone cancels nothing.
//! Whatever makes the nodes answer is in [`bring`].

mod bring;
mod claims;
mod order;

use std::collections::BTreeSet;

use commands::getadapter::Adapters;
use state::discovery::adapters::stored_lines;
use state::discovery::waits::{self, End, Open, Opened, Past};
use state::discovery::{Notice, Outcome, RackEvent};
use state::view::{Row, Tables, column};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use wire::client::Text;
use wire::ids::{ActionId, RequestId};
use wire::op::Stream;

pub use claims::Claims;
pub(crate) use {bring::resume, order::connected};

use crate::actions::Live;
use crate::core::Core;
use crate::locks::Holder;
use crate::machine::Committed;
use crate::racks::seconds;

/// Nodes in one entry of the log when a wait is opened.
const AT_ONCE: usize = 1000;

/// Carries out the plan of getadapter; the answer is the exit status.
pub async fn run(core: &Core, plan: &Adapters, live: &Live) -> u8 {
    let mut waiter = Waiter { core, live, pending: BTreeSet::new(), status: 0 };
    // From here on nothing that is committed can be missed.
    let mut committed = core.committed();
    let nodes = waiter.known(plan);
    if let Err(reason) = waiter.open(&nodes, plan.reboot).await {
        waiter.complain(&format!("Error: [{}]: {reason}", core.server()));
        return 1;
    }
    let (said, mut says) = mpsc::channel(64);
    let mine = core.claims.take(core, waiter.pending.iter().map(String::as_str));
    if !mine.is_empty() {
        let holder = Holder {
            action: live.about.id.map_or(0, |id| id.0),
            command: live.about.command.clone(),
            user: live.about.user.clone(),
        };
        core.drain.spawn("getadapter", bring::Bring::new(core, holder, said).run(mine));
    }
    while !waiter.pending.is_empty() {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return 1,
            () = live.cancelled() => return waiter.cancel().await,
            next = committed.recv() => match next {
                Ok(change) => waiter.committed(&change),
                Err(RecvError::Lagged(_)) => waiter.look(),
                Err(RecvError::Closed) => return 1,
            },
            Some(line) = says.recv() => waiter.say(&line),
        }
        live.spool.progress(
            u64::try_from(nodes.len() - waiter.pending.len()).unwrap_or(0),
            u64::try_from(nodes.len()).unwrap_or(0),
        );
    }
    waiter.status
}

/// One request that waits.
struct Waiter<'a> {
    core: &'a Core,
    live: &'a Live,
    pending: BTreeSet<String>,
    status: u8,
}

impl Waiter<'_> {
    fn request(&self) -> RequestId {
        self.live.about.request
    }

    /// Answers for nodes whose adapters are known; gives back those that must be waited for. A request that
    /// comes back waits for what it waited for, whatever is known meanwhile.
    fn known(&mut self, plan: &Adapters) -> Vec<String> {
        let request = self.request();
        let look = |node: &String| {
            self.core.read(|state| {
                let row = state.row("taskstate", &[node, waits::COMMAND]).unwrap_or_default();
                let own = waits::past(&row, request) != Past::Unknown;
                (own, state.text(node, "nics.nicsadapter"))
            })
        };
        let mut unknown = Vec::new();
        for node in &plan.nodes {
            match look(node) {
                (false, value) if !plan.again && !value.is_empty() => {
                    self.say(&format!("{node}: Adapter information exists, no need to inspect."));
                    for line in stored_lines(node, &value) {
                        self.say(&line);
                    }
                }
                _ => unknown.push(node.clone()),
            }
        }
        if unknown.is_empty() {
            self.say("No adapter information need to inspect.");
        }
        unknown
    }

    /// Opens the wait, or finds what became of it.
    async fn open(&mut self, nodes: &[String], force: bool) -> Result<(), String> {
        let timeout = self.core.read(|state| seconds(state.site("getadaptertimeout"), waits::TIMEOUT));
        for nodes in nodes.chunks(AT_ONCE) {
            let open = Open {
                request: self.request(),
                action: self.live.about.id.unwrap_or(ActionId(0)),
                nodes: nodes.to_vec(),
                timeout: timeout.saturating_mul(1000),
            };
            let event = if force { RackEvent::OpenByForce(open) } else { RackEvent::Open(open) };
            let answered = self.core.racks.report(event).await.map_err(|error| error.to_string())?;
            let Outcome::Opened(answers) = answered.outcome else {
                return Err("the wait was not opened".to_owned());
            };
            for (node, opened) in answers {
                match opened {
                    Opened::First | Opened::Joined => {
                        self.pending.insert(node);
                    }
                    Opened::Done => self.done(&node),
                    Opened::Ended(end) => {
                        let row = self.row(&node).unwrap_or_default();
                        self.ended(&node, end, self.reason(&row));
                    }
                    Opened::Full => self.error(&node, "too many requests wait for this node already"),
                    Opened::Gone => self.error(&node, "node removed"),
                }
            }
        }
        Ok(())
    }

    fn row(&self, node: &str) -> Option<Row> {
        self.core.read(|state| state.row("taskstate", &[node, waits::COMMAND]))
    }

    /// Why the wait of a row ended; nothing when the row is about a later wait.
    fn reason<'r>(&self, row: &'r Row) -> &'r str {
        if waits::requests(row).contains(&self.request()) { column(row, "text") } else { "" }
    }

    /// Takes in what was committed.
    fn committed(&mut self, change: &Committed) {
        // The whole state was replaced.
        if change.events.is_empty() {
            return self.look();
        }
        for notice in &change.notices {
            match notice {
                Notice::Adapters { node, lines, stored } if self.pending.remove(node) => {
                    self.result(node, lines.iter().map(String::as_str), *stored);
                }
                Notice::Closed { node, end, request, text }
                    if request.is_none_or(|request| request == self.request())
                        && self.pending.remove(node) =>
                {
                    self.ended(node, *end, text);
                }
                _ => {}
            }
        }
        // Removed, or gone on under another name.
        let rows = change.events.iter().filter(|event| event.table_name() == "taskstate");
        for node in rows.map(|event| event.old_text("node")) {
            let gone = self.pending.contains(node)
                && self.row(node).is_none_or(|row| waits::past(&row, self.request()) == Past::Unknown);
            if gone {
                self.pending.remove(node);
                self.error(node, "node removed");
            }
        }
    }

    /// Something was missed: the rows tell what became of each node.
    fn look(&mut self) {
        for node in std::mem::take(&mut self.pending) {
            let Some(row) = self.row(&node) else {
                self.error(&node, "node removed");
                continue;
            };
            match waits::past(&row, self.request()) {
                Past::Waits => {
                    self.pending.insert(node);
                }
                Past::Done => self.done(&node),
                Past::Ended(end) => self.ended(&node, end, self.reason(&row)),
                Past::Unknown => self.error(&node, "node removed"),
            }
        }
    }

    /// The answer came while nobody listened here.
    fn done(&mut self, node: &str) {
        let value = self.core.read(|state| state.text(node, "nics.nicsadapter"));
        let lines = stored_lines(node, &value);
        self.result(node, lines.iter().map(String::as_str), !value.is_empty());
    }

    fn result<'l>(&mut self, node: &str, lines: impl Iterator<Item = &'l str>, stored: bool) {
        self.say(&format!("[{node}] scan successfully below is result:"));
        for line in lines {
            self.say(line);
        }
        if !stored {
            self.say(&format!(
                "{node}: nics table will not be updated as not any useful information could be found"
            ));
        }
    }

    fn ended(&mut self, node: &str, end: End, text: &str) {
        match end {
            End::Timeout => {
                self.complain(&format!("{node}: Timeout to get the adapter information"));
                self.status = 1;
            }
            End::Cancelled => self.error(node, "cancelled"),
            End::Failed if text == order::NO_MGT => {
                self.complain(&format!("{node}: {}", order::NO_MGT));
                self.status = 1;
            }
            End::Failed => self.error(node, if text.is_empty() { "it could not be asked" } else { text }),
        }
    }

    /// An explicit cancel: this request waits no more; the wait ends when nobody else does.
    async fn cancel(&mut self) -> u8 {
        let close = RackEvent::Close {
            nodes: self.pending.iter().cloned().collect(),
            end: End::Cancelled,
            request: Some(self.request()),
            text: String::new(),
        };
        if let Err(error) = self.core.racks.report(close).await {
            tracing::warn!(%error, "a cancelled wait is not closed; it ends at its deadline");
        }
        1
    }

    fn error(&mut self, node: &str, text: &str) {
        self.complain(&format!("{node}: [{}]: Error: {text}", self.core.server()));
        self.status = 1;
    }

    fn say(&self, line: &str) {
        self.push(Stream::Out, line);
    }

    fn complain(&self, line: &str) {
        self.push(Stream::Err, line);
    }

    fn push(&self, stream: Stream, line: &str) {
        self.live.spool.push(Text { stream, node: None, text: format!("{line}\n").into_bytes() });
    }
}
