//! makeknownhosts and makesshgkh: the ssh host keys of nodes in a file of the client's machine.
//!
//! The keys are those that the nodes' agents reported when sshd had them, or that an admin stored
//! (`identity.hostkeys`); no node is asked, so a key is never that of somebody who answers in a node's place.

use std::collections::BTreeSet;

use crate::args::{flag, head};
use crate::makehosts::names_of;
use crate::plan::{Change, Ctx, Effect, Output, Plan};
use crate::registry::{Command, Range};

/// makeknownhosts: the user's own file.
pub(crate) static KNOWN: Command = Command {
    name: "makeknownhosts",
    aliases: &[],
    summary: "Write the ssh host keys of nodes into your known_hosts",
    usage: "Usage: makeknownhosts <noderange> [-r|--remove] [-d|--delete] [-V|--verbose]\n       makeknownhosts \
            [-h|--help|-v|--version]\n\n   The keys are those that the nodes' agents reported (identity.hostkeys).\n",
    writes: true,
    range: Range::First,
    plan: known,
};

/// makesshgkh: the file of all users of the machine.
pub(crate) static GLOBAL: Command = Command {
    name: "makesshgkh",
    aliases: &[],
    summary: "Write the ssh host keys of nodes into the machine's ssh_known_hosts",
    usage: "Usage: makesshgkh [<noderange>] [-r|--remove] [-V|--verbose]\n       makesshgkh \
            [-h|--help|-v|--version]\n\n   Without a noderange: all nodes. The keys are those that the nodes' \
            agents reported (identity.hostkeys).\n",
    writes: true,
    range: Range::First,
    plan: global,
};

/// The user's file.
pub(crate) const OWN_FILE: &str = "~/.ssh/known_hosts";
/// The machine's file.
const GLOBAL_FILE: &str = "/etc/ssh/ssh_known_hosts";

fn known(ctx: &Ctx<'_>) -> Plan {
    write(ctx, &KNOWN, OWN_FILE).unwrap_or_else(|plan| plan)
}

fn global(ctx: &Ctx<'_>) -> Plan {
    write(ctx, &GLOBAL, GLOBAL_FILE).unwrap_or_else(|plan| plan)
}

fn write(ctx: &Ctx<'_>, command: &Command, path: &str) -> Result<Plan, Plan> {
    let given = head(ctx, command.usage, &[flag('r', "remove"), flag('d', "delete")])?;
    let all = command.name == GLOBAL.name;
    let nodes = match given.rest.as_slice() {
        [range] => ctx.nodes(range)?,
        [] if all => ctx.nodes("/.*")?,
        _ => return Err(Plan::usage(command.usage, 1)),
    };
    let remove = given.has("remove") || given.has("delete");
    let old = ctx.file(path)?.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut lines: Vec<String> = old.iter().flat_map(|text| text.lines()).map(str::to_owned).collect();
    let names: Vec<BTreeSet<String>> = nodes.iter().map(|node| of_node(ctx, node)).collect();
    let gone: BTreeSet<String> = names.iter().flatten().cloned().collect();
    let mut output = Output::new();
    lines.retain(|line| !belongs(line, &gone));
    for (node, names) in nodes.iter().zip(&names) {
        if !remove {
            let keys = keys(ctx, node);
            if keys.is_empty() {
                let text = format!(
                    "{node}: no host key is stored; its agent has not reported one yet (identity.hostkeys)"
                );
                output.error(ctx, &text);
                continue;
            }
            let mut hosts: Vec<&str> = vec![node];
            hosts.extend(names.iter().map(String::as_str).filter(|name| name != node));
            lines.extend(keys.iter().map(|key| format!("{} {key}", hosts.join(","))));
        }
        if given.has("verbose") {
            let what = if remove { "removed from" } else { "written to" };
            output.line(&format!("{node}: {what} {path}"));
        }
    }
    let mut text = lines.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    let effects = match old {
        Some(old) if old == text => Vec::new(),
        None if text.is_empty() => Vec::new(),
        Some(old) => vec![file(&format!("{path}.backup"), old, all), file(path, text, all)],
        None => vec![file(path, text, all)],
    };
    Ok(Plan::Change(Change { effects, output, ..Change::default() }))
}

/// A file for its owner alone, or one that all users of the machine read.
fn file(path: &str, text: String, shared: bool) -> Effect {
    match shared {
        true => Effect::ClientFile { path: path.to_owned(), bytes: text.into_bytes() },
        false => Effect::ClientFiles(vec![(path.to_owned(), text.into_bytes())]),
    }
}

/// The effects that take nodes out of a user's file with this content.
pub(crate) fn without(ctx: &Ctx<'_>, nodes: &[String], old: &[u8]) -> Option<Effect> {
    let old = String::from_utf8_lossy(old);
    let gone: BTreeSet<String> = nodes.iter().flat_map(|node| of_node(ctx, node)).collect();
    let text: String =
        old.lines().filter(|line| !belongs(line, &gone)).map(|line| format!("{line}\n")).collect();
    (text != *old).then(|| file(OWN_FILE, text, false))
}

/// The names and the main address of a node.
fn of_node(ctx: &Ctx<'_>, node: &str) -> BTreeSet<String> {
    let mut names = names_of(ctx, node);
    let ip = ctx.state.text(node, "hosts.ip");
    if !ip.is_empty() {
        names.insert(ip);
    }
    names
}

/// The keys of a node, in the form of the file. What is no key is left out.
fn keys(ctx: &Ctx<'_>, node: &str) -> Vec<String> {
    let stored = ctx.state.text(node, "identity.hostkeys");
    let is_key = |key: &&str| {
        let mut words = key.split(' ');
        let plain = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-+/=.@".contains(c));
        let two = words.next().zip(words.next());
        two.is_some_and(|(kind, key)| !kind.is_empty() && key.len() > 3 && plain(kind) && plain(key))
    };
    let first_two = |key: &str| key.split(' ').take(2).collect::<Vec<_>>().join(" ");
    stored.split('|').map(str::trim).filter(is_key).map(first_two).collect()
}

/// Whether a line of the file is about one of these names.
fn belongs(line: &str, names: &BTreeSet<String>) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("#");
    let hosts = if first.starts_with('@') { words.next().unwrap_or("#") } else { first };
    if hosts.starts_with('#') {
        return false;
    }
    // `[name]:port` is another service, hashed names cannot be told.
    hosts.split(',').any(|host| names.contains(host))
}
