//! `margay complete`: how the last word of a command line may go on. The shells ask it while somebody types.

use state::schema;

use crate::global::FORMATS;
use crate::manual::{manual, options, spellings, value};
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range, commands, find};

/// The command.
pub static COMMAND: Command = Command {
    name: "complete",
    aliases: &[],
    summary: "Suggest how a command line goes on",
    usage: "Usage: margay complete LINE\n",
    writes: false,
    range: Range::None,
    plan,
};

/// Most suggestions; nobody reads more.
const MOST: usize = 500;
/// Attributes whose value is the name of an image.
const IMAGES: [&str; 3] = ["osimage", "provmethod", "nodetype.provmethod"];
/// Attributes whose value is a list of groups.
const GROUPS: [&str; 3] = ["groups", "nodelist.groups", "tags"];

fn plan(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, COMMAND.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [line] = given.rest.as_slice() else { return Plan::usage(COMMAND.usage, 1) };
    let mut output = Output::new();
    for word in words(ctx, line) {
        output.line(&word);
    }
    output.into()
}

fn words(ctx: &Ctx<'_>, line: &str) -> Vec<String> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    let last = if line.ends_with(char::is_whitespace) { "" } else { words.pop().unwrap_or("") };
    let Some((program, mut before)) = words.split_first().map(|(first, rest)| (*first, rest.to_vec())) else {
        return Vec::new();
    };
    let mut program = program.rsplit('/').next().unwrap_or(program);
    if program == "margay" {
        if before.is_empty() {
            let all =
                commands().into_iter().flat_map(|command| command.aliases.iter().chain([&command.name]));
            let mut names: Vec<String> =
                all.map(|name| (*name).to_owned()).chain(["completion".to_owned()]).collect();
            names.sort_unstable();
            return begun(names.into_iter(), "", last);
        }
        program = before.remove(0);
    }
    match find(program) {
        Some(command) => of_command(ctx, command, &before, last),
        None if program == "completion" => {
            begun(["bash", "fish", "zsh"].map(str::to_owned).into_iter(), "", last)
        }
        None => Vec::new(),
    }
}

fn of_command(ctx: &Ctx<'_>, command: &Command, before: &[&str], last: &str) -> Vec<String> {
    let options = options(command);
    let with_value = |word: &str| {
        let named = options.iter().find(|(names, _)| spellings(names).any(|spelled| spelled == word));
        named.and_then(|(names, _)| value(names))
    };
    if let Some(kind) = before.last().and_then(|word| with_value(word)) {
        return of_kind(ctx, kind, last);
    }
    if last.starts_with('-') && last.contains('=') {
        let (option, begin) = last.split_once('=').unwrap_or((last, ""));
        let found = with_value(option).map_or_else(Vec::new, |kind| of_kind(ctx, kind, begin));
        return found.into_iter().map(|word| format!("{option}={word}")).collect();
    }
    if last.starts_with('-') {
        let names = options.iter().flat_map(|(names, _)| spellings(names)).map(str::to_owned);
        return begun(names, "", last);
    }
    if let Some((attribute, begin)) = last.split_once('=') {
        let attribute_of_step = attribute.rsplit(',').next().unwrap_or(attribute);
        let front = format!("{attribute}=");
        return match attribute_of_step.trim_end_matches(['+', '^', ',']) {
            name if IMAGES.contains(&name) => of_kind(ctx, "IMAGE", begin),
            name if GROUPS.contains(&name) => of_kind(ctx, "groups", begin),
            _ => Vec::new(),
        }
        .into_iter()
        .map(|word| format!("{front}{word}"))
        .collect();
    }
    let mut place = 0;
    let mut skip = false;
    for word in before {
        if std::mem::take(&mut skip) {
            continue;
        }
        match word.starts_with('-') {
            true => skip = with_value(word).is_some(),
            false => place += 1,
        }
    }
    let kinds = manual(command.name).map(|manual| manual.arguments.as_slice()).unwrap_or_default();
    match kinds.get(place).or(kinds.last()) {
        Some(kind) => of_kind(ctx, kind, last),
        None if command.range == Range::First => of_kind(ctx, "nodes", last),
        None => Vec::new(),
    }
}

