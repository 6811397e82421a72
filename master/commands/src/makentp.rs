//! makentp: the time service of the master's machine, which nodes and service nodes take their time from.

use std::net::Ipv4Addr;

use crate::args::{flag, head};
use crate::plan::{Change, Ctx, Effect, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "makentp",
    aliases: &[],
    summary: "Set up the time service of the master",
    usage: "Usage: makentp [-h|--help]\n       makentp [-v|--version]\n       makentp [-a|--all] [-V|--verbose]\n",
    writes: true,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    make(ctx).unwrap_or_else(|plan| plan)
}

fn make(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, COMMAND.usage, &[flag('a', "all")])?;
    if !given.rest.is_empty() {
        return Err(Plan::usage(COMMAND.usage, 1));
    }
    let verbose = given.has("verbose");
    let servers = servers(ctx)?;
    let mut output = Output::new();
    output.line(&format!("configuring management node: {}.", ctx.cluster));
    if verbose && !servers.is_empty() {
        output.line(&format!("ntp servers are: {}", servers.join(",")));
    }
    if given.has("all") {
        let table = ctx.state.named("servicenodes");
        let names: Vec<&str> =
            table.iter().flat_map(|table| table.rows()).map(|(_, row)| row.text(0)).collect();
        if !names.is_empty() {
            let text = format!(
                "the time service of the service nodes is that of their system and stays as it is: {}",
                names.join(",")
            );
            output.warn(ctx, &text);
        }
    }
    let effects = vec![Effect::TimeService { settings: settings(&servers, &networks(ctx)), verbose }];
    Ok(Plan::Change(Change { effects, output, ..Change::default() }))
}

/// `site.extntpservers`: names and addresses, nothing else.
fn servers(ctx: &Ctx<'_>) -> Result<Vec<String>, Plan> {
    let list = ctx.state.site("extntpservers").unwrap_or_default();
    let mut servers = Vec::new();
    for server in list.split([',', ' ']).filter(|server| !server.is_empty()) {
        if !server.chars().all(|c| c.is_ascii_alphanumeric() || "-.:_".contains(c)) || server.starts_with('-')
        {
            let text = format!("site.extntpservers: '{server}' is neither a name nor an address");
            return Err(Plan::error(ctx, &text));
        }
        servers.push(server.to_owned());
    }
    Ok(servers)
}

/// The networks that may ask for the time, as address/bits.
fn networks(ctx: &Ctx<'_>) -> Vec<String> {
    let Some(table) = ctx.state.named("networks") else { return Vec::new() };
    let address = |text: &str| text.parse::<Ipv4Addr>().ok();
    let rows = table.rows().filter(|(_, row)| table.enabled(row));
    let mut networks: Vec<String> = rows
        .filter_map(|(_, row)| {
            let column = |name: &str| table.def().column(name).map(|column| row.text(column));
            let (net, mask) = (address(column("net")?)?, u32::from(address(column("mask")?)?));
            (mask.leading_ones() == mask.count_ones()).then(|| format!("{net}/{}", mask.count_ones()))
        })
        .collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

/// What chrony reads.
fn settings(servers: &[String], networks: &[String]) -> String {
    let mut text = "# Written by makentp from site.extntpservers and the table networks.\n".to_owned();
    servers.iter().for_each(|server| text.push_str(&format!("server {server} iburst\n")));
    networks.iter().for_each(|network| text.push_str(&format!("allow {network}\n")));
    // Without others, or when they are away, the nodes still agree with each other.
    text.push_str("local stratum 10\n");
    text
}
