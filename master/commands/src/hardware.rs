//! rpower, rsetboot, rbeacon, rinv and nodestat: what is asked of machines, grouped by how they are managed.

use state::State;
use wire::op::{App, LifeQuestion, NodeOp, Stream};

use crate::args::{Opt, flag, value};
use crate::fanout::{FanOut, node_error, plain};
use crate::operate::read;
use crate::plan::{Ctx, Output, Plan};
use crate::power::{self, Ask};
use crate::registry::{Command, Range};

/// rpower.
pub static RPOWER: Command = Command {
    name: "rpower",
    aliases: &["power"],
    summary: "Switch machines on and off, or ask whether they are on",
    usage: "Usage: rpower <noderange> [--nodeps] [on|off|softoff|reset|boot|cycle|stat|state|status] [-V|--verbose] [--detach]
       rpower [-h|--help|-v|--version]

   Options of xCAT that are refused:
       [-m <table.column>==<status>] [-r <retries>] [-t <timeout>] to wait for a status
       [-w <timeout>] [-o] to wake and suspend, [-c <path>] to boot virtual machines from a file
",
    writes: true,
    range: Range::First,
    plan: rpower,
};

/// rsetboot.
pub static RSETBOOT: Command = Command {
    name: "rsetboot",
    aliases: &["setboot"],
    summary: "Choose or show what machines boot from next",
    usage: "Usage: rsetboot <noderange> [hd|net|cd|default|floppy|setup|stat] [-u] [-p] [-V|--verbose]
       rsetboot [-h|--help|-v|--version]
",
    writes: true,
    range: Range::First,
    plan: rsetboot,
};

/// rbeacon.
pub static RBEACON: Command = Command {
    name: "rbeacon",
    aliases: &["beacon"],
    summary: "Switch the identify light of machines",
    usage: "Usage: rbeacon <noderange> [on|off|blink|stat] [-V|--verbose]
       rbeacon [-h|--help|-v|--version]
",
    writes: true,
    range: Range::First,
    plan: rbeacon,
};

/// rinv.
pub static RINV: Command = Command {
    name: "rinv",
    aliases: &["inventory"],
    summary: "Show what machines are made of, as their BMCs tell it",
    usage: "Usage: rinv <noderange> [all|model|serial|asset|vpd|deviceid|guid|uuid|firm|dimm|mprom|cpu] [-V|--verbose]
       rinv [-h|--help|-v|--version]
",
    writes: false,
    range: Range::First,
    plan: rinv,
};

/// nodestat.
pub static NODESTAT: Command = Command {
    name: "nodestat",
    aliases: &[],
    summary: "Show what is known of the life of nodes",
    usage: "Usage: nodestat [noderange] [-u] [-m] [-f] [-p]
       nodestat [-h|--help|-v|--version]
",
    writes: false,
    range: Range::First,
    plan: nodestat,
};

/// Options of xCAT's rpower that are known and refused.
const REFUSED: [char; 6] = ['m', 't', 'r', 'w', 'o', 'c'];

fn rpower(ctx: &Ctx<'_>) -> Plan {
    let own = REFUSED.map(|letter| if letter == 'o' { flag(letter, "") } else { value(letter, "") });
    let given = match words(ctx, &RPOWER, &own) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let [range, word] = given.words.as_slice() else {
        // xCAT's status (observation w205).
        return Plan::usage(RPOWER.usage, u8::from(!given.words.is_empty()));
    };
    if let Some(letter) = REFUSED.into_iter().find(|letter| given.options.has(&letter.to_string())) {
        return Plan::error(ctx, &format!("rpower -{letter} is not supported"));
    }
    ask(ctx, range, &["nodehm.power", "nodehm.mgt"], "nodehm.power,mgt", power::power(word))
}

