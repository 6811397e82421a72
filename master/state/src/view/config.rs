//! What a booted node sets up by itself.

use std::collections::BTreeMap;

use wire::secret::Secret;
use wire::view::{
    AccountConfig, GroupConfig, InterfaceConfig, MountConfig, NodeConfig, RouteConfig, StartCommand,
};

use super::{Row, Tables, column, network_of, prefix_length, site_value, words};

/// Stands for the service node; a node knows its own.
const XCATMASTER: &str = "<xcatmaster>";

/// The configuration of a node, numbered by the revision of the last change that touched it.
#[must_use]
pub fn node_config(tables: &dyn Tables, node: &str) -> NodeConfig {
    let networks = tables.rows("networks");
    let ip = tables.attribute(node, "hosts", "ip");
    let home = network_of(&networks, &ip);
    let own = |column| tables.attribute(node, "selfconf", column);
    let domain = first_of([
        own("domain"),
        home.map(|row| column(row, "domain").to_owned()).unwrap_or_default(),
        site_value(tables, "domain"),
    ]);
    NodeConfig {
        generation: tables.config_revision(node),
        hostname: first_of([own("hostname"), short(node).to_owned()]),
        interfaces: interfaces(tables, node, &networks),
        hosts: host_lines(tables, node, &ip, &domain),
        routes: routes(tables, node),
        mounts: mounts(tables, node),
        groups: groups(tables, node),
        accounts: accounts(tables, node),
        start_command: start_command(tables, node),
        nameservers: nameservers(tables, node, home),
        domain,
    }
}

/// Host names of the node's further addresses: `hosts.otherinterfaces` and `nics.nicips`.
#[must_use]
pub fn addresses(tables: &dyn Tables, node: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in words(&tables.attribute(node, "hosts", "otherinterfaces")) {
        // `name:ip` or `name!ip`; an IPv6 address has colons of its own.
        let Some((name, ip)) = entry.split_once('!').or_else(|| entry.split_once(':')) else { continue };
        let name = if name.starts_with('-') { format!("{node}{name}") } else { name.to_owned() };
        found.push((name, ip.to_owned()));
    }
    let prefixes = per_nic(&tables.attribute(node, "nics", "nichostnameprefixes"));
    let suffixes = per_nic(&tables.attribute(node, "nics", "nichostnamesuffixes"));
    for (nic, ips) in per_nic(&tables.attribute(node, "nics", "nicips")) {
        for (position, ip) in ips.iter().enumerate() {
            let own = |table: &BTreeMap<String, Vec<String>>| {
                table.get(&nic).and_then(|list| list.get(position)).filter(|text| !text.is_empty()).cloned()
            };
            let prefix = own(&prefixes).unwrap_or_default();
            let suffix = own(&suffixes).unwrap_or_else(|| match (prefix.is_empty(), position) {
                (false, _) => String::new(),
                (true, 0) => format!("-{nic}"),
                (true, more) => format!("-{nic}-{}", more + 1),
            });
            found.push((format!("{prefix}{node}{suffix}"), ip.clone()));
        }
    }
    found
}

/// The lists of a `nics` column: `eth0!a|b,eth1!c`.
fn per_nic(value: &str) -> BTreeMap<String, Vec<String>> {
    value
        .split(',')
        .filter_map(|part| part.trim().split_once('!'))
        .map(|(nic, list)| (nic.to_owned(), list.split('|').map(|item| item.trim().to_owned()).collect()))
        .collect()
}