/// Words of a kind: of an argument as the manual names it, or of an option's value.
fn of_kind(ctx: &Ctx<'_>, kind: &str, last: &str) -> Vec<String> {
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>().into_iter();
    match kind {
        "nodes" | "NODES" | "NODE" | "NAMES" => {
            // The last atom of a noderange.
            let at = last.rfind([',', '@', '(']).map_or(0, |at| at + 1);
            let at = at + last[at..].len() - last[at..].trim_start_matches(['-', '^']).len();
            let mut found = begun(groups(ctx), &last[..at], &last[at..]);
            found.extend(begun(ctx.state.node_names().map(str::to_owned), &last[..at], &last[at..]));
            found.truncate(MOST);
            found
        }
        "groups" | "GROUP" => {
            let at = last.rfind(',').map_or(0, |at| at + 1);
            begun(groups(ctx), &last[..at], &last[at..])
        }
        "tables" | "TABLE" | "TABLES" => {
            let at = last.rfind(',').map_or(0, |at| at + 1);
            begun(owned(schema().tables.iter().map(|table| table.name).collect()), &last[..at], &last[at..])
        }
        "columns" => match last.split_once('.') {
            Some((table, begin)) => {
                let def = schema().table(table).map(|table| schema().def(table));
                let names = def.into_iter().flat_map(|def| def.shown()).map(|(_, column)| column.name);
                begun(owned(names.collect()), &format!("{table}."), begin)
            }
            None => {
                let tables = schema().tables.iter().map(|table| format!("{}.", table.name));
                begun(tables, "", last)
            }
        },
        "TYPE" => begun(owned(schema().types.iter().map(|kind| kind.name).collect()), "", last),
        "IMAGE" | "images" => {
            let images = schema().object_type("osimage").map(|kind| ctx.state.object_names(kind));
            begun(images.unwrap_or_default().into_iter(), "", last)
        }
        "FORMAT" => begun(owned(FORMATS.map(|(name, _)| name).to_vec()), "", last),
        "actions" => {
            let ids = state::actions::list(ctx.state).into_iter().rev().map(|action| action.id.0.to_string());
            begun(ids, "", last)
        }
        "commands" => begun(owned(commands().iter().map(|command| command.name).collect()), "", last),
        literal if literal.contains(['|', '=']) || literal.contains(char::is_numeric) => {
            let mut found = begun(owned(literal.split('|').collect()), "", last);
            // Several steps of nodeset.
            if found.is_empty()
                && let Some(at) = last.rfind(',').map(|at| at + 1)
            {
                found = begun(owned(literal.split('|').collect()), &last[..at], &last[at..]);
            }
            found
        }
        _ => Vec::new(),
    }
}

fn groups(ctx: &Ctx<'_>) -> impl Iterator<Item = String> {
    let kind = schema().object_type("group");
    let mut names = kind.map(|kind| ctx.state.object_names(kind)).unwrap_or_default();
    names.sort_unstable();
    names.dedup();
    names.into_iter()
}

/// Those of the words that go on as it was begun, each with what stands in front.
fn begun(words: impl Iterator<Item = String>, front: &str, begin: &str) -> Vec<String> {
    words.filter(|word| word.starts_with(begin)).map(|word| format!("{front}{word}")).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use crate::nodediscover::tests::planned;
    use crate::plan::Plan;
    use wire::op::Stream;

    fn check(line: &str, expected: &[&str]) {
        let Plan::Answer(output) = planned("complete", &["--", line]) else { panic!("no answer") };
        let found = output.all(Stream::Out);
        let found: Vec<&str> = found.lines().collect();
        match expected.split_first() {
            Some((&"...", rest)) => {
                assert!(rest.iter().all(|word| found.contains(word)), "{line}: {found:?}")
            }
            _ => assert_eq!(found, expected, "{line}"),
        }
    }

    #[test]
    fn names_of_commands_come_first() {
        check("margay nodediscover", &["nodediscoverdef", "nodediscoverls"]);
        check("margay completion f", &["fish"]);
        check("nosuch x", &[]);
    }

    #[test]
    fn arguments_are_nodes_groups_tables_and_words() {
        check("nodels ", &["all", "n1", "n2"]);
        check("/usr/bin/nodels n", &["n1", "n2"]);
        check("margay rpower n1,-n", &["n1,-n1", "n1,-n2"]);
        check("rpower n1 o", &["on", "off"]);
        check("tabdump hos", &["hosts"]);
        check("nodels -H n1 nodehm.mg", &["nodehm.mgt"]);
        check("nodeset n1 standby,sh", &["standby,shell", "standby,shutdown"]);
        check("margay action show ", &[]);
    }

    #[test]
    fn options_and_their_values_are_known() {
        check("lsdef -t osi", &["osimage"]);
        check("lsdef --out", &["--output"]);
        check("lsdef --output j", &["json"]);
        check("nodels --output=y", &["--output=yaml"]);
        check("nodels -", &["...", "-b", "--blame", "--at", "-o", "--sort"]);
        check("nodech n1 groups=a", &["groups=all"]);
    }
}
