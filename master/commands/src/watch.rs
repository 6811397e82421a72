//! `margay watch`: changes as they come, and those that came before.

use std::collections::BTreeSet;

use serde_json::json;
use state::history::{self, Query, Revision};
use state::{PastRow, schema};
use wire::client::Text;
use wire::op::Stream;

use crate::action::stamp;
use crate::args::{value, word_value};
use crate::cells;
use crate::notice::row_json;
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// Exit status when the wanted changes are not kept any more.
pub const COMPACTED: u8 = 3;
/// Lines in one piece of output.
const LINES: usize = 500;

/// `margay watch`.
pub static COMMAND: Command = Command {
    name: "watch",
    aliases: &[],
    summary: "Show changes as they come, until interrupted",
    usage: "Usage: margay watch [-t table[,table...]] [--from REV] [-o lines|json] [noderange]\n\n   -t      only \
            changes of these tables; without it all but records (auditlog, eventlog, actions)\n   --from  first the \
            changes from this revision on (or a time: 2h, 2026-11-20T09:30)\n   -o      one JSON object for each \
            changed row\n\n   Status 3: the changes from REV on are not kept any more; the text names the oldest.\n",
    writes: false,
    range: Range::None,
    plan,
};

/// Which changes are wanted, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The first revision; none: what comes from now on.
    pub from: Option<u64>,
    /// JSON instead of lines.
    pub json: bool,
    /// Tables and nodes.
    pub query: Query,
}

fn plan(ctx: &Ctx<'_>) -> Plan {
    watch(ctx).unwrap_or_else(|plan| plan)
}

fn watch(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = read(ctx, COMMAND.usage, &[value('t', "table"), word_value("from"), value('o', "form")])?;
    let json = match given.value("form") {
        None | Some("lines") => false,
        Some("json") => true,
        Some(_) => return Err(Plan::usage(COMMAND.usage, 1)),
    };
    let from = match given.value("from") {
        None => None,
        // The one that comes next is known by its number before it is there.
        Some(text) if text.parse() == Ok(ctx.state.revision() + 1) => Some(ctx.state.revision() + 1),
        Some(text) if text.parse::<u64>().is_ok() => Some(ctx.revision(text)?.max(1)),
        // A time is the newest revision before it.
        Some(text) => Some(ctx.revision(text)? + 1),
    };
    let mut query = Query::all(0, 0);
    if let Some(names) = given.value("table") {
        query.tables = names.split(',').map(str::to_owned).collect();
        if let Some(name) = query.tables.iter().find(|name| schema().table(name).is_none()) {
            return Err(Plan::error(ctx, &format!("No such table: {name}")));
        }
    }
    query.nodes = match given.rest.as_slice() {
        [] => None,
        [range] => {
            // Nodes that are gone, or not there yet, can be watched as well.
            let (nodes, missing) = ctx.expand(range)?;
            Some(nodes.into_iter().chain(missing).collect::<BTreeSet<String>>())
        }
        _ => return Err(Plan::usage(COMMAND.usage, 1)),
    };
    Ok(Plan::Watch(Box::new(Watch { from, json, query })))
}

impl Watch {
    /// A revision as pieces of output; none when nothing of it is wanted.
    #[must_use]
    pub fn pieces(&self, revision: &Revision) -> Vec<Text> {
        let rows: Vec<PastRow> = revision
            .rows
            .iter()
            .cloned()
            .flat_map(PastRow::split)
            .filter(|row| self.query.wants(row))
            .collect();
        let rows = history::merge(&rows);
        if rows.is_empty() {
            return Vec::new();
        }
        let mut pieces = Vec::new();
        if !self.json {
            let command = if revision.command.is_empty() { "-" } else { &revision.command };
            let mut head = Output::new();
            head.line(&format!(
                "{}  {}  {}  {command}  ({})",
                revision.number,
                stamp(revision.time),
                revision.author,
                cells::summary(&rows)
            ));
            pieces.extend(head.items);
        }
        for rows in rows.chunks(LINES) {
            match self.json {
                true => pieces.push(json_lines(revision, rows)),
                false => {
                    let mut output = Output::new();
                    cells::print(rows, &mut output);
                    pieces.extend(output.items);
                }
            }
        }
        pieces
    }
}

fn json_lines(revision: &Revision, rows: &[PastRow]) -> Text {
    let mut text = String::new();
    for row in rows {
        let action = match (&row.old, &row.new) {
            (None, _) => "a",
            (_, None) => "d",
            _ => "u",
        };
        let mut object = json!({
            "revision": revision.number,
            "time": revision.time,
            "author": revision.author,
            "command": revision.command,
            "table": row.table,
            "action": action,
        });
        if let (Some(object), serde_json::Value::Object(change)) = (object.as_object_mut(), row_json(row)) {
            object.extend(change);
        }
        text += &object.to_string();
        text.push('\n');
    }
    Text { stream: Stream::Out, node: None, text: text.into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision() -> Revision {
        let row = |table: &str, old: Option<&str>, new: Option<&str>| PastRow {
            table: table.to_owned(),
            id: 1,
            old: old.map(|text| vec![(0, "n1".to_owned()), (1, text.to_owned())]),
            new: new.map(|text| vec![(0, "n1".to_owned()), (1, text.to_owned())]),
        };
        let rows = vec![
            row("nodelist", Some("a"), Some("b")),
            row("mac", None, Some("x")),
            row("auditlog", None, Some("y")),
        ];
        Revision { number: 7, author: "root".into(), command: "nodech".into(), time: 0, rows }
    }

    fn shown(watch: &Watch) -> String {
        let pieces = watch.pieces(&revision());
        pieces.into_iter().map(|text| String::from_utf8_lossy(&text.text).into_owned()).collect()
    }

    #[test]
    fn a_change_is_shown_as_lines_or_json_and_only_what_is_wanted() {
        let mut watch = Watch { from: None, json: false, query: Query::all(0, 0) };
        let text = shown(&watch);
        assert!(
            text.starts_with("7  ")
                && text.contains("  root  nodech  (3 cells of 2 rows in mac, nodelist)\n"),
            "{text}"
        );
        assert!(text.ends_with("~ nodelist n1.groups: \"a\" -> \"b\"\n"), "{text}");
        watch.json = true;
        watch.query.tables = vec!["nodelist".to_owned()];
        assert_eq!(
            shown(&watch),
            "{\"action\":\"u\",\"author\":\"root\",\"command\":\"nodech\",\"key\":{\"node\":\"n1\"},\
             \"new\":{\"groups\":\"b\"},\"old\":{\"groups\":\"a\"},\"revision\":7,\"table\":\"nodelist\",\"time\":0}\n"
        );
        watch.query.nodes = Some(BTreeSet::from(["n2".to_owned()]));
        assert_eq!(shown(&watch), "");
    }
}
