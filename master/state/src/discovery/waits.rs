//! Waits for a node's adapters, as rows of `taskstate` (spec/seeds.md 3.3).
//!
//! Invariant: a node has at most one row for `getadapter`; its state is `waiting` or final. A row is opened
//! before anything is sent to the node, and outlives clients, service nodes and masters.

use wire::ids::{ActionId, RequestId};
use wire::{Decode, Encode};

use super::{Notice, Outcome, Times, Verdict, Write, chain, report};
use crate::apply::State;
use crate::view::{Row, Tables, column};

/// The command whose waits these are.
pub const COMMAND: &str = "getadapter";
/// State of a row that waits.
pub const WAITING: &str = "waiting";
/// Longest reason that is kept.
const MAX_TEXT: usize = 512;
/// Most requests that wait at one node; the next one is refused.
pub const ROOM: usize = 256;
/// Default of `site.getadaptertimeout`, seconds.
pub const TIMEOUT: u64 = 1800;
/// Default of `site.taskstatekeep`, seconds.
pub const KEEP: u64 = 24 * 3600;
/// How a boot state that was put aside is marked in `reserve`.
const ASIDE: &str = "boot:";
/// Mark in `reserve` of a node that was booted without a change of its boot state.
const SENT: &str = "sent";
/// Mark in `reserve` of a node that nothing was ordered for yet, and that may be rebooted though it runs.
const FORCE: &str = "force";
/// Requests of earlier waits whose end a row remembers.
const EARLIER: usize = 64;

/// A request begins to wait.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Open {
    /// The request.
    pub request: RequestId,
    /// Its action.
    pub action: ActionId,
    /// Where.
    pub nodes: Vec<String>,
    /// How long, milliseconds of cluster time.
    pub timeout: u64,
}

/// What a request finds at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is the first: it must see to it that the node answers.
    First,
    /// Somebody else does; it waits too.
    Joined,
    /// It waited before, and the answer came meanwhile.
    Done,
    /// It waited before, and the wait ended without an answer.
    Ended(End),
    /// Too many wait here.
    Full,
    /// There is no such node.
    Gone,
}

/// How a wait ends without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum End {
    /// By an admin.
    Cancelled,
    /// The node could not be asked.
    Failed,
    /// Its deadline passed.
    Timeout,
}

impl End {
    /// The word in the row.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "cancelled" => Self::Cancelled,
            "timeout" => Self::Timeout,
            _ => Self::Failed,
        }
    }
}

/// What was done so far to make a node answer, as its row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing yet.
    Opened {
        /// It may be rebooted though it runs.
        force: bool,
    },
    /// Its boot was ordered, or is about to be: it is never judged anew.
    Ordered,
}

/// The stage of a row that waits.
#[must_use]
pub fn stage(row: &Row) -> Stage {
    match column(row, "reserve") {
        "" => Stage::Opened { force: false },
        FORCE => Stage::Opened { force: true },
        _ => Stage::Ordered,
    }
}

/// What a row says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Past {
    /// Nothing.
    Unknown,
    /// It waits.
    Waits,
    /// It was answered.
    Done,
    /// Its wait ended without an answer.
    Ended(End),
}

/// What a row says of a request, also when other requests have opened the row anew since.
#[must_use]
pub fn past(row: &Row, request: RequestId) -> Past {
    let of_word = |word: &str| match word {
        "done" => Past::Done,
        word => Past::Ended(End::from_word(word)),
    };
    if requests(row).contains(&request) {
        return if is_waiting(row) { Past::Waits } else { of_word(column(row, "state")) };
    }
    let earlier = column(row, "earlier").split(' ').filter_map(|one| one.split_once('='));
    let mut own = earlier.filter(|(id, _)| id.parse() == Ok(request));
    own.next_back().map_or(Past::Unknown, |(_, word)| of_word(word))
}

/// The requests that wait, or waited, in a row.
#[must_use]
pub fn requests(row: &Row) -> Vec<RequestId> {
    column(row, "request").split(' ').filter_map(|id| id.parse().ok()).collect()
}

/// Whether a row of `taskstate` waits.
#[must_use]
pub fn is_waiting(row: &Row) -> bool {
    column(row, "command") == COMMAND && column(row, "state") == WAITING
}

