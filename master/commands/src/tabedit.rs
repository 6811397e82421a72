//! tabedit: a table in the user's editor.
//!
//! The editor runs at the client. What comes back is compared with what was given out, row by row and cell by
//! cell: only what the user changed is written, and only where nobody else changed the same meanwhile. A file that
//! cannot be stored goes back to the editor with the reason.

use std::collections::HashMap;

use state::{Precondition, RowChange, Table};

use crate::args::{flag, read};
use crate::plan::{Change, Ctx, Need, Output, Plan, Sheet};
use crate::registry::{Command, Range};
use crate::tabdump;
use crate::tabrestore::{NewRow, rows};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "tabedit",
    aliases: &[],
    summary: "Edit a table with an editor ($TABEDITOR, $EDITOR or vi)",
    usage: "Usage: tabedit <tablename>\n       tabedit [-? | -h | --help]\n",
    writes: true,
    range: Range::None,
    plan,
};

/// Tables whose rows are records of what happened.
const RECORDS: [&str; 2] = ["auditlog", "eventlog"];

fn plan(ctx: &Ctx<'_>) -> Plan {
    edit(ctx).unwrap_or_else(|plan| plan)
}

fn edit(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    // xCAT's status also for -h (observation r228).
    let usage = || Plan::usage(COMMAND.usage, 1);
    let given = read(ctx.args, &[flag('h', "help"), flag('?', "")], true).map_err(|_| usage())?;
    if given.has("help") || given.has("?") {
        return Err(usage());
    }
    let [name] = given.rest.as_slice() else { return Err(usage()) };
    let Some(table) = ctx.state.named(name) else {
        return Err(Plan::error(ctx, &format!("No such table: {name}")));
    };
    if RECORDS.contains(&name.as_str()) {
        return Err(Plan::error(ctx, &format!("{name} is not for editing; tabprune takes rows out of it")));
    }
    let now = tabdump::text(table);
    let sheet = |text: &[u8], complaint: Option<String>| {
        let (name, base) = (format!("{name}.csv"), now.clone());
        Plan::Need(Need::Edit(Sheet { name, base, text: text.to_vec(), complaint }))
    };
    let Some(edited) = &ctx.inputs.edited else { return Err(sheet(now.as_bytes(), None)) };
    let text = match (&edited.text, &edited.sheet.complaint) {
        (Ok(text), _) => text,
        (Err(_), Some(complaint)) => return Err(Plan::error(ctx, complaint)),
        (Err(reason), None) => return Err(Plan::error(ctx, reason)),
    };
    if text == edited.sheet.base.as_bytes() {
        let mut output = Output::new();
        output.line("No file modifications detected, not restoring.");
        return Ok(output.into());
    }
    let absent = |_: &[String]| false;
    let base = rows(table, edited.sheet.base.as_bytes(), absent)
        .map_err(|(_, text)| Plan::error(ctx, &format!("{name} cannot be edited: {text}")))?;
    let wanted = match rows(table, text, absent) {
        Ok(wanted) => wanted,
        Err((_, complaint)) => return Err(sheet(text, Some(complaint))),
    };
    match changes(ctx, table, &base, &wanted, now == edited.sheet.base) {
        Ok(change) => Ok(Plan::Change(change)),
        Err(rows) => {
            let complaint =
                format!("somebody else changed {name} meanwhile, nothing was saved: {}", rows.join(", "));
            Err(sheet(text, Some(complaint)))
        }
    }
}

