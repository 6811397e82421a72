//! tabdump: a table as it is stored, group rows and patterns included.

use std::cmp::Ordering;

use state::{Row, Table, TableDef, schema};
use wire::op::Stream;

use crate::args::{flag, head, value};
use crate::csv;
use crate::plan::{Change, Ctx, Effect, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "tabdump",
    aliases: &[],
    summary: "Print a table as comma-separated values",
    usage: "Usage: tabdump [-d] [table]\n       tabdump      [table]\n       tabdump [-f <filename>]  [table]\n       \
            tabdump [-n <# of records>]  [auditlog | eventlog]\n       tabdump [-w attr==val [-w attr=~val] \
            ...] [table]\n       tabdump [-w attr==val [-w attr=~val] ...] [-f <filename>] [table]\n       \
            tabdump [-?|-h|--help]\n       tabdump {-v|--version}\n       tabdump \n",
    writes: false,
    range: Range::None,
    plan,
};

/// Longest operators first.
const OPERATORS: [&str; 8] = ["==", "!=", "=~", "!~", ">=", "<=", ">", "<"];

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match head(
        ctx,
        COMMAND.usage,
        &[flag('d', "describe"), value('w', "where"), value('f', "file"), value('n', "lines")],
    ) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let newest = given.value("lines");
    if newest.is_some() && (given.has("describe") || given.has("where") || given.has("file")) {
        return Plan::usage(COMMAND.usage, 1);
    }
    let name = match given.rest.as_slice() {
        [] if newest.is_none() && !given.has("where") && !given.has("file") => {
            return list(ctx, given.has("describe")).into();
        }
        [name] => name,
        _ => return Plan::usage(COMMAND.usage, 1),
    };
    let Some(table) = ctx.state.named(name) else {
        let text = match given.has("describe") {
            true => format!("table {name} does not exist."),
            false => format!("No such table: {name}"),
        };
        return Plan::error(ctx, &text);
    };
    if given.has("describe") {
        return describe(ctx, table.def()).into();
    }
    if let Some(count) = newest {
        return newest_rows(ctx, table, count);
    }
    let mut tests = Vec::new();
    for text in given.values("where") {
        match Test::parse(text, table.def()) {
            Ok(test) => tests.push(test),
            Err(text) => return Plan::error(ctx, &text),
        }
    }
    let wanted = |row: &Row| tests.iter().all(|test| test.holds(row));
    if ctx.inputs.rows && !given.has("file") {
        return rows(table, table.rows().map(|(_, row)| row).filter(|row| wanted(row))).into();
    }
    if !given.has("file") {
        return print(table, wanted, |output| ctx.stream(output)).into();
    }
    let output = print(table, wanted, |_| true);
    match given.value("file") {
        Some(path) => {
            let bytes = output.items.into_iter().flat_map(|item| item.text).collect();
            let effects = vec![Effect::ClientFile { path: path.to_owned(), bytes }];
            Plan::Change(Change { effects, ..Change::default() })
        }
        None => output.into(),
    }
}

fn list(ctx: &Ctx<'_>, describe: bool) -> Output {
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["table", "description"]);
        for table in &schema().tables {
            output.row(&[table.name, table.description]);
        }
    }
    for table in schema().tables.iter().filter(|table| !table.own) {
        match describe {
            true => output.line(&format!("{}:\t{}\n", table.name, table.description)),
            false => output.line(table.name),
        }
    }
    output
}

fn describe(ctx: &Ctx<'_>, def: &TableDef) -> Output {
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["column", "description"]);
        for (_, column) in def.shown() {
            output.row(&[column.name, column.description]);
        }
    }
    let lines: Vec<String> = def
        .shown()
        .map(|(_, column)| {
            let tabs = if column.name.len() < 7 { "\t\t" } else { "\t" };
            format!("{}:{tabs}{}", column.name, column.description)
        })
        .collect();
    output.line(&lines.join("\n\n"));
    if def.name == "site" {
        output.line("\nThe keys that are known:\n");
        for key in &schema().site {
            output.line(&format!(" {}:\t{}", key.name, key.description));
        }
    }
    output
}