/// How the wait of a row ended without an answer; none when it was answered or goes on.
#[must_use]
pub fn ended(row: &Row) -> Option<End> {
    match column(row, "state") {
        "done" | WAITING => None,
        word => Some(End::from_word(word)),
    }
}

/// The deadline of a row, milliseconds of cluster time.
#[must_use]
pub fn deadline(row: &Row) -> u64 {
    column(row, "deadline").parse().unwrap_or(0)
}

fn row(tables: &dyn Tables, node: &str) -> Option<Row> {
    tables.row("taskstate", &[node, COMMAND])
}

fn set(node: &str, values: Vec<(&'static str, String)>) -> Write {
    Write::Set {
        table: "taskstate",
        key: vec![("node", node.to_owned()), ("command", COMMAND.to_owned())],
        values,
    }
}

fn joined(requests: &[RequestId]) -> String {
    requests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn open(tables: &dyn Tables, open: &Open, force: bool, times: Times) -> Verdict {
    let mut writes = Vec::new();
    let mut answers = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for node in open.nodes.iter().filter(|node| seen.insert(node.as_str())) {
        let (opened, values) = open_one(tables, node, open, force, times);
        writes.extend((!values.is_empty()).then(|| set(node, values)));
        answers.push((node.clone(), opened));
    }
    Verdict::new(Outcome::Opened(answers), writes)
}

fn open_one(
    tables: &dyn Tables,
    node: &str,
    open: &Open,
    force: bool,
    times: Times,
) -> (Opened, Vec<(&'static str, String)>) {
    if !tables.is_node(node) {
        return (Opened::Gone, Vec::new());
    }
    let old = row(tables, node).unwrap_or_default();
    match past(&old, open.request) {
        Past::Done => return (Opened::Done, Vec::new()),
        Past::Ended(end) => return (Opened::Ended(end), Vec::new()),
        Past::Waits => return (Opened::Joined, Vec::new()),
        Past::Unknown => {}
    }
    if is_waiting(&old) {
        let mut waiting = requests(&old);
        if waiting.len() >= ROOM {
            return (Opened::Full, Vec::new());
        }
        waiting.push(open.request);
        let mut values = vec![("request", joined(&waiting))];
        if force && stage(&old) == (Stage::Opened { force: false }) {
            values.push(("reserve", FORCE.to_owned()));
        }
        return (Opened::Joined, values);
    }
    let attempt = column(&old, "attempt").parse::<u64>().unwrap_or(0) + 1;
    let values = vec![
        ("state", WAITING.to_owned()),
        ("pid", open.action.to_string()),
        ("reserve", if force { FORCE.to_owned() } else { String::new() }),
        ("request", open.request.to_string()),
        ("action", open.action.to_string()),
        ("attempt", attempt.to_string()),
        ("deadline", times.cluster.saturating_add(open.timeout).to_string()),
        ("opened", times.revision.to_string()),
        ("digest", String::new()),
        ("text", String::new()),
        ("earlier", earlier(&old)),
    ];
    (Opened::First, values)
}

/// The ends of the requests that a row knows, the oldest forgotten where they are too many.
fn earlier(row: &Row) -> String {
    let state = column(row, "state");
    let ended = requests(row).into_iter().map(|request| format!("{request}={state}"));
    let mut all: Vec<String> = column(row, "earlier").split_whitespace().map(str::to_owned).collect();
    all.extend(ended);
    all.split_off(all.len().saturating_sub(EARLIER)).join(" ")
}

/// Writes down that nodes are about to be sent into the discovery image. Their boot state is put aside, so
/// that they stay there until they answered.
pub(super) fn arm(tables: &dyn Tables, nodes: &[String], times: Times) -> Verdict {
    let mut writes = Vec::new();
    for node in nodes {
        let Some(row) = row(tables, node).filter(is_waiting) else { continue };
        if stage(&row) == Stage::Ordered {
            continue;
        }
        writes.extend(report::status(tables, node, "powering-on", times.wall));
        let state = tables.attribute(node, "chain", "currstate");
        if chain::is_genesis(&state) {
            writes.push(set(node, vec![("reserve", SENT.to_owned())]));
            continue;
        }
        writes.push(set(node, vec![("reserve", format!("{ASIDE}{state}"))]));
        writes.push(Write::node("chain", node, vec![("currstate", chain::STANDBY.to_owned())]));
    }
    Verdict::new(Outcome::Stored, writes)
}

/// Gives a node its boot state back, unless somebody gave it another one meanwhile.
fn disarm(tables: &dyn Tables, node: &str, row: &Row) -> Option<Write> {
    let state = column(row, "reserve").strip_prefix(ASIDE)?;
    (tables.attribute(node, "chain", "currstate") == chain::STANDBY)
        .then(|| Write::node("chain", node, vec![("currstate", state.to_owned())]))
}

/// The writes that end a wait because the node answered; none when nobody waits.
pub(super) fn answered(tables: &dyn Tables, node: &str, value: &str, times: Times) -> Vec<Write> {
    let Some(row) = row(tables, node).filter(is_waiting) else { return Vec::new() };
    let mut writes = vec![set(
        node,
        vec![
            ("state", "done".to_owned()),
            ("reserve", String::new()),
            ("digest", digest(value)),
            // From now on the deadline counts how long the row is kept.
            ("deadline", times.cluster.to_string()),
        ],
    )];
    writes.extend(disarm(tables, node, &row));
    writes
}

pub(super) fn close(
    tables: &dyn Tables,
    nodes: &[String],
    end: End,
    request: Option<RequestId>,
    text: &str,
    times: Times,
) -> Verdict {
    let text: String = text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect();
    let mut verdict = Verdict::new(Outcome::Stored, Vec::new());
    for node in nodes {
        let Some(row) = row(tables, node).filter(is_waiting) else { continue };
        let mut waiting = requests(&row);
        if let Some(request) = request {
            waiting.retain(|other| *other != request);
            if waiting.len() == requests(&row).len() {
                continue;
            }
            if !waiting.is_empty() {
                verdict.writes.push(set(node, vec![("request", joined(&waiting))]));
                let request = Some(request);
                verdict.notices.push(Notice::Closed { node: node.clone(), end, request, text: text.clone() });
                continue;
            }
        }
        finish(tables, &mut verdict, (node, &row), (end, &text), times);
    }
    verdict
}

fn finish(
    tables: &dyn Tables,
    verdict: &mut Verdict,
    (node, row): (&str, &Row),
    (end, text): (End, &str),
    times: Times,
) {
    let values = vec![
        ("state", end.word().to_owned()),
        ("reserve", String::new()),
        ("deadline", times.cluster.to_string()),
        ("text", text.to_owned()),
    ];
    verdict.writes.push(set(node, values));
    verdict.writes.extend(disarm(tables, node, row));
    verdict.notices.push(Notice::Closed { node: node.to_owned(), end, request: None, text: text.to_owned() });
}

/// Ends waits that are due and drops final rows that were kept long enough.
pub(super) fn sweep(tables: &dyn Tables, keep: u64, times: Times) -> Verdict {
    let mut verdict = Verdict::new(Outcome::Stored, Vec::new());
    for row in tables.rows("taskstate").iter().filter(|row| column(row, "command") == COMMAND) {
        let node = column(row, "node");
        let due = deadline(row);
        if is_waiting(row) {
            if due <= times.cluster {
                finish(tables, &mut verdict, (node, row), (End::Timeout, ""), times);
            }
        } else if due.saturating_add(keep) <= times.cluster {
            let key = vec![("node", node.to_owned()), ("command", COMMAND.to_owned())];
            verdict.writes.push(Write::Delete { table: "taskstate", key });
        }
    }
    verdict
}

/// What a leader must see to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// Some node is waited for: cluster time must be kept.
    pub waiting: bool,
    /// A sweep would change something.
    pub now: bool,
}

/// Looks at all waits without copying them.
#[must_use]
pub fn due(state: &State, keep: u64, cluster_time: u64) -> Due {
    let mut due = Due::default();
    let Some(table) = state.named("taskstate") else { return due };
    let number = |name| table.def().column(name).unwrap_or(usize::MAX);
    let (command, phase, deadline) = (number("command"), number("state"), number("deadline"));
    for (_, row) in table.rows().filter(|(_, row)| row.text(command) == COMMAND) {
        let waiting = row.text(phase) == WAITING;
        let end: u64 = row.text(deadline).parse().unwrap_or(0);
        due.waiting |= waiting;
        due.now |= end.saturating_add(if waiting { 0 } else { keep }) <= cluster_time;
    }
    due
}

/// A short mark of an answer, to tell a repeated one from a changed one (FNV-1a, not a security measure).
fn digest(value: &str) -> String {
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
