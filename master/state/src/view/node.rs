//! One node as its service node needs it.

use wire::secret::Secret;
use wire::view::{BmcView, NodeMac, NodeView, SwitchPort};

use super::macs::NO_IP;
use super::{Tables, column, config, parse_macs, words};

/// UDP port of IPMI.
const IPMI_PORT: u16 = 623;

/// The service nodes of a node, preferred first; empty when it belongs to every one.
#[must_use]
pub fn servicenodes_of(tables: &dyn Tables, node: &str) -> Vec<String> {
    words(&tables.attribute(node, "noderes", "servicenode")).map(str::to_owned).collect()
}

/// Whether `node` belongs to service node `rack`.
#[must_use]
pub fn in_scope(tables: &dyn Tables, node: &str, rack: &str) -> bool {
    let list = tables.attribute(node, "noderes", "servicenode");
    let mut names = words(&list).peekable();
    names.peek().is_none() || names.any(|name| name == rack)
}

/// `ipmi.bmc` without a port: a name or an address; empty when there is none.
#[must_use]
pub fn bmc_name(tables: &dyn Tables, node: &str) -> String {
    split_port(&tables.attribute(node, "ipmi", "bmc")).0.to_owned()
}

/// The node's view.
#[must_use]
pub fn node_view(tables: &dyn Tables, node: &str) -> NodeView {
    let text = |table, column| tables.attribute(node, table, column);
    let identity = tables.row("identity", &[node]).unwrap_or_default();
    let key = column(&identity, "fingerprint").to_owned();
    NodeView {
        name: node.to_owned(),
        arch: text("nodetype", "arch"),
        netboot: text("noderes", "netboot"),
        ip: text("hosts", "ip"),
        aliases: words(&text("hosts", "hostnames")).map(str::to_owned).collect(),
        macs: macs(tables, node),
        bmc: bmc(tables, node),
        ports: ports(tables, node),
        serial: text("vpd", "serial"),
        mtm: text("vpd", "mtm"),
        uuid: text("vpd", "uuid"),
        destiny: text("chain", "currstate"),
        boot_generation: boot_generation(&identity),
        claimed: !key.is_empty(),
        key_fingerprint: key,
        status: text("nodelist", "status"),
        kernel_arguments: text("bootparams", "addkcmdline"),
        mgt: text("nodehm", "mgt"),
        config: config::node_config(tables, node),
    }
}

fn boot_generation(identity: &super::Row) -> u64 {
    let number = |name| column(identity, name).parse::<u64>().unwrap_or(0);
    number("bootgeneration").max(number("generation"))
}

fn macs(tables: &dyn Tables, node: &str) -> Vec<NodeMac> {
    parse_macs(node, &tables.attribute(node, "mac", "mac"))
        .into_iter()
        .map(|entry| NodeMac {
            mac: entry.mac.to_string(),
            ip: if entry.host == NO_IP { String::new() } else { host_address(tables, node, &entry.host) },
            host: entry.host,
        })
        .collect()
}

fn ports(tables: &dyn Tables, node: &str) -> Vec<SwitchPort> {
    tables
        .node_rows(node, "switch")
        .iter()
        .filter(|row| !column(row, "switch").is_empty())
        .map(|row| SwitchPort {
            switch: column(row, "switch").to_owned(),
            port: column(row, "port").to_owned(),
            interface: column(row, "interface").to_owned(),
        })
        .collect()
}

fn bmc(tables: &dyn Tables, node: &str) -> Option<BmcView> {
    let text = |column| tables.attribute(node, "ipmi", column);
    let value = text("bmc");
    let (name, port) = split_port(&value);
    if name.is_empty() {
        return None;
    }
    let known = host_address(tables, node, name);
    let (mut user, mut password) = (text("username"), text("password"));
    if user.is_empty() || password.is_empty() {
        let rows = tables.rows("passwd");
        let default = rows
            .iter()
            .filter(|row| column(row, "key") == "ipmi")
            .find(|row| user.is_empty() || column(row, "username") == user);
        if let Some(row) = default {
            if user.is_empty() {
                column(row, "username").clone_into(&mut user);
            }
            if password.is_empty() {
                column(row, "password").clone_into(&mut password);
            }
        }
    }
    Some(BmcView {
        address: if known.is_empty() { name.to_owned() } else { known },
        port,
        user: Secret::new(user),
        password: Secret::new(password),
    })
}

/// `address:port` or `[address]:port`; an IPv6 address without brackets has no port.
fn split_port(value: &str) -> (&str, u16) {
    let (name, port) = match value.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, port)) => (name, port.strip_prefix(':')),
        None => match value.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (value, None),
        },
    };
    (name, port.and_then(|text| text.parse().ok()).unwrap_or(IPMI_PORT))
}

/// The address of a name that belongs to `node`: the node itself, one of its other interfaces, or a node
/// of that name. Empty when the tables do not know it.
fn host_address(tables: &dyn Tables, node: &str, name: &str) -> String {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return name.to_owned();
    }
    if name == node {
        return tables.attribute(node, "hosts", "ip");
    }
    let own = config::addresses(tables, node).into_iter().find(|(host, _)| host == name);
    match own {
        Some((_, ip)) => ip,
        None if tables.is_node(name) => tables.attribute(name, "hosts", "ip"),
        None => String::new(),
    }
}
