//! `margay status` and `margay sn`: the cluster's own parts.

use crate::operate::read;
use crate::plan::{Ctx, Need, Output, Plan};
use crate::registry::{Command, Range};

/// `margay status`.
pub static STATUS: Command = Command {
    name: "status",
    aliases: &[],
    summary: "Show masters, service nodes, agents and the revision",
    usage: "Usage: margay status\n",
    writes: false,
    range: Range::None,
    plan: status,
};

/// `margay sn`.
pub static SN: Command = Command {
    name: "sn",
    aliases: &[],
    summary: "Admit and list service nodes",
    usage: "Usage: margay sn add <name>
       margay sn list
       margay sn remove <name>
",
    writes: true,
    range: Range::None,
    plan: sn,
};

fn status(ctx: &Ctx<'_>) -> Plan {
    match read(ctx, STATUS.usage, &[]) {
        Err(plan) => plan,
        Ok(given) if !given.rest.is_empty() => Plan::usage(STATUS.usage, 1),
        Ok(_) => match &ctx.inputs.status {
            None => Plan::Need(Need::Status),
            Some(lines) => {
                let mut output = Output::new();
                if ctx.inputs.rows {
                    output.fields(&["name", "value"]);
                }
                for line in lines {
                    if ctx.inputs.rows {
                        let (name, value) =
                            line.split_once(": ").or_else(|| line.split_once(' ')).unwrap_or((line, ""));
                        output.row(&[name, value]);
                    }
                    output.line(line);
                }
                output.into()
            }
        },
    }
}

fn sn(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, SN.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let words: Vec<&str> = given.rest.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["add", name] => match wire::names::check_name("name of a service node", name) {
            Ok(name) => Plan::Admit(name.to_owned()),
            Err(error) => Plan::error(ctx, &error.to_string()),
        },
        ["remove", name] => remove(ctx, name),
        [] | ["list"] => list(ctx).into(),
        _ => Plan::usage(SN.usage, 1),
    }
}

fn remove(ctx: &Ctx<'_>, name: &str) -> Plan {
    let known = ctx.state.named("servicenodes").is_some_and(|table| table.find(&[name]).is_some());
    if !known {
        return Plan::error(ctx, &format!("There is no service node {name}"));
    }
    let changes = vec![state::RowChange::delete("servicenodes", &[name])];
    Plan::Change(crate::plan::Change { changes, ..crate::plan::Change::default() })
}

fn list(ctx: &Ctx<'_>) -> Output {
    let mut output = Output::new();
    if ctx.inputs.rows {
        output.fields(&["name", "state", "address"]);
    }
    let Some(table) = ctx.state.named("servicenodes") else { return output };
    let cell =
        |row: &state::Row, column: &str| table.def().column(column).map_or("", |at| row.text(at)).to_owned();
    for (_, row) in table.rows() {
        let joined = cell(row, "joined").parse().ok().map(crate::action::stamp);
        let expires = cell(row, "expires").parse::<u64>().unwrap_or(0);
        let state = match joined {
            Some(joined) => format!("joined {joined}"),
            None if expires > ctx.now => format!("may join until {}", crate::action::stamp(expires)),
            None => "its token is expired".to_owned(),
        };
        if ctx.inputs.rows {
            output.row(&[cell(row, "name"), state.clone(), cell(row, "address")]);
        }
        output.line(&format!("{}: {state}", cell(row, "name")));
    }
    output
}