fn rsetboot(ctx: &Ctx<'_>) -> Plan {
    let given = match words(ctx, &RSETBOOT, &[flag('u', "uefi"), flag('p', "persistent")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let (range, word) = match given.words.as_slice() {
        [range] => (range, "stat"),
        [range, word] => (range, word.as_str()),
        _ => return Plan::usage(RSETBOOT.usage, 1),
    };
    let wanted = power::set_boot(word, given.options.has("persistent"), given.options.has("uefi"));
    ask(ctx, range, &["nodehm.mgt"], "nodehm.mgt", wanted)
}

fn rbeacon(ctx: &Ctx<'_>) -> Plan {
    let given = match words(ctx, &RBEACON, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    match given.words.as_slice() {
        [range, word] => ask(ctx, range, &["nodehm.mgt"], "nodehm.mgt", power::beacon(word)),
        _ => Plan::usage(RBEACON.usage, 1),
    }
}

fn rinv(ctx: &Ctx<'_>) -> Plan {
    let given = match words(ctx, &RINV, &[flag('t', "table")]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    if given.options.has("table") {
        return Plan::error(ctx, "rinv -t is not supported; discovery fills the tables");
    }
    match given.words.split_first() {
        Some((range, kinds)) => ask(ctx, range, &["nodehm.mgt"], "nodehm.mgt", power::inventory(kinds)),
        None => Plan::usage(RINV.usage, 1),
    }
}

fn nodestat(ctx: &Ctx<'_>) -> Plan {
    let own = [flag('u', "updatedb"), flag('m', "usemon"), flag('f', "usefping"), flag('p', "powerstat")];
    let given = match words(ctx, &NODESTAT, &own) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    let nodes = match given.words.as_slice() {
        [] => ctx.state.node_names().map(str::to_owned).collect(),
        [range] => match ctx.nodes(range) {
            Ok(nodes) => nodes,
            Err(plan) => return plan,
        },
        _ => return Plan::usage(NODESTAT.usage, 1),
    };
    if nodes.is_empty() {
        return Output::new().into();
    }
    let mut output = Output::new();
    let mut warn = |text: String| output.warn(ctx, &text);
    let apps = if given.options.has("usemon") { apps(ctx.state, &mut warn) } else { Vec::new() };
    let power = given.options.has("powerstat");
    let op = match power || !apps.is_empty() {
        true => NodeOp::NodeLife(LifeQuestion { power, apps }),
        false => NodeOp::NodeStat,
    };
    let keep_life = given.options.has("updatedb");
    Plan::FanOut(FanOut { keep_life, output, ..FanOut::hardware(op, nodes) })
}

/// Ports of applications that are known by name.
const KNOWN_PORTS: [(&str, u16); 4] = [("ssh", 22), ("sshd", 22), ("pbs", 15002), ("xend", 8002)];

/// The applications of xcatmon's settings: the list `apps`, and for each its `port=` and `group=`.
pub fn apps(state: &State, warn: &mut dyn FnMut(String)) -> Vec<App> {
    let Some(table) = state.named("monsetting") else { return Vec::new() };
    let setting = |key: &str| {
        let row = table.find(&["xcatmon", key]).map(|(_, row)| row).filter(|row| table.enabled(row));
        row.and_then(|row| row.get(table.def().column("value")?)).unwrap_or_default()
    };
    let mut apps = Vec::new();
    for name in setting("apps").split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let words = || setting(name).split(',').filter_map(|word| word.split_once('='));
        let of = |wanted: &str| words().find(|(word, _)| *word == wanted).map(|(_, value)| value);
        let known = KNOWN_PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port);
        let Some(port) = of("port").map_or(known, |port| port.parse().ok()) else {
            let text = format!(
                "{name}: no port=NUMBER in the table monsetting; only ports are asked, commands (cmd, lcmd, dcmd) \
                 are not run"
            );
            warn(text);
            continue;
        };
        let groups = words().filter(|(word, _)| *word == "group").map(|(_, group)| group);
        let groups: Vec<&str> = groups.collect();
        let members = |group: &&str| state.members(group).unwrap_or_default();
        let nodes: Vec<String> = groups.iter().flat_map(members).map(str::to_owned).collect();
        // A group without members means nobody, not everybody.
        if groups.is_empty() || !nodes.is_empty() {
            apps.push(App { name: name.to_owned(), port, nodes });
        }
    }
    apps
}

/// rspreset.
pub static RSPRESET: Command = Command {
    name: "rspreset",
    aliases: &["rsreset"],
    summary: "Start the BMCs of machines anew",
    usage: "Usage: rspreset <noderange> [-V|--verbose]
       rspreset [-h|--help|-v|--version]
",
    writes: true,
    range: Range::First,
    plan: rspreset,
};

fn rspreset(ctx: &Ctx<'_>) -> Plan {
    let given = match words(ctx, &RSPRESET, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    match given.words.as_slice() {
        [range] => ask(ctx, range, &["nodehm.mgt"], "nodehm.mgt", Ok(power::reset_bmc())),
        _ => Plan::usage(RSPRESET.usage, 1),
    }
}

struct Words {
    options: crate::args::Given,
    words: Vec<String>,
}

fn words(ctx: &Ctx<'_>, command: &Command, own: &[Opt]) -> Result<Words, Plan> {
    let mut options = read(ctx, command.usage, own)?;
    let words = std::mem::take(&mut options.rest);
    Ok(Words { options, words })
}

/// The plan for nodes whose method stands in the first of `columns` that has a value.
fn ask(ctx: &Ctx<'_>, range: &str, columns: &[&str], tables: &str, wanted: Result<Ask, String>) -> Plan {
    let nodes = match ctx.nodes(range) {
        Ok(nodes) => nodes,
        Err(plan) => return plan,
    };
    let mut output = Output::new();
    let mut asked = Vec::new();
    for node in nodes {
        let method =
            columns.iter().map(|column| ctx.state.text(&node, column)).find(|method| !method.is_empty());
        match (method.as_deref(), &wanted) {
            (None, _) => {
                let text =
                    format!("Unable to identify plugin for this command, check relevant tables: {tables}");
                output.items.push(node_error(&node, ctx.cluster, &text));
            }
            (Some("ipmi"), Ok(_)) => {
                asked.push(node);
                continue;
            }
            (Some(method), Err(word)) => {
                let text = format!(
                    "{node}: Error: Unsupported command: {} {word} when using mgt={method}.\n",
                    ctx.command
                );
                output.items.push(plain(Stream::Out, &text));
            }
            (Some(method), Ok(_)) => {
                output.items.push(node_error(
                    &node,
                    ctx.cluster,
                    &format!("mgt={method} is not supported, only ipmi is"),
                ));
            }
        }
        output.status = 1;
    }
    match wanted {
        Ok(wanted) if !asked.is_empty() => Plan::FanOut(FanOut {
            acts: wanted.acts,
            lock: wanted.lock,
            then_status: wanted.then_status,
            output,
            ..FanOut::hardware(wanted.op, asked)
        }),
        _ => output.into(),
    }
}
