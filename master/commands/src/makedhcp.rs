//! makedhcp: accepted for habit. DHCP answers are computed from the tables at the moment of the request, so there
//! is nothing to make; the command checks what would be answered and says so.

use std::net::Ipv4Addr;

use crate::args::{flag, head, value};
use crate::plan::{Ctx, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "makedhcp",
    aliases: &["makedhcpd"],
    summary: "Check what DHCP would answer",
    usage: "Usage: makedhcp -n\n       makedhcp -a [-d]\n       makedhcp <noderange> [-s statements]\n       \
            makedhcp -d <noderange>\n       makedhcp -q <noderange> [-l]\n       makedhcp [-h|--help]\n",
    writes: false,
    range: Range::After(&["-s"]),
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    check(ctx).unwrap_or_else(|plan| plan)
}

fn check(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(
        ctx,
        COMMAND.usage,
        &[
            flag('n', "new"),
            flag('a', "all"),
            flag('d', "delete"),
            flag('q', "query"),
            flag('l', "localonly"),
            value('s', "statements"),
        ],
    )?;
    let (whole, range) = (given.has("new") || given.has("all"), given.rest.first());
    if !whole && range.is_none() {
        return Err(Plan::usage(COMMAND.usage, 1));
    }
    let nodes = match range {
        Some(range) => ctx.nodes(range)?,
        None => ctx.nodes("/.*")?,
    };
    let mut output = Output::new();
    if given.has("query") {
        for node in &nodes {
            let ip = ctx.state.text(node, "hosts.ip");
            for mac in macs(ctx, node) {
                let address = if ip.is_empty() { String::new() } else { format!("ip-address = {ip}, ") };
                output.line(&format!("{node}: {address}hardware-address = {mac}"));
            }
        }
        return Ok(output.into());
    }
    if given.has("delete") {
        output.line("Nothing is kept for DHCP: clear mac.mac of a node to make it unknown.");
        return Ok(output.into());
    }
    let ranges = if whole { networks(ctx, &mut output) } else { dynamic_ranges(ctx) };
    let mut known = 0;
    for node in &nodes {
        let has_mac = !macs(ctx, node).is_empty();
        let ip = ctx.state.text(node, "hosts.ip");
        if !has_mac {
            if !whole {
                output.warn(ctx, &format!("{node}: no MAC address is defined (mac.mac)"));
            }
            continue;
        }
        let Ok(address) = ip.parse::<Ipv4Addr>() else {
            output.warn(ctx, &format!("{node}: no address is defined (hosts.ip)"));
            continue;
        };
        if let Some((name, _, _)) = ranges.iter().find(|(_, from, to)| (*from..=*to).contains(&address)) {
            output.error(ctx, &format!("{node}: {address} is inside the dynamic range of network {name}"));
            output.status = 0;
            continue;
        }
        known += 1;
    }
    output.line(&format!(
        "{known} nodes would be answered with their fixed address; nothing had to be written."
    ));
    Ok(output.into())
}

fn macs(ctx: &Ctx<'_>, node: &str) -> Vec<String> {
    let text = ctx.state.text(node, "mac.mac");
    text.split('|')
        .filter_map(|part| part.split('!').next())
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect()
}

fn networks(ctx: &Ctx<'_>, output: &mut Output) -> Vec<(String, Ipv4Addr, Ipv4Addr)> {
    let interfaces = ctx.state.site("dhcpinterfaces").unwrap_or("");
    if interfaces.is_empty() {
        output.warn(ctx, "site.dhcpinterfaces is not set: no interface is answered on");
    }
    let ranges = dynamic_ranges(ctx);
    if let Some(table) = ctx.state.named("networks") {
        for (_, row) in table.rows().filter(|(_, row)| table.enabled(row)) {
            let name = row.text(0);
            match ranges.iter().any(|(known, _, _)| known == name) {
                true => output.line(&format!("{name}: unknown machines get an address of its dynamic range")),
                false => output.line(&format!("{name}: no dynamic range, unknown machines are not answered")),
            }
        }
    }
    ranges
}

fn dynamic_ranges(ctx: &Ctx<'_>) -> Vec<(String, Ipv4Addr, Ipv4Addr)> {
    let Some(table) = ctx.state.named("networks") else { return Vec::new() };
    let Some(column) = table.def().column("dynamicrange") else { return Vec::new() };
    let mut out = Vec::new();
    for (_, row) in table.rows().filter(|(_, row)| table.enabled(row)) {
        for part in row.text(column).split([',', ' ']) {
            if let Some((from, to)) = part.split_once('-')
                && let (Ok(from), Ok(to)) = (from.trim().parse(), to.trim().parse())
            {
                out.push((row.text(0).to_owned(), from, to));
            }
        }
    }
    out
}