/// What makes `wanted` of `base`; the error names rows that are no longer what they were in `base`.
fn changes(
    ctx: &Ctx<'_>,
    table: &Table,
    base: &[NewRow],
    wanted: &[NewRow],
    same: bool,
) -> Result<Change, Vec<String>> {
    let name = table.def().name;
    let at = ctx.state.revision();
    let places: HashMap<&[String], usize> =
        base.iter().enumerate().map(|(at, row)| (row.key.as_slice(), at)).collect();
    let mut change = Change::default();
    if !in_order(&places, wanted) {
        if !same {
            return Err(vec!["the order of its rows cannot be kept".to_owned()]);
        }
        change.preconditions.push(Precondition::TableUnchanged { table: name.to_owned(), at });
        change.changes.push(RowChange::Clear { table: name.to_owned() });
        change.changes.extend(wanted.iter().map(|row| set(name, row, row.cells.clone())));
        return Ok(change);
    }
    let mut conflicts = Vec::new();
    let kept: HashMap<&[String], &NewRow> = wanted.iter().map(|row| (row.key.as_slice(), row)).collect();
    for old in base {
        let new = kept.get(old.key.as_slice());
        let cells = match new {
            Some(new) => differing(old, new),
            None => old.cells.clone(),
        };
        if cells.is_empty() && new.is_some() {
            continue;
        }
        // A cell may be written when it is still what the user saw.
        let row = table.find(&old.key).map(|(_, row)| row);
        let holds = |column: &String| {
            let text = row.and_then(|row| Some(row.text(table.def().column(column)?)));
            text == Some(old.text(column))
        };
        if !cells.iter().all(|(column, _)| holds(column)) {
            conflicts.push(old.key.join(","));
            continue;
        }
        let (table, key) = (name.to_owned(), old.key.clone());
        change.preconditions.push(Precondition::Unchanged { table, key, existed: true, at });
        change.changes.push(match new {
            Some(new) => set(name, new, cells),
            None => RowChange::Delete { table: name.to_owned(), key: old.key.clone() },
        });
    }
    for new in wanted.iter().filter(|row| !places.contains_key(row.key.as_slice())) {
        if !new.numbered {
            if table.find(&new.key).is_some() {
                conflicts.push(new.key.join(","));
                continue;
            }
            let (table, key) = (name.to_owned(), new.key.clone());
            change.preconditions.push(Precondition::Absent { table, key });
        }
        change.changes.push(set(name, new, new.cells.clone()));
    }
    if conflicts.is_empty() { Ok(change) } else { Err(conflicts) }
}

/// Whether the rows that stay are in their old order, and new ones behind them.
fn in_order(places: &HashMap<&[String], usize>, wanted: &[NewRow]) -> bool {
    let order: Vec<usize> =
        wanted.iter().map(|row| places.get(row.key.as_slice()).copied().unwrap_or(usize::MAX)).collect();
    order.is_sorted()
}

/// Cells of `new` that `old` has not, and empty ones for those that `new` lacks.
fn differing(old: &NewRow, new: &NewRow) -> Vec<(String, String)> {
    let gone = old.cells.iter().filter(|(column, _)| !new.cells.iter().any(|(known, _)| known == column));
    let gone = gone.filter(|(_, text)| !text.is_empty()).map(|(column, _)| (column.clone(), String::new()));
    new.cells.iter().filter(|(column, text)| old.text(column) != text).cloned().chain(gone).collect()
}

