//! makenetworks: rows of the table networks from the interfaces of the master.

use std::net::Ipv4Addr;

use state::{Precondition, RowChange};

use crate::args::{flag, head};
use crate::plan::{Change, Ctx, Interface, Need, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "makenetworks",
    aliases: &[],
    summary: "Define the networks of the master",
    usage: "\nUsage: makenetworks - Gather cluster network information and add it to the xCAT database.\n\n  \
            makenetworks [-h|--help ]\n\n  makenetworks [-v|--version]\n\n  makenetworks [-V|--verbose] \
            [-d|--display]\n\n",
    writes: true,
    range: Range::None,
    plan,
};

fn plan(ctx: &Ctx<'_>) -> Plan {
    make(ctx).unwrap_or_else(|plan| plan)
}

fn make(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(ctx, COMMAND.usage, &[flag('d', "display")])?;
    let Some(interfaces) = &ctx.inputs.interfaces else { return Err(Plan::Need(Need::Interfaces)) };
    let mut output = Output::new();
    let mut change = Change::default();
    let mut seen = Vec::new();
    for interface in interfaces.iter().filter(|i| usable(i)) {
        let (net, mask) = network(interface);
        let key = [net.to_string(), mask.to_string()];
        if seen.contains(&key) {
            continue;
        }
        seen.push(key.clone());
        let name = format!("{}-{}", key[0].replace('.', "_"), key[1].replace('.', "_"));
        let gateway = interface.gateway.map_or_else(|| "<xcatmaster>".to_owned(), |g| g.to_string());
        let exists = ctx.state.named("networks").is_some_and(|table| {
            table.find(&key).is_some() || table.rows().any(|(_, row)| row.text(0) == name)
        });
        if given.has("display") {
            output.line(&format!(
                "\n#From {}.\n{name}:\n    objtype=network\n    net={net}\n    mask={mask}\n    \
                 gateway={gateway}\n    mgtifname={}\n    mtu={}\n    tftpserver={}",
                ctx.cluster, interface.name, interface.mtu, interface.address
            ));
            if exists {
                output.line("# Note: An equivalent xCAT network definition already exists.\n");
            }
        } else if !exists {
            change
                .preconditions
                .push(Precondition::Absent { table: "networks".to_owned(), key: key.to_vec() });
            change.changes.push(RowChange::set(
                "networks",
                &[&key[0], &key[1]],
                &[
                    ("netname", &name),
                    ("mgtifname", &interface.name),
                    ("gateway", &gateway),
                    ("tftpserver", "<xcatmaster>"),
                    ("mtu", &interface.mtu.to_string()),
                ],
            ));
        }
    }
    if given.has("display") {
        return Ok(output.into());
    }
    change.output = output;
    Ok(Plan::Change(change))
}

fn usable(interface: &Interface) -> bool {
    !interface.address.is_loopback()
        && !interface.address.is_link_local()
        && (1..=30).contains(&interface.prefix)
}

fn network(interface: &Interface) -> (Ipv4Addr, Ipv4Addr) {
    let mask = u32::MAX.checked_shl(32 - u32::from(interface.prefix)).unwrap_or(0);
    (Ipv4Addr::from(u32::from(interface.address) & mask), Ipv4Addr::from(mask))
}