/// The first text that is not empty.
fn first_of<const N: usize>(candidates: [String; N]) -> String {
    candidates.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn short(node: &str) -> &str {
    node.split_once('.').map_or(node, |(name, _)| name)
}

fn interfaces(tables: &dyn Tables, node: &str, networks: &[Row]) -> Vec<InterfaceConfig> {
    let named = per_nic(&tables.attribute(node, "nics", "nicnetworks"));
    let mut found: Vec<InterfaceConfig> = Vec::new();
    for (nic, ips) in per_nic(&tables.attribute(node, "nics", "nicips")) {
        for (position, ip) in ips.iter().enumerate() {
            let name = named.get(&nic).and_then(|list| list.get(position));
            let network = name
                .and_then(|name| networks.iter().find(|row| column(row, "netname") == name))
                .or_else(|| network_of(networks, ip));
            let bits = network.and_then(|row| prefix_length(column(row, "mask")));
            let bits = bits.unwrap_or(if ip.contains(':') { 64 } else { 24 });
            let dhcp = ip.is_empty() || ip.eq_ignore_ascii_case("dhcp");
            let first_route = found.iter().all(|interface| interface.gateway.is_empty());
            let gateway = network.map_or("", |row| column(row, "gateway"));
            let usable = first_route && !dhcp && gateway.parse::<std::net::IpAddr>().is_ok() && gateway != ip;
            found.push(InterfaceConfig {
                name: nic.clone(),
                address: if dhcp { String::new() } else { format!("{ip}/{bits}") },
                gateway: if usable { gateway.to_owned() } else { String::new() },
                mtu: network.and_then(|row| column(row, "mtu").parse().ok()).unwrap_or(0),
            });
        }
    }
    for entry in tables.attribute(node, "selfconf", "interfaces").split(',') {
        let Some((name, rest)) = entry.trim().split_once('=') else { continue };
        let mut parts = rest.split(';').map(str::trim);
        let address = parts.next().unwrap_or_default();
        let dhcp = address.eq_ignore_ascii_case("dhcp");
        found.retain(|interface| interface.name != name);
        found.push(InterfaceConfig {
            name: name.to_owned(),
            address: if dhcp { String::new() } else { address.to_owned() },
            gateway: parts.next().unwrap_or_default().to_owned(),
            mtu: parts.next().and_then(|mtu| mtu.parse().ok()).unwrap_or(0),
        });
    }
    found
}

/// The node's own lines: `address short fqdn aliases`, as makehosts writes them.
fn host_lines(tables: &dyn Tables, node: &str, ip: &str, domain: &str) -> Vec<(String, Vec<String>)> {
    let names = |name: &str| {
        let mut names = vec![name.to_owned()];
        if !domain.is_empty() && !name.contains('.') {
            names.push(format!("{name}.{domain}"));
        }
        names
    };
    let mut lines = Vec::new();
    if !ip.is_empty() {
        let mut own = names(node);
        own.extend(words(&tables.attribute(node, "hosts", "hostnames")).map(str::to_owned));
        lines.push((ip.to_owned(), own));
    }
    lines.extend(addresses(tables, node).into_iter().map(|(name, ip)| (ip, names(&name))));
    for line in tables.attribute(node, "selfconf", "hosts").split('|') {
        let mut parts = line.split_whitespace().map(str::to_owned);
        if let Some(address) = parts.next() {
            lines.push((address, parts.collect()));
        }
    }
    lines
}

fn routes(tables: &dyn Tables, node: &str) -> Vec<RouteConfig> {
    let mut found: Vec<RouteConfig> = tables
        .node_rows(node, "noderoutes")
        .iter()
        .filter(|row| !column(row, "destination").is_empty())
        .map(|row| RouteConfig {
            destination: column(row, "destination").to_owned(),
            gateway: column(row, "gateway").to_owned(),
            interface: column(row, "interface").to_owned(),
        })
        .collect();
    for name in words(&tables.attribute(node, "noderes", "routenames")) {
        let Some(row) = tables.row("routes", &[name]) else { continue };
        let Some(bits) = prefix_length(column(&row, "mask")) else { continue };
        found.push(RouteConfig {
            destination: format!("{}/{bits}", column(&row, "net")),
            gateway: column(&row, "gateway").to_owned(),
            interface: column(&row, "ifname").to_owned(),
        });
    }
    found
}

fn mounts(tables: &dyn Tables, node: &str) -> Vec<MountConfig> {
    tables
        .node_rows(node, "nodemounts")
        .iter()
        .filter(|row| !column(row, "target").is_empty())
        .map(|row| MountConfig {
            source: column(row, "source").to_owned(),
            target: column(row, "target").to_owned(),
            kind: column(row, "kind").to_owned(),
            options: column(row, "options").to_owned(),
        })
        .collect()
}

/// Rows of `useraccounts` whose name begins with `@` define groups.
fn groups(tables: &dyn Tables, node: &str) -> Vec<GroupConfig> {
    tables
        .node_rows(node, "useraccounts")
        .iter()
        .filter_map(|row| {
            let name = column(row, "name").strip_prefix('@')?.to_owned();
            Some(GroupConfig { name, gid: column(row, "gid").parse().ok()? })
        })
        .collect()
}

/// Accounts with a number; a row without one is not an account and is left out.
fn accounts(tables: &dyn Tables, node: &str) -> Vec<AccountConfig> {
    tables
        .node_rows(node, "useraccounts")
        .iter()
        .filter(|row| !column(row, "name").is_empty() && !column(row, "name").starts_with('@'))
        .filter_map(|row| {
            let name = column(row, "name").to_owned();
            let or = |column_name, default: String| {
                let value = column(row, column_name);
                if value.is_empty() { default } else { value.to_owned() }
            };
            let uid = column(row, "uid").parse().ok()?;
            Some(AccountConfig {
                uid,
                gid: column(row, "gid").parse().unwrap_or(uid),
                groups: words(column(row, "groups")).map(str::to_owned).collect(),
                gecos: column(row, "gecos").to_owned(),
                home: or("home", format!("/home/{name}")),
                shell: or("shell", "/bin/sh".to_owned()),
                password: Secret::new(column(row, "password")),
                keys: column(row, "keys")
                    .split(['\n', '|', ';'])
                    .map(str::trim)
                    .filter(|key| !key.is_empty())
                    .map(str::to_owned)
                    .collect(),
                name,
            })
        })
        .collect()
}

fn start_command(tables: &dyn Tables, node: &str) -> Option<StartCommand> {
    let text = |column| tables.attribute(node, "selfconf", column);
    let command = text("startcommand");
    (!command.is_empty()).then(|| StartCommand {
        command,
        user: text("startuser"),
        timeout: text("starttimeout").parse().unwrap_or(0),
    })
}

fn nameservers(tables: &dyn Tables, node: &str, home: Option<&Row>) -> Vec<String> {
    let chosen = first_of([
        tables.attribute(node, "selfconf", "nameservers"),
        tables.attribute(node, "noderes", "nameservers"),
        home.map(|row| column(row, "nameservers").to_owned()).unwrap_or_default(),
        site_value(tables, "nameservers"),
    ]);
    words(&chosen).filter(|server| *server != XCATMASTER).map(str::to_owned).collect()
}