fn set(table: &str, row: &NewRow, cells: Vec<(String, String)>) -> RowChange {
    RowChange::Set { table: table.to_owned(), key: row.key.clone(), cells }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use state::{Entry, Files, State, Transaction};
    use wire::op::Stream;

    use super::*;
    use crate::plan::{Edited, Inputs};

    fn apply(state: &mut State, index: u64, change: Change) -> bool {
        let Change { changes, preconditions, .. } = change;
        let transaction = Transaction { changes, preconditions, ..Transaction::default() };
        state.apply(index, &Entry::Transaction(transaction)).outcome.unwrap().refused.is_none()
    }

    fn cluster() -> State {
        let mut state = State::new();
        let changes = vec![
            RowChange::set("nodepos", &["n1"], &[("rack", "R1"), ("u", "1")]),
            RowChange::set("nodepos", &["n2"], &[("rack", "R1")]),
            RowChange::set("nodepos", &["n3"], &[("rack", "R2")]),
        ];
        assert!(apply(&mut state, 1, Change { changes, ..Change::default() }));
        state
    }

    fn planned(state: &State, edited: Option<Edited>) -> Plan {
        let inputs = Inputs { edited, ..Inputs::default() };
        let ctx = Ctx {
            state,
            command: "tabedit",
            args: &["nodepos".to_owned()],
            caller: "root",
            cluster: "mn01",
            now: 0,
            version: "0",
            environment: &BTreeMap::new(),
            files: &Files::new(),
            stdin: None,
            inputs: &inputs,
            named: None,
            sink: None,
        };
        plan(&ctx)
    }

    fn given_out(state: &State, edited: Option<Edited>) -> Sheet {
        match planned(state, edited) {
            Plan::Need(Need::Edit(sheet)) => sheet,
            other => panic!("{other:?}"),
        }
    }

    fn saved(sheet: Sheet, edit: impl Fn(&str) -> String) -> Option<Edited> {
        let text = Ok(edit(&sheet.base).into_bytes());
        Some(Edited { sheet, text })
    }

    #[test]
    fn only_what_the_user_changed_is_written() {
        let mut state = cluster();
        let sheet = given_out(&state, None);
        let edited = saved(sheet, |text| {
            let rows: String =
                text.lines().filter(|l| !l.starts_with("\"n2\"")).map(|l| format!("{l}\n")).collect();
            rows.replace("R2", "R9") + "\"n4\",\"R4\",,,,,,,\n"
        });
        let Plan::Change(change) = planned(&state, edited) else { panic!("no change") };
        assert_eq!(
            change.changes[..2],
            [RowChange::delete("nodepos", &["n2"]), RowChange::set("nodepos", &["n3"], &[("rack", "R9")]),]
        );
        assert!(apply(&mut state, 2, change));
        let text = tabdump::text(state.named("nodepos").unwrap());
        let rows: Vec<&str> = text.lines().skip(1).map(|line| &line[..10]).collect();
        assert_eq!(rows, ["\"n1\",\"R1\",", "\"n3\",\"R9\",", "\"n4\",\"R4\","]);
    }

    #[test]
    fn another_order_of_the_rows_replaces_the_table() {
        let mut state = cluster();
        let sheet = given_out(&state, None);
        let turned = |text: &str| {
            let mut lines: Vec<&str> = text.lines().collect();
            lines[1..].reverse();
            lines.join("\n")
        };
        let wanted = turned(&sheet.base);
        let Plan::Change(change) = planned(&state, saved(sheet, turned)) else { panic!("no change") };
        assert!(apply(&mut state, 2, change));
        assert_eq!(tabdump::text(state.named("nodepos").unwrap()).trim_end(), wanted);
    }

    #[test]
    fn of_two_editors_the_second_is_told_when_they_changed_the_same_row_and_only_then() {
        let mut state = cluster();
        let (first, second, third) =
            (given_out(&state, None), given_out(&state, None), given_out(&state, None));
        let Plan::Change(change) = planned(&state, saved(first, |text| text.replace("R2", "R7"))) else {
            panic!("no change")
        };
        assert!(apply(&mut state, 2, change));
        let again = given_out(&state, saved(second, |text| text.replace("R2", "R8")));
        assert!(again.complaint.as_ref().unwrap().contains("n3"));
        assert!(again.base.contains("R7") && String::from_utf8_lossy(&again.text).contains("R8"));
        let Plan::Change(change) = planned(&state, saved(third, |text| text.replace("\"1\"", "\"2\"")))
        else {
            panic!("no change")
        };
        assert!(apply(&mut state, 3, change));
    }

    #[test]
    fn a_file_that_cannot_be_stored_goes_back_to_the_editor_and_without_one_it_is_an_error() {
        let state = cluster();
        let sheet = given_out(&state, None);
        let again = given_out(&state, saved(sheet, |text| text.replace("rack", "nosuch")));
        assert!(again.complaint.as_ref().unwrap().contains("nosuch"));
        let refused = Edited { sheet: again, text: Err("no terminal".to_owned()) };
        let Plan::Answer(output) = planned(&state, Some(refused)) else { panic!("no answer") };
        assert_eq!(output.status, 1);
        assert!(output.all(Stream::Err).contains("nosuch"));
    }
}