/// `on` is told after each row, and ends it with false.
fn print(table: &Table, wanted: impl Fn(&Row) -> bool, mut on: impl FnMut(&mut Output) -> bool) -> Output {
    let mut output = Output::new();
    let names: Vec<&str> = table.def().shown().map(|(_, column)| column.name).collect();
    output.line(&format!("#{}", names.join(",")));
    let columns: Vec<usize> = table.def().shown().map(|(column, _)| column).collect();
    let mut line = String::new();
    for (_, row) in table.rows().filter(|(_, row)| wanted(row)) {
        line.clear();
        csv::push(&mut line, columns.iter().map(|column| row.get(*column)));
        output.line(&line);
        if !on(&mut output) {
            break;
        }
    }
    output
}

fn rows<'r>(table: &Table, chosen: impl Iterator<Item = &'r Row>) -> Output {
    let mut output = Output::new();
    let def = table.def();
    output.fields(&def.shown().map(|(_, column)| column.name).collect::<Vec<_>>());
    for row in chosen {
        output.cells(def.shown().map(|(column, _)| row.get(column).map(str::to_owned)).collect());
    }
    output
}

/// The whole table as text.
pub(crate) fn text(table: &Table) -> String {
    print(table, |_| true, |_| true).all(Stream::Out)
}

fn newest_rows(ctx: &Ctx<'_>, table: &Table, count: &str) -> Plan {
    let name = table.def().name;
    if !matches!(name, "auditlog" | "eventlog") {
        let text = format!(
            "{name} table is not supported in tabdump -n. You may only use this option on the auditlog or \
             the eventlog."
        );
        return Plan::error(ctx, &text);
    }
    let Ok(count) = count.parse::<usize>() else { return Plan::usage(COMMAND.usage, 1) };
    let mut newest: Vec<&Row> = table.newest().map(|(_, row)| row).take(count).collect();
    newest.reverse();
    if ctx.inputs.rows {
        return rows(table, newest.into_iter()).into();
    }
    let mut output = Output::new();
    let names: Vec<&str> = table.def().shown().map(|(_, column)| column.name).collect();
    output.line(&format!("#{}", names.join(",")));
    for row in newest {
        output.line(&csv::line(table.def().shown().map(|(column, _)| row.get(column))));
    }
    output.into()
}

/// A condition of `-w`. As in SQL a cell without a value meets none.
struct Test {
    column: usize,
    operator: &'static str,
    value: String,
}

impl Test {
    fn parse(text: &str, def: &TableDef) -> Result<Test, String> {
        let unsupported = || format!("Unsupported operator:{text} on -w flag input");
        let at = text.find(['=', '!', '<', '>']).ok_or_else(unsupported)?;
        let (name, rest) = text.split_at(at);
        let operator = OPERATORS.into_iter().find(|op| rest.starts_with(op)).ok_or_else(unsupported)?;
        let column =
            def.column(name).ok_or_else(|| format!("No column \"{name}\" in table \"{}\"", def.name))?;
        Ok(Test { column, operator, value: rest[operator.len()..].to_owned() })
    }

    fn holds(&self, row: &Row) -> bool {
        let Some(cell) = row.get(self.column) else { return false };
        let order = cell.cmp(self.value.as_str());
        match self.operator {
            "==" => order == Ordering::Equal,
            "!=" => order != Ordering::Equal,
            "=~" => like(cell, &self.value),
            "!~" => !like(cell, &self.value),
            ">=" => order != Ordering::Less,
            "<=" => order != Ordering::Greater,
            ">" => order == Ordering::Greater,
            _ => order == Ordering::Less,
        }
    }
}

/// SQL's LIKE: `%` any text, `_` one character, letters of either case.
fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('%') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '_' || *c == text[t] => {
                t += 1;
                p += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    (t, p) = (from + 1, star + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn like_is_that_of_sql() {
        for (text, pattern) in [("n1", "n%"), ("N1", "n_"), ("n1", "%"), ("abcabd", "%abd"), ("", "%%")] {
            assert!(like(text, pattern), "{text} like {pattern}");
        }
        for (text, pattern) in [("n1", "n"), ("n10", "n_"), ("n1", "n1.*"), ("", "_")] {
            assert!(!like(text, pattern), "{text} like {pattern}");
        }
    }
}
