//! nodediscoverls, nodediscoverdef: the machines that reported themselves, and an administrator's word on
//! which node one of them is.

use state::discovery::admit::APPROVED;
use state::view::{Row, Tables, column};
use state::{RowChange, State};

use crate::args::{flag, value};
use crate::operate::read;
use crate::plan::{Change, Ctx, Output, Plan};
use crate::registry::{Command, Range};

const LS_USAGE: &str = "Usage: nodediscoverls [-t seq|switch|blade|manual|mtms|token|undef|all] [-l]\n       nodediscoverls [-u uuid] [-l]\n       nodediscoverls [-h|--help|-v|--version]\n";
const DEF_USAGE: &str = "Usage: nodediscoverdef -u uuid -n node\n       nodediscoverdef -r -u uuid\n       nodediscoverdef -r -t {seq|switch|blade|manual|mtms|token|undef|all}\n       nodediscoverdef [-h|--help|-v|--version]\n";

/// How machines are recognized, in the words of the option and of the column.
const METHODS: &[(&str, &str)] = &[
    ("seq", "sequential"),
    ("switch", "switch"),
    ("blade", "blade"),
    ("manual", "manual"),
    ("mtms", "mtms"),
    ("token", "token"),
    ("undef", "undef"),
];

/// nodediscoverls.
pub static LS: Command = Command {
    name: "nodediscoverls",
    aliases: &[],
    summary: "List the machines that discovery has seen",
    usage: LS_USAGE,
    writes: false,
    range: Range::None,
    plan: list,
};

/// nodediscoverdef.
pub static DEF: Command = Command {
    name: "nodediscoverdef",
    aliases: &[],
    summary: "Say which node a discovered machine is",
    usage: DEF_USAGE,
    writes: true,
    range: Range::None,
    plan: define,
};

