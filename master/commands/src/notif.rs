//! regnotif and unregnotif: the rows of the table notification; `margay notification`: how far each of them is.

use state::RowChange;
use state::notify::Cursor;

use crate::action::stamp;
use crate::args::{head, value, word_value};
use crate::notice::{Format, Kind, Registration, kind};
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// regnotif.
pub(crate) static REGNOTIF: Command = Command {
    name: "regnotif",
    aliases: &[],
    summary: "Register a program for changes of tables",
    usage: "Usage: regnotif [-h|--help|-v|--version]\n       regnotif <filename> <table>[,<table>...] \
            [-o|--operation a,d,u]\n                [-f|--format value|data|json] [--ca <file>]\n\n   \
            <filename> is a program, a Perl module (.pm) or an http(s) address\n   -f  how a program is told: as \
            first documented, as xCAT 2 does it, or as JSON\n   --ca  certificates to trust for an https address \
            instead of the system's\n",
    writes: true,
    range: Range::None,
    plan: register,
};

/// unregnotif.
pub(crate) static UNREGNOTIF: Command = Command {
    name: "unregnotif",
    aliases: &[],
    summary: "Take back the registration of a program",
    usage: "Usage: unregnotif [-h|--help|-v|--version]\n       unregnotif <filename>\n",
    writes: true,
    range: Range::None,
    plan: unregister,
};

/// `margay notification`.
pub(crate) static NOTIFICATION: Command = Command {
    name: "notification",
    aliases: &[],
    summary: "Show how far the registered handlers of changes are",
    usage: "Usage: margay notification [list]\n",
    writes: false,
    range: Range::None,
    plan: list,
};

/// What is registered when nothing is said.
const ALL: &str = "a,d,u";

fn register(ctx: &Ctx<'_>) -> Plan {
    let words = match words(ctx, &REGNOTIF) {
        Ok(words) => words,
        Err(plan) => return plan,
    };
    let operations = words.value("operation").unwrap_or(ALL);
    let [file, tables] = words.rest.as_slice() else { return Plan::usage(REGNOTIF.usage, 1) };
    if operations.split(',').any(|word| !matches!(word, "a" | "d" | "u")) {
        // On standard output and with status 0, as xCAT has it (observation w187).
        let mut output = Output::new();
        output.line(&format!("Invalid table operations: {operations}"));
        return output.into();
    }
    let format = words.value("format").unwrap_or_default();
    if !format.is_empty() && Format::parse(format).is_none() {
        return Plan::error(ctx, &format!("There is no format '{format}'; there are value, data and json"));
    }
    if kind(file) == Kind::Web
        && let Err(wrong) = crate::web::Address::parse(file)
    {
        return Plan::error(ctx, &wrong);
    }
    let ca = words.value("ca").unwrap_or_default();
    let cells = [("tables", tables.as_str()), ("tableops", operations), ("format", format), ("ca", ca)];
    changed(RowChange::set("notification", &[file], &cells))
}

fn unregister(ctx: &Ctx<'_>) -> Plan {
    match words(ctx, &UNREGNOTIF) {
        Ok(words) => match words.rest.as_slice() {
            [file] => changed(RowChange::delete("notification", &[file])),
            _ => Plan::usage(UNREGNOTIF.usage, 1),
        },
        Err(plan) => plan,
    }
}

fn words(ctx: &Ctx<'_>, command: &Command) -> Result<crate::args::Given, Plan> {
    head(ctx, command.usage, &[value('o', "operation"), value('f', "format"), word_value("ca")])
}

fn changed(change: RowChange) -> Plan {
    Plan::Change(Change { changes: vec![change], ..Change::default() })
}

fn list(ctx: &Ctx<'_>) -> Plan {
    let given = match crate::operate::read(ctx, NOTIFICATION.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    if !matches!(given.rest.iter().map(String::as_str).collect::<Vec<_>>()[..], [] | ["list"]) {
        return Plan::usage(NOTIFICATION.usage, 1);
    }
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["handler", "text"]);
    }
    for (file, cursor) in ctx.state.cursors() {
        if let Some(registration) = Registration::find(ctx.state, file) {
            let newest = registration.newest(ctx.state);
            for line in lines(cursor, newest) {
                if ctx.inputs.rows {
                    output.row(&[file, line.as_str()]);
                }
                output.line(&format!("{file}: {line}"));
            }
        }
    }
    output.into()
}

/// What an admin should know about a cursor; `newest` is the newest revision that could be wanted.
#[must_use]
pub fn lines(cursor: &Cursor, newest: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let place = match (newest < cursor.at.revision, cursor.open) {
        (true, _) => "has everything".to_owned(),
        (_, Some(_)) => format!("is told of revision {}, the newest is {newest}", cursor.at.revision),
        (_, None) => format!("waits for revision {}, the newest is {newest}", cursor.at.revision),
    };
    let count = |number: u64, what: &str| (number > 0).then(|| format!("{number} {what}"));
    let counts = [
        Some(format!("{} calls done", cursor.delivered)),
        count(cursor.given_up, "given up"),
        count(cursor.repeated, "perhaps done twice"),
    ];
    lines.push(format!("{place}; {}", counts.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    lines.extend(gap(cursor));
    if let Some(trouble) = &cursor.trouble {
        let state = if cursor.failing || cursor.failures > 0 { "FAILING" } else { "last failure" };
        lines.push(format!("{state}: call {}, {}: {}", trouble.at, stamp(trouble.time), trouble.text));
    }
    lines
}

/// The gap of a registration in words.
#[must_use]
pub fn gap(cursor: &Cursor) -> Option<String> {
    let (from, to) = cursor.gap?;
    Some(format!(
        "GAP: revisions {from} to {to} were not kept long enough to be told; \
         the state at revision {to} shows what came of them (--at {to})"
    ))
}

#[cfg(test)]
mod tests {
    use state::notify::{Place, Trouble};

    use super::*;

    #[test]
    fn an_admin_sees_what_waits_what_failed_and_what_is_lost() {
        let mut cursor = Cursor { at: Place::first(9), delivered: 3, ..Cursor::default() };
        assert_eq!(lines(&cursor, 8), ["has everything; 3 calls done"]);
        cursor.trouble =
            Some(Trouble { at: Place { revision: 8, call: 1 }, time: 0, text: "exit status 1".into() });
        (cursor.failing, cursor.given_up, cursor.gap) = (true, 1, Some((2, 4)));
        let lines = lines(&cursor, 12);
        assert_eq!(lines[0], "waits for revision 9, the newest is 12; 3 calls done, 1 given up");
        assert!(lines[1].starts_with("GAP: revisions 2 to 4 were not kept"), "{lines:?}");
        assert!(
            lines[2].starts_with("FAILING: call 8.1, ") && lines[2].ends_with(": exit status 1"),
            "{lines:?}"
        );
    }
}
