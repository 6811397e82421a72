//! tabprune: takes rows out of the tables of records, or all rows out of any table.

use state::calendar::{DAY, day_number};
use state::{RowChange, Table};

use crate::args::{Given, flag, head, value};
use crate::csv;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "tabprune",
    aliases: &[],
    summary: "Remove old rows of auditlog or eventlog, or all rows of a table",
    usage: "Usage: tabprune <tablename> [-V] -a\n       tabprune <tablename> [-V] -n <number of oldest rows>\n       \
            tabprune <tablename> [-V] -i <recid, rows below it go>\n       tabprune <tablename> [-V] -p <percent, \
            the oldest>\n       tabprune <tablename> [-V] -d <days, older rows go>\n       tabprune \
            [-h|--help]\n       tabprune [-v|--version]\n\n   -n, -i, -p and -d are for auditlog and eventlog, -a \
            is for every table. -V prints the removed rows.\n",
    writes: true,
    range: Range::None,
    plan,
};

const RECORDS: [&str; 2] = ["auditlog", "eventlog"];

fn plan(ctx: &Ctx<'_>) -> Plan {
    prune(ctx).unwrap_or_else(|plan| plan)
}

fn prune(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let usage = || Plan::usage(COMMAND.usage, 1);
    let given = head(
        ctx,
        COMMAND.usage,
        &[
            flag('a', "all"),
            value('n', "number"),
            value('i', "recid"),
            value('p', "percent"),
            value('d', "days"),
        ],
    )?;
    let [name] = given.rest.as_slice() else { return Err(usage()) };
    let Some(table) = ctx.state.named(name) else {
        return Err(Plan::error(ctx, &format!("No such table: {name}")));
    };
    let ways = ["all", "number", "recid", "percent", "days"];
    let chosen: Vec<&str> = ways.into_iter().filter(|way| given.has(way)).collect();
    let [way] = chosen.as_slice() else { return Err(usage()) };
    if *way != "all" && !RECORDS.contains(&name.as_str()) {
        return Err(Plan::error(ctx, &format!("{name}: only -a is for this table")));
    }
    let old = oldest(ctx, table, way, &given)?;
    let mut output = Output::new();
    if given.has("verbose") {
        let names: Vec<&str> = table.def().shown().map(|(_, column)| column.name).collect();
        output.line(&format!("#{}", names.join(",")));
        for row in old.iter().filter_map(|id| table.row(*id)) {
            output.line(&csv::line(table.def().shown().map(|(column, _)| row.get(column))));
        }
    }
    if !given.has("verbose") {
        output.line(&format!("tabprune of {name} complete."));
    }
    if old.is_empty() {
        return Ok(output.into());
    }
    let changes = match *way {
        "all" => vec![RowChange::Clear { table: name.clone() }],
        _ => {
            let keys = old.iter().filter_map(|id| Some(table.key_of(table.row(*id)?)));
            keys.map(|key| RowChange::delete(name, &key)).collect()
        }
    };
    Ok(Plan::Change(Change { changes, output, ..Change::default() }))
}

/// The numbers of the rows that go.
fn oldest(ctx: &Ctx<'_>, table: &Table, way: &str, given: &Given) -> Result<Vec<u64>, Plan> {
    let number = given.value(way).unwrap_or_default().trim_end_matches('%').parse::<u64>();
    let number = match (way, number) {
        ("all", _) => 0,
        ("percent", Ok(101..)) | (_, Err(_)) => return Err(Plan::usage(COMMAND.usage, 1)),
        (_, Ok(number)) => number,
    };
    let ids = || table.rows().map(|(id, _)| id);
    let first = |count: u64| ids().take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
    Ok(match way {
        "all" => ids().collect(),
        "number" => first(number),
        "percent" => first(table.len() as u64 * number / 100),
        "recid" => {
            let key = table.def().keys.first().copied().unwrap_or_default();
            let below = |text: &str| text.parse::<u64>().is_ok_and(|recid| recid < number);
            table.rows().filter(|(_, row)| below(row.text(key))).map(|(id, _)| id).collect()
        }
        _ => {
            let Some(column) =
                ["audittime", "eventtime"].into_iter().find_map(|name| table.def().column(name))
            else {
                return Ok(Vec::new());
            };
            let limit = ctx.now.saturating_sub(number.saturating_mul(DAY));
            let over = |text: &str| instant(text).is_some_and(|unix| unix <= limit);
            table.rows().filter(|(_, row)| over(row.text(column))).map(|(id, _)| id).collect()
        }
    })
}

/// Unix seconds of `2026-11-20 09:30:11`, or of xCAT's `11-20-2026 09:30:11`.
pub(crate) fn instant(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(' ')?;
    let three = |text: &str, separator| -> Option<[u64; 3]> {
        let parts: Vec<u64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    let [hour, minute, second] = three(time, ':')?;
    let [year, month, day] = match three(date, '-')? {
        [year @ 1970..=9999, month, day] => [year, month, day],
        [month, day, year @ 1970..=9999] => [year, month, day],
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(day_number(year, month, day)? * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use state::{Entry, Files, State, Transaction};

    use super::*;
    use crate::action::{stamp, status_time};
    use crate::plan::Inputs;

    const NOW: u64 = 1_700_000_000;

    /// Recids that are left after `args` of four rows, which are 3, 2, 1 and 0 days old.
    fn left(args: &[&str]) -> Vec<String> {
        let mut state = State::new();
        let row = |age: u64| RowChange::set("auditlog", &[""], &[("audittime", &stamp(NOW - age * DAY))]);
        let changes = [3, 2, 1, 0].map(row).to_vec();
        state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        let args: Vec<String> = ["auditlog"].iter().chain(args).map(|a| (*a).to_owned()).collect();
        let ctx = Ctx {
            state: &state,
            command: "tabprune",
            args: &args,
            caller: "root",
            cluster: "mn01",
            now: NOW,
            version: "0",
            environment: &BTreeMap::new(),
            files: &Files::new(),
            stdin: None,
            inputs: &Inputs::default(),
            named: None,
            sink: None,
        };
        if let Plan::Change(change) = plan(&ctx) {
            let transaction = Transaction { changes: change.changes, ..Transaction::default() };
            state.apply(2, &Entry::Transaction(transaction));
        }
        state.named("auditlog").unwrap().rows().map(|(_, row)| row.text(0).to_owned()).collect()
    }

    #[test]
    fn each_way_takes_the_oldest_rows() {
        assert_eq!(left(&["-n", "1"]), ["2", "3", "4"]);
        assert_eq!(left(&["-i", "3"]), ["3", "4"]);
        assert_eq!(left(&["-p", "75"]), ["4"]);
        assert_eq!(left(&["-d", "2"]), ["3", "4"]);
        assert!(left(&["-a"]).is_empty());
        for wrong in [&["-p", "101"][..], &["-n", "x"], &["-a", "-n", "1"], &[]] {
            assert_eq!(left(wrong).len(), 4, "{wrong:?}");
        }
    }

    #[test]
    fn both_forms_of_an_instant_are_read_back() {
        for unix in [0, NOW, 951_782_400, 4_107_542_399] {
            assert_eq!(instant(&stamp(unix)), Some(unix));
            assert_eq!(instant(&status_time(unix)), Some(unix));
        }
        assert_eq!(instant("yesterday"), None);
        assert_eq!(instant("13-13-2026 00:00:00"), None);
    }
}
