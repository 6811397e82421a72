//! Records of actions: what was asked, by whom, how far it is. Rows of the table `actions`.

use wire::ids::{ActionId, RequestId};

use crate::apply::State;
use crate::change::RowChange;
use crate::row::Row;
use crate::schema::schema;

/// Records kept; older ones that ended are dropped when new ones come.
pub const KEPT: usize = 10_000;

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Being carried out.
    Running,
    /// Ended with a status.
    Done,
    /// Ended by its user.
    Cancelled,
    /// Its master stopped; what it did is not known.
    Unknown,
}

impl Phase {
    /// As it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Running => "running",
            Phase::Done => "done",
            Phase::Cancelled => "cancelled",
            Phase::Unknown => "unknown",
        }
    }

    fn parse(text: &str) -> Phase {
        match text {
            "running" => Phase::Running,
            "done" => Phase::Done,
            "cancelled" => Phase::Cancelled,
            _ => Phase::Unknown,
        }
    }
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Its number.
    pub id: ActionId,
    /// The request that made it.
    pub request: Option<RequestId>,
    /// Who.
    pub author: String,
    /// The command with its arguments, passwords masked.
    pub command: String,
    /// How many nodes.
    pub nodes: u64,
    /// How far.
    pub phase: Phase,
    /// Exit status, once it is done.
    pub status: u8,
    /// Unix seconds.
    pub created: u64,
    /// Unix seconds, 0 while it runs.
    pub ended: u64,
    /// The master that runs it.
    pub master: String,
    /// Started with `--detach`.
    pub detached: bool,
    /// One line about its end.
    pub text: String,
}

/// The change that records a new action; its number is that of the new row.
pub fn submit(action: &Action) -> RowChange {
    let request = action.request.map(|r| r.to_string()).unwrap_or_default();
    RowChange::set(
        "actions",
        &[""],
        &[
            ("request", &request),
            ("author", &action.author),
            ("command", &action.command),
            ("nodes", &action.nodes.to_string()),
            ("state", action.phase.word()),
            ("created", &action.created.to_string()),
            ("master", &action.master),
            ("detached", if action.detached { "1" } else { "" }),
        ],
    )
}

/// The change that records an end.
pub fn finish(id: ActionId, phase: Phase, status: u8, ended: u64, text: &str) -> RowChange {
    RowChange::set(
        "actions",
        &[&id.to_string()],
        &[
            ("state", phase.word()),
            ("status", &status.to_string()),
            ("ended", &ended.to_string()),
            ("text", text),
        ],
    )
}

/// Changes that drop the oldest ended records beyond [`KEPT`].
pub fn trim(state: &State) -> Vec<RowChange> {
    let Some(table) = state.named("actions") else { return Vec::new() };
    let over = table.len().saturating_sub(KEPT);
    table
        .rows()
        .filter_map(|(_, row)| read(row))
        .filter(|action| action.phase != Phase::Running)
        .take(over)
        .map(|action| RowChange::delete("actions", &[&action.id.to_string()]))
        .collect()
}

/// An action by number.
pub fn find(state: &State, id: ActionId) -> Option<Action> {
    read(state.named("actions")?.find(&[id.to_string()])?.1)
}

/// An action by its request, the newest first.
pub fn of_request(state: &State, request: RequestId) -> Option<Action> {
    let wanted = request.to_string();
    list(state).into_iter().rev().find(|action| action.request.is_some_and(|r| r.to_string() == wanted))
}

/// All actions, the oldest first.
pub fn list(state: &State) -> Vec<Action> {
    state.named("actions").map(|t| t.rows().filter_map(|(_, row)| read(row)).collect()).unwrap_or_default()
}

fn read(row: &Row) -> Option<Action> {
    let def = schema().def(schema().table("actions")?);
    let text = |column: &str| def.column(column).map_or("", |c| row.text(c));
    let number = |column: &str| text(column).parse::<u64>().unwrap_or(0);
    Some(Action {
        id: ActionId(text("id").parse().ok()?),
        request: text("request").parse().ok(),
        author: text("author").to_owned(),
        command: text("command").to_owned(),
        nodes: number("nodes"),
        phase: Phase::parse(text("state")),
        status: text("status").parse().unwrap_or(0),
        created: number("created"),
        ended: number("ended"),
        master: text("master").to_owned(),
        detached: text("detached") == "1",
        text: text("text").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Entry, Transaction};

    #[test]
    fn an_action_gets_a_number_and_is_found_by_its_request() {
        let mut state = State::new();
        let request = RequestId { client: 7, sequence: 1 };
        let mut action = Action {
            id: ActionId(0),
            request: Some(request),
            author: "root".into(),
            command: "rpower all on".into(),
            nodes: 3,
            phase: Phase::Running,
            status: 0,
            created: 5,
            ended: 0,
            master: "m1".into(),
            detached: true,
            text: String::new(),
        };
        let mut apply = |changes| {
            state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
            of_request(&state, request).unwrap()
        };
        let stored = apply(vec![submit(&action)]);
        action.id = ActionId(1);
        assert_eq!(stored, action);
        let done = apply(vec![finish(ActionId(1), Phase::Done, 1, 9, "2 nodes failed")]);
        assert_eq!((done.phase, done.status, done.ended), (Phase::Done, 1, 9));
    }
}
