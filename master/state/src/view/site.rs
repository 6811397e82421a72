//! What all nodes of a service node share.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use wire::secret::Secret;
use wire::view::{NetworkView, SiteView, SwitchView};

use super::{Row, Tables, column, in_scope, words};

/// `site` keys that service nodes understand by themselves; others stay with the masters.
const SETTINGS: &[&str] = &[
    "dhcplease",
    "enrol",
    "httpport",
    "ipmimaxp",
    "ipmiretries",
    "ipmitimeout",
    "master",
    "nodestatus",
    "nodesyncfiledir",
    "snmpc",
    "snmpretries",
    "snmptimeout",
    "tftpdir",
    "timezone",
    "xcatdport",
    "xcatiport",
];

/// Default of `site.dhcplease`, seconds.
const DHCP_LEASE: u32 = 43_200;

/// The value of a `site` key; empty when unset.
#[must_use]
pub fn site_value(tables: &dyn Tables, key: &str) -> String {
    tables.row("site", &[key]).map(|row| column(&row, "value").to_owned()).unwrap_or_default()
}

/// The cluster's part of the mirror of service node `rack`.
#[must_use]
pub fn site_view(tables: &dyn Tables, cluster: &str, rack: &str) -> SiteView {
    let settings = SETTINGS
        .iter()
        .map(|key| ((*key).to_owned(), site_value(tables, key)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    SiteView {
        cluster: cluster.to_owned(),
        domain: site_value(tables, "domain"),
        nameservers: words(&site_value(tables, "nameservers")).map(str::to_owned).collect(),
        dhcp_interfaces: dhcp_interfaces(tables, rack),
        dhcp_lease: site_value(tables, "dhcplease").parse().unwrap_or(DHCP_LEASE),
        networks: tables.rows("networks").iter().map(network_view).collect(),
        switches: switches(tables, rack),
        settings,
    }
}

fn network_view(row: &Row) -> NetworkView {
    let text = |name| column(row, name).to_owned();
    let list = |name| words(column(row, name)).map(str::to_owned).collect();
    NetworkView {
        name: text("netname"),
        net: text("net"),
        mask: text("mask"),
        interface: text("mgtifname"),
        gateway: text("gateway"),
        dynamic_range: text("dynamicrange"),
        tftpserver: text("tftpserver"),
        nameservers: list("nameservers"),
        ntpservers: list("ntpservers"),
        domain: text("domain"),
        mtu: column(row, "mtu").parse().unwrap_or(0),
    }
}

/// `servicenode.dhcpinterfaces` of this one, else its part of `site.dhcpinterfaces`:
/// `eth1,eth2` for everybody, or `host-or-group|eth1,eth2;other|bond0`.
fn dhcp_interfaces(tables: &dyn Tables, rack: &str) -> Vec<String> {
    let own = tables.attribute(rack, "servicenode", "dhcpinterfaces");
    let value = if own.is_empty() { site_value(tables, "dhcpinterfaces") } else { own };
    let groups = tables.groups_of(rack);
    let mut found = Vec::new();
    for part in value.split(';').filter(|part| !part.trim().is_empty()) {
        let interfaces = match part.split_once('|') {
            Some((who, list)) if who.trim() == rack || groups.iter().any(|group| group == who.trim()) => list,
            Some(_) => continue,
            None => part,
        };
        found.extend(words(interfaces).map(str::to_owned));
    }
    found
}

/// The switches that the cables of this service node's nodes go to.
fn switches(tables: &dyn Tables, rack: &str) -> Vec<SwitchView> {
    let mut names = BTreeSet::new();
    for row in tables.rows("switch") {
        let owner = column(&row, "node");
        let value = column(&row, "switch");
        let pattern = value.starts_with(['|', '/']);
        if value.is_empty() || (!pattern && names.contains(value)) {
            continue;
        }
        let owners = if tables.is_node(owner) { vec![owner.to_owned()] } else { tables.members(owner) };
        for node in owners.iter().filter(|node| in_scope(tables, node, rack)) {
            if !pattern {
                names.insert(value.to_owned());
                break;
            }
            names.extend(tables.node_rows(node, "switch").iter().map(|row| column(row, "switch").to_owned()));
        }
    }
    names.into_iter().filter(|name| !name.is_empty()).map(|name| switch_view(tables, name)).collect()
}

fn switch_view(tables: &dyn Tables, name: String) -> SwitchView {
    let text = |column| tables.attribute(&name, "switches", column);
    let address = tables.attribute(&name, "hosts", "ip");
    let version = match text("snmpversion").trim_start_matches('v') {
        "" | "1" => "1",
        "3" => "3",
        _ => "2c",
    };
    let password = [text("password"), site_value(tables, "snmpc")].into_iter().find(|text| !text.is_empty());
    let password =
        password.unwrap_or_else(|| if version == "3" { String::new() } else { "public".to_owned() });
    SwitchView {
        address: if address.is_empty() { name.clone() } else { address },
        snmp_version: version.to_owned(),
        user: text("username"),
        password: Secret::new(password),
        privacy: text("privacy").to_lowercase(),
        auth: text("auth").to_lowercase(),
        name,
    }
}

/// The `networks` row that an address lies in; the most specific one.
#[must_use]
pub fn network_of<'a>(networks: &'a [Row], address: &str) -> Option<&'a Row> {
    let address: IpAddr = address.parse().ok()?;
    networks
        .iter()
        .filter_map(|row| Some((prefix_length(column(row, "mask"))?, row)))
        .filter(|(bits, row)| {
            column(row, "net").parse().is_ok_and(|net: IpAddr| masked(net, *bits) == masked(address, *bits))
        })
        .max_by_key(|(bits, _)| *bits)
        .map(|(_, row)| row)
}

/// `255.255.255.0`, `24` or `/24` as a prefix length.
#[must_use]
pub fn prefix_length(mask: &str) -> Option<u8> {
    let mask = mask.trim_start_matches('/');
    if let Ok(bits) = mask.parse::<u8>() {
        return (bits <= 128).then_some(bits);
    }
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() + bits.trailing_zeros() >= 32).then(|| bits.count_ones().try_into().unwrap_or(0))
}

/// The family and the first `bits` of an address.
fn masked(address: IpAddr, bits: u8) -> (bool, u128) {
    let keep = |width: u8, value: u128| {
        let cut = u32::from(width.saturating_sub(bits));
        value.checked_shr(cut).unwrap_or(0)
    };
    match address {
        IpAddr::V4(four) => (true, keep(32, u32::from(four).into())),
        IpAddr::V6(six) => (false, keep(128, six.into())),
    }
}