fn list(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, LS_USAGE, &[value('t', "type"), value('u', "uuid"), flag('l', "long")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    if !given.rest.is_empty() || (given.has("type") && given.has("uuid")) {
        return Plan::usage(LS_USAGE, 1);
    }
    let rows = match chosen(ctx, given.value("type"), given.value("uuid")) {
        Ok(rows) => rows,
        Err(plan) => return plan,
    };
    let mut output = Output::new();
    if ctx.inputs.rows {
        as_rows(ctx.state, &rows, given.has("long"), &mut output);
        return output.into();
    }
    if given.has("long") {
        for row in &rows {
            long(ctx.state, row, &mut output);
        }
        return output.into();
    }
    if !rows.is_empty() {
        output.line(&line(["UUID", "NODE", "METHOD", "MTM", "SERIAL"]));
    }
    for row in &rows {
        let node = column(row, "node");
        let node = if node.is_empty() { "undef" } else { node };
        let text = |name| column(row, name);
        output.line(&line([text("uuid"), node, text("method"), text("mtm"), text("serial")]));
    }
    output.into()
}

/// The machines as rows; the long form has every column.
fn as_rows(state: &State, rows: &[Row], long: bool, output: &mut Output) {
    let table = state::schema().table("discoverydata").map(|table| state::schema().def(table));
    let mut names: Vec<&str> = vec!["uuid", "node", "method", "mtm", "serial"];
    let known = ["state", "servicenode", "fingerprint", "reasons"];
    let of_machine = table.into_iter().flat_map(|table| table.shown()).map(|(_, column)| column.name);
    if long {
        names.extend(of_machine.filter(|name| !["uuid", "node", "method", "mtm", "serial"].contains(name)));
    }
    let seen = names.len();
    if long {
        names.extend(known);
    }
    output.fields(&names);
    for row in rows {
        let found = Tables::row(state, "discovered", &[column(row, "uuid")]).unwrap_or_default();
        let cells = names.iter().enumerate().map(|(at, name)| match at < seen {
            true => column(row, name),
            false => column(&found, name),
        });
        output.row(&cells.collect::<Vec<_>>());
    }
}

fn line(cells: [&str; 5]) -> String {
    let [uuid, node, method, mtm, serial] = cells;
    format!("  {uuid:<40}{node:<20}{method:<15}{mtm:<10}{serial:<10}").trim_end().to_owned()
}

/// Everything that is known of a machine, and why no method recognized it.
fn long(state: &State, row: &Row, output: &mut Output) {
    let uuid = column(row, "uuid");
    output.line(&format!("Object uuid: {uuid}"));
    let known = Tables::row(state, "discovered", &[uuid]).unwrap_or_default();
    let columns = state::schema().table("discoverydata").map(|table| &state::schema().def(table).columns);
    for name in columns.into_iter().flatten().map(|column| column.name).filter(|name| *name != "uuid") {
        if !column(row, name).is_empty() {
            output.line(&format!("    {name}={}", column(row, name)));
        }
    }
    for name in ["state", "servicenode", "fingerprint"] {
        if !column(&known, name).is_empty() {
            output.line(&format!("    {name}={}", column(&known, name)));
        }
    }
    for reason in column(&known, "reasons").split("; ").filter(|reason| !reason.is_empty()) {
        output.line(&format!("    reason={reason}"));
    }
}

/// The machines of a type or with a UUID; `Err` is the plan to answer with.
fn chosen(ctx: &Ctx<'_>, kind: Option<&str>, uuid: Option<&str>) -> Result<Vec<Row>, Plan> {
    if let Some(uuid) = uuid {
        return match machine(ctx.state, uuid) {
            Some(row) => Ok(vec![row]),
            None => Err(Plan::error(ctx, &format!("Cannot find the machine with uuid '{uuid}' in the list"))),
        };
    }
    let rows = Tables::rows(ctx.state, "discoverydata");
    let method = match kind.unwrap_or("all") {
        "all" => return Ok(rows),
        kind => METHODS.iter().find(|(word, _)| *word == kind).map(|(_, method)| *method),
    };
    match method {
        Some(method) => Ok(rows.into_iter().filter(|row| column(row, "method") == method).collect()),
        None => Err(Plan::usage(LS_USAGE, 1)),
    }
}

fn machine(state: &State, uuid: &str) -> Option<Row> {
    let find = |uuid: &str| Tables::row(state, "discoverydata", &[uuid]);
    find(uuid).or_else(|| find(&uuid.to_lowercase()))
}

fn define(ctx: &Ctx<'_>) -> Plan {
    let options = [value('u', "uuid"), value('n', "node"), flag('r', "remove"), value('t', "type")];
    let given = match read(ctx, DEF_USAGE, &options) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    if !given.rest.is_empty() {
        return Plan::usage(DEF_USAGE, 1);
    }
    match (given.has("remove"), given.value("uuid"), given.value("node"), given.value("type")) {
        (true, uuid, None, kind) if uuid.is_some() != kind.is_some() => remove(ctx, kind, uuid),
        (false, Some(uuid), Some(node), None) => assign(ctx, uuid, node),
        _ => Plan::usage(DEF_USAGE, 1),
    }
}

fn remove(ctx: &Ctx<'_>, kind: Option<&str>, uuid: Option<&str>) -> Plan {
    let rows = match chosen(ctx, kind, uuid) {
        Ok(rows) => rows,
        Err(plan) => return plan,
    };
    let uuids = rows.iter().map(|row| column(row, "uuid"));
    let changes = uuids
        .flat_map(|uuid| {
            [RowChange::delete("discoverydata", &[uuid]), RowChange::delete("discovered", &[uuid])]
        })
        .collect();
    let mut output = Output::new();
    output.line("Removing discoverydata entries finished.");
    Plan::Change(Change { changes, output, ..Change::default() })
}

/// The machine is this node: it is admitted the next time it asks, which it does by itself.
fn assign(ctx: &Ctx<'_>, uuid: &str, node: &str) -> Plan {
    let Some(row) = machine(ctx.state, uuid) else {
        return Plan::error(ctx, &format!("Cannot find the machine with uuid '{uuid}' in the list"));
    };
    if !ctx.state.is_node(node) {
        return Plan::error(
            ctx,
            &format!("The node '{node}' is not defined. Define it first (nodeadd or mkdef)."),
        );
    }
    let uuid = column(&row, "uuid");
    let holder = Tables::row(ctx.state, "identity", &[node]).unwrap_or_default();
    let other = column(&row, "node");
    if !column(&holder, "fingerprint").is_empty() {
        return Plan::error(
            ctx,
            &format!(
                "The node '{node}' is held by another machine. If that one is gone, remove its key first: \
                 chtab -d node={node} identity"
            ),
        );
    }
    if !other.is_empty() && column(&row, "method") != "manual" {
        return Plan::error(ctx, &format!("The machine '{uuid}' is node '{other}' already."));
    }
    let text = |name| column(&row, name);
    let mut changes = vec![
        RowChange::set("discoverydata", &[uuid], &[("node", node), ("method", "manual")]),
        RowChange::set("discovered", &[uuid], &[("node", node), ("method", "manual"), ("state", APPROVED)]),
    ];
    // Should the machine boot anew before it asks, it is known by its model and serial number.
    let known: Vec<(&str, &str)> = [("serial", text("serial")), ("mtm", text("mtm"))]
        .into_iter()
        .filter(|(_, v)| !v.is_empty())
        .collect();
    if known.len() == 2 {
        changes.push(RowChange::set("vpd", &[node], &known));
    }
    let mut output = Output::new();
    output.line(&format!("Defined [{uuid}] to node {node}."));
    Plan::Change(Change { changes, output, ..Change::default() })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use state::{Entry, Files, Transaction};
    use wire::op::Stream;

    use super::*;
    use crate::plan::Inputs;

    fn cluster() -> State {
        let mut state = State::new();
        let set = RowChange::set;
        let changes = vec![
            set("nodelist", &["n1"], &[("groups", "all")]),
            set("nodelist", &["n2"], &[("groups", "all")]),
            set("identity", &["n2"], &[("fingerprint", "k2")]),
            set(
                "discoverydata",
                &["u1"],
                &[("method", "undef"), ("mtm", "M"), ("serial", "S1"), ("arch", "x86_64")],
            ),
            set(
                "discovered",
                &["u1"],
                &[("state", "pending"), ("reasons", "switch: port 3 is nobody's; mtms: no node has M*S1")],
            ),
            set(
                "discoverydata",
                &["u2"],
                &[("node", "n2"), ("method", "switch"), ("mtm", "M"), ("serial", "S2")],
            ),
        ];
        state.apply(1, &Entry::Transaction(Transaction { changes, ..Transaction::default() }));
        state
    }

    /// The plan of a command line in the test's cluster.
    pub(crate) fn planned(command: &str, args: &[&str]) -> Plan {
        let state = cluster();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let command = crate::find(command).unwrap();
        let (environment, files, inputs) = (BTreeMap::new(), Files::new(), Inputs::default());
        (command.plan)(&Ctx {
            state: &state,
            command: command.name,
            args: &args,
            caller: "root",
            cluster: "c1",
            now: 0,
            version: "Version 0",
            environment: &environment,
            files: &files,
            stdin: None,
            inputs: &inputs,
            named: None,
            sink: None,
        })
    }

    fn answer(command: &str, args: &[&str]) -> (String, u8) {
        let output = match planned(command, args) {
            Plan::Answer(output) => output,
            Plan::Change(change) => change.output,
            other => panic!("{other:?}"),
        };
        (output.all(Stream::Out) + &output.all(Stream::Err), output.status)
    }

    #[test]
    fn machines_are_listed_in_xcats_columns_by_method() {
        let header =
            "  UUID                                    NODE                METHOD         MTM       SERIAL";
        let u1 = "  u1                                      undef               undef          M         S1";
        let u2 = "  u2                                      n2                  switch         M         S2";
        assert_eq!(answer("nodediscoverls", &[]), (format!("{header}\n{u1}\n{u2}\n"), 0));
        assert_eq!(answer("nodediscoverls", &["-t", "undef"]).0, format!("{header}\n{u1}\n"));
        assert_eq!(answer("nodediscoverls", &["-t", "manual"]).0, "");
        assert_eq!(answer("nodediscoverls", &["-u", "U2"]).0, format!("{header}\n{u2}\n"));
        assert_eq!(answer("nodediscoverls", &["-t", "nosuch"]).1, 1);
        assert_eq!(answer("nodediscoverls", &["-u", "nosuch"]).1, 1);
    }

    #[test]
    fn the_long_list_says_why_each_method_did_not_match() {
        let (text, _) = answer("nodediscoverls", &["-l", "-u", "u1"]);
        assert!(text.starts_with("Object uuid: u1\n    method=undef\n    arch=x86_64\n"), "{text}");
        assert!(
            text.contains("    reason=switch: port 3 is nobody's\n    reason=mtms: no node has M*S1\n"),
            "{text}"
        );
    }

    #[test]
    fn an_admin_gives_a_machine_a_node_that_nobody_holds() {
        assert_eq!(
            answer("nodediscoverdef", &["-u", "u1", "-n", "n1"]),
            ("Defined [u1] to node n1.\n".into(), 0)
        );
        for (args, words) in [
            (["-u", "u1", "-n", "n2"], "held by another machine"),
            (["-u", "u1", "-n", "n9"], "not defined"),
            (["-u", "u9", "-n", "n1"], "Cannot find"),
            (["-u", "u2", "-n", "n1"], "is node 'n2' already"),
            (["-u", "u2", "-t", "all"], "Usage:"),
        ] {
            let (text, status) = answer("nodediscoverdef", &args);
            assert!(text.contains(words) && status == 1, "{args:?}: {text}");
        }
    }

    #[test]
    fn entries_are_removed_by_uuid_or_method() {
        let changes = |args| match planned("nodediscoverdef", args) {
            Plan::Change(change) => change.changes,
            other => panic!("{other:?}"),
        };
        assert_eq!(changes(&["-r", "-u", "u1"]).len(), 2);
        assert_eq!(changes(&["-r", "-t", "all"]).len(), 4);
        assert_eq!(answer("nodediscoverdef", &["-r"]).1, 1);
    }
}
