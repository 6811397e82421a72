//! What netboot asks about the cluster: nodes by MAC, address and cable, networks, switches.
//!
//! Everything is parsed once when the view changes; a row that cannot be read is left out and
//! named in `BootSite::faults`, so that one bad row never stops a rack.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use wire::names::Mac;
use wire::view::{NetworkView, NodeView, SiteView, SwitchView, ViewUpdate};

/// The questions of the boot services; the service node's mirror answers them.
pub trait Boot {
    /// The cluster's part of the view.
    fn site(&self) -> Arc<BootSite>;
    /// The node that has this MAC in its `mac` row.
    fn node_by_mac(&self, mac: Mac) -> Option<Arc<NodeView>>;
    /// The node that owns this address.
    fn node_by_ip(&self, ip: Ipv4Addr) -> Option<Arc<NodeView>>;
    /// Nodes with cables at this switch, with the port as the admin wrote it and its interface.
    fn cables(&self, switch: &str) -> Vec<Cable>;
    /// Nodes with this serial number and, where both sides have one, this model.
    fn nodes_by_serial(&self, serial: &str, mtm: &str) -> Vec<Arc<NodeView>>;
    /// Whether the node's next boot goes into the discovery image whatever its destiny says.
    fn genesis_next(&self, _node: &str) -> bool {
        false
    }
}

/// One end of a cable at a switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cable {
    /// Port as the admin wrote it.
    pub port: String,
    /// `switch.interface` of the row.
    pub interface: String,
    /// The node at the other end.
    pub node: String,
}

/// The parsed site view.
#[derive(Debug, Clone, Default)]
pub struct BootSite {
    /// The cluster's name.
    pub cluster: String,
    /// Default domain.
    pub domain: String,
    /// Default name servers.
    pub nameservers: Vec<Ipv4Addr>,
    /// Lease of a known node in seconds.
    pub lease: u32,
    /// Interfaces that DHCP is answered on.
    pub interfaces: Vec<DhcpInterface>,
    /// Networks.
    pub networks: Vec<Network>,
    /// Switches to ask.
    pub switches: Vec<SwitchView>,
    /// Other settings.
    pub settings: BTreeMap<String, String>,
    /// Rows that could not be read, in words.
    pub faults: Vec<String>,
}

/// An interface of `dhcpinterfaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpInterface {
    /// Kernel name.
    pub name: String,
    /// Addresses are given, boot files not (`eth1:noboot`).
    pub boot: bool,
}

/// A `networks` row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Network address.
    pub net: Ipv4Addr,
    /// Mask.
    pub mask: Ipv4Addr,
    /// Gateway.
    pub gateway: Gateway,
    /// Dynamic ranges, both ends included, in order.
    pub ranges: Vec<(u32, u32)>,
    /// Name servers, empty for the site's.
    pub nameservers: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntpservers: Vec<Ipv4Addr>,
    /// Domain, empty for the site's.
    pub domain: String,
    /// MTU when set.
    pub mtu: Option<u16>,
}

/// A network's way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// None.
    None,
    /// The service node that answers (`<xcatmaster>`).
    ServiceNode,
    /// A router.
    Address(Ipv4Addr),
}

impl Network {
    /// Whether the address belongs to this network.
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & u32::from(self.mask) == u32::from(self.net)
    }

    /// Whether the address is in a dynamic range.
    pub fn dynamic(&self, ip: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(a, b)| (*a..=*b).contains(&u32::from(ip)))
    }

    /// The broadcast address.
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.net) | !u32::from(self.mask))
    }

    fn parse(view: &NetworkView) -> Result<Network, String> {
        let fault =
            |what: &str, text: &str| format!("network '{}': {what} '{text}' cannot be read", view.name);
        let net: Ipv4Addr = view.net.trim().parse().map_err(|_| fault("net", &view.net))?;
        let mask = parse_mask(view.mask.trim()).ok_or_else(|| fault("mask", &view.mask))?;
        if u32::from(net) & !u32::from(mask) != 0 {
            return Err(fault("net and mask", &format!("{net}/{mask}")));
        }
        let gateway = match view.gateway.trim() {
            "" => Gateway::None,
            "<xcatmaster>" => Gateway::ServiceNode,
            text => Gateway::Address(text.parse().map_err(|_| fault("gateway", text))?),
        };
        let mut network = Network {
            name: view.name.clone(),
            net,
            mask,
            gateway,
            ranges: Vec::new(),
            nameservers: addresses(&view.nameservers),
            ntpservers: addresses(&view.ntpservers),
            domain: domain(&view.domain),
            mtu: u16::try_from(view.mtu).ok().filter(|m| *m >= 68),
        };
        for part in view.dynamic_range.split([',', ';']).map(str::trim).filter(|p| !p.is_empty()) {
            let range = parse_range(part).ok_or_else(|| fault("dynamicrange", part))?;
            if !network.contains(range.0.into()) || !network.contains(range.1.into()) {
                return Err(format!("network '{}': dynamicrange '{part}' is outside of it", view.name));
            }
            network.ranges.push(range);
        }
        network.ranges.sort_unstable();
        Ok(network)
    }
}

impl BootSite {
    /// Reads the site view; never fails, faults are listed.
    pub fn parse(view: &SiteView) -> BootSite {
        let mut faults = Vec::new();
        let mut networks = Vec::new();
        for row in &view.networks {
            match Network::parse(row) {
                Ok(network) => networks.push(network),
                // IPv6 rows are legal, DHCP for them is not served here.
                Err(_) if row.net.contains(':') => {}
                Err(fault) => faults.push(fault),
            }
        }
        // The narrowest network first, so that a search finds the one that is meant.
        networks.sort_by_key(|n| (std::cmp::Reverse(u32::from(n.mask)), n.net));
        let interfaces = view.dhcp_interfaces.iter().filter_map(|text| DhcpInterface::parse(text)).collect();
        BootSite {
            cluster: view.cluster.clone(),
            domain: domain(&view.domain),
            nameservers: addresses(&view.nameservers),
            lease: if view.dhcp_lease == 0 { 43_200 } else { view.dhcp_lease },
            interfaces,
            networks,
            switches: view.switches.clone(),
            settings: view.settings.iter().cloned().collect(),
            faults,
        }
    }

    /// The network that the address belongs to.
    pub fn network_of(&self, ip: Ipv4Addr) -> Option<&Network> {
        self.networks.iter().find(|n| n.contains(ip))
    }

    /// The DHCP interface of that name.
    pub fn interface(&self, name: &str) -> Option<&DhcpInterface> {
        self.interfaces.iter().find(|i| i.name == name)
    }

    /// A setting's text.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }
}

impl DhcpInterface {
    fn parse(text: &str) -> Option<DhcpInterface> {
        let text = text.trim();
        let (name, boot) = match text.split_once(':') {
            Some((name, "noboot")) => (name, false),
            _ => (text, true),
        };
        // "!remote!" stands for networks behind relays: they are found by the relay's address.
        (!name.is_empty() && !name.starts_with('!')).then(|| DhcpInterface { name: name.to_owned(), boot })
    }
}

fn parse_mask(text: &str) -> Option<Ipv4Addr> {
    let mask: Ipv4Addr = match text.strip_prefix('/') {
        Some(bits) => {
            let bits: u32 = bits.parse().ok().filter(|b| *b <= 32)?;
            Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0))
        }
        None => text.parse().ok()?,
    };
    let bits = u32::from(mask);
    (bits.leading_ones() + bits.trailing_zeros() == 32 || bits == 0).then_some(mask)
}

/// `10.0.0.1-10.0.0.9`, or a network in slash form.
fn parse_range(text: &str) -> Option<(u32, u32)> {
    if let Some((net, bits)) = text.split_once('/') {
        let net = u32::from(net.parse::<Ipv4Addr>().ok()?);
        let bits: u32 = bits.parse().ok().filter(|b| (1..=30).contains(b))?;
        let hosts = u32::MAX >> bits;
        return (net & hosts == 0).then_some((net + 1, net + hosts - 1));
    }
    let (a, b) = text.split_once('-')?;
    let a = u32::from(a.trim().parse::<Ipv4Addr>().ok()?);
    let b = u32::from(b.trim().parse::<Ipv4Addr>().ok()?);
    (a <= b).then_some((a, b))
}

fn addresses(texts: &[String]) -> Vec<Ipv4Addr> {
    texts.iter().flat_map(|t| t.split([',', ' '])).filter_map(|t| t.trim().parse().ok()).collect()
}

/// A domain goes into packets, so only such characters pass.
fn domain(text: &str) -> String {
    let text = text.trim();
    let fine = text.len() <= 200 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if fine { text.to_owned() } else { String::new() }
}

/// An index over a view: the plain answer to [`Boot`].
#[derive(Debug, Default)]
pub struct World {
    site: Arc<BootSite>,
    nodes: BTreeMap<String, Arc<NodeView>>,
    by_mac: HashMap<Mac, String>,
    by_ip: HashMap<Ipv4Addr, String>,
    by_switch: BTreeMap<String, BTreeSet<(String, String, String)>>,
    by_serial: HashMap<String, BTreeSet<String>>,
}

impl World {
    /// An index over these nodes.
    pub fn new(site: &SiteView, nodes: impl IntoIterator<Item = Arc<NodeView>>) -> World {
        let mut world = World { site: Arc::new(BootSite::parse(site)), ..World::default() };
        for node in nodes {
            world.insert(node);
        }
        world
    }

    /// Brings the index to the state after the update.
    pub fn apply(&mut self, update: &ViewUpdate) {
        if update.full {
            *self = World::default();
        }
        if let Some(site) = &update.site {
            self.site = Arc::new(BootSite::parse(site));
        }
        for name in &update.removed {
            self.remove(name);
        }
        for node in &update.nodes {
            self.insert(Arc::new(node.clone()));
        }
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<Arc<NodeView>> {
        self.nodes.get(name).cloned()
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values()
    }

    fn insert(&mut self, node: Arc<NodeView>) {
        self.remove(&node.name);
        let name = &node.name;
        for entry in &node.macs {
            if let Ok(mac) = Mac::parse(&entry.mac) {
                self.by_mac.insert(mac, name.clone());
            }
        }
        for ip in own_addresses(&node) {
            self.by_ip.insert(ip, name.clone());
        }
        for cable in &node.ports {
            let at = self.by_switch.entry(cable.switch.clone()).or_default();
            at.insert((cable.port.clone(), cable.interface.clone(), name.clone()));
        }
        if !node.serial.is_empty() {
            self.by_serial.entry(node.serial.to_ascii_lowercase()).or_default().insert(name.clone());
        }
        self.nodes.insert(name.clone(), node.clone());
    }

    fn remove(&mut self, name: &str) {
        let Some(node) = self.nodes.remove(name) else { return };
        for entry in &node.macs {
            if let Ok(mac) = Mac::parse(&entry.mac)
                && self.by_mac.get(&mac).is_some_and(|n| n == name)
            {
                self.by_mac.remove(&mac);
            }
        }
        for ip in own_addresses(&node) {
            if self.by_ip.get(&ip).is_some_and(|n| n == name) {
                self.by_ip.remove(&ip);
            }
        }
        for cable in &node.ports {
            if let Some(at) = self.by_switch.get_mut(&cable.switch) {
                at.remove(&(cable.port.clone(), cable.interface.clone(), name.to_owned()));
            }
        }
        if let Some(names) = self.by_serial.get_mut(&node.serial.to_ascii_lowercase()) {
            names.remove(name);
        }
    }
}

impl Boot for World {
    fn site(&self) -> Arc<BootSite> {
        self.site.clone()
    }

    fn node_by_mac(&self, mac: Mac) -> Option<Arc<NodeView>> {
        self.node(self.by_mac.get(&mac)?)
    }

    fn node_by_ip(&self, ip: Ipv4Addr) -> Option<Arc<NodeView>> {
        self.node(self.by_ip.get(&ip)?)
    }

    fn cables(&self, switch: &str) -> Vec<Cable> {
        let rows = self.by_switch.get(switch).into_iter().flatten();
        rows.map(|(port, interface, node)| Cable {
            port: port.clone(),
            interface: interface.clone(),
            node: node.clone(),
        })
        .collect()
    }

    fn nodes_by_serial(&self, serial: &str, mtm: &str) -> Vec<Arc<NodeView>> {
        let names = self.by_serial.get(&serial.to_ascii_lowercase()).into_iter().flatten();
        names
            .filter_map(|n| self.node(n))
            .filter(|n| n.mtm.is_empty() || mtm.is_empty() || n.mtm.eq_ignore_ascii_case(mtm))
            .collect()
    }
}

fn own_addresses(node: &NodeView) -> Vec<Ipv4Addr> {
    let texts = std::iter::once(&node.ip).chain(node.macs.iter().map(|m| &m.ip));
    texts.filter_map(|t| t.parse().ok()).collect()
}

/// Address that a node's adapter gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixed {
    /// This one.
    Address(Ipv4Addr),
    /// The admin wrote `*NOIP*`: it gets nothing.
    Denied,
    /// The tables have none for it.
    Missing,
}

/// What the tables say about the address of one adapter of a node.
pub fn fixed_address(node: &NodeView, mac: Mac) -> Fixed {
    let Some(entry) = node.macs.iter().find(|m| Mac::parse(&m.mac).is_ok_and(|m| m == mac)) else {
        return Fixed::Missing;
    };
    if entry.host == "*NOIP*" {
        return Fixed::Denied;
    }
    let own = entry.host.is_empty() || entry.host == node.name;
    let text = if entry.ip.is_empty() && own { &node.ip } else { &entry.ip };
    text.parse().map_or(Fixed::Missing, Fixed::Address)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use wire::view::{NodeMac, SwitchPort};

    fn network(net: &str, mask: &str, range: &str) -> NetworkView {
        NetworkView {
            name: "n".into(),
            net: net.into(),
            mask: mask.into(),
            dynamic_range: range.into(),
            ..NetworkView::default()
        }
    }

    #[test]
    fn masks_and_ranges_are_read_in_both_writings() {
        let n = Network::parse(&network("10.0.0.0", "/24", "10.0.0.10-10.0.0.20,10.0.0.64/30")).unwrap();
        assert_eq!(n.mask, Ipv4Addr::new(255, 255, 255, 0));
        assert!(n.dynamic(Ipv4Addr::new(10, 0, 0, 20)) && !n.dynamic(Ipv4Addr::new(10, 0, 0, 21)));
        assert!(n.dynamic(Ipv4Addr::new(10, 0, 0, 65)) && !n.dynamic(Ipv4Addr::new(10, 0, 0, 64)));
        assert_eq!(n.broadcast(), Ipv4Addr::new(10, 0, 0, 255));
    }

    #[test]
    fn rows_that_make_no_sense_are_named_and_left_out() {
        let rows = [
            network("10.0.0.0", "255.0.255.0", ""),
            network("10.0.0.1", "255.255.255.0", ""),
            network("10.0.0.0", "255.255.255.0", "10.1.0.1-10.1.0.2"),
            network("10.0.0.0", "255.255.255.0", "10.0.0.9-10.0.0.2"),
            network("fd00::", "/64", ""),
            network("10.2.0.0", "/33", ""),
        ];
        let site = BootSite::parse(&SiteView { networks: rows.to_vec(), ..SiteView::default() });
        assert!(site.networks.is_empty());
        assert_eq!(site.faults.len(), 5, "{:?}", site.faults);
    }

    #[test]
    fn narrowest_network_is_found_first() {
        let rows = vec![network("10.0.0.0", "255.0.0.0", ""), network("10.1.0.0", "/16", "")];
        let site = BootSite::parse(&SiteView { networks: rows, ..SiteView::default() });
        assert_eq!(site.network_of(Ipv4Addr::new(10, 1, 2, 3)).unwrap().net, Ipv4Addr::new(10, 1, 0, 0));
    }

    #[test]
    fn interfaces_may_be_without_boot_and_remote_is_none() {
        let view = SiteView {
            dhcp_interfaces: vec!["eth0".into(), "eth1:noboot".into(), "!remote!".into()],
            ..SiteView::default()
        };
        let site = BootSite::parse(&view);
        assert_eq!(site.interfaces.len(), 2);
        assert!(!site.interface("eth1").unwrap().boot);
    }

    #[test]
    fn index_follows_changed_and_removed_nodes() {
        let mac = |m: &str, host: &str, ip: &str| NodeMac { mac: m.into(), host: host.into(), ip: ip.into() };
        let node = NodeView {
            name: "n1".into(),
            ip: "10.0.0.5".into(),
            serial: "ABC".into(),
            mtm: "X".into(),
            macs: vec![
                mac("02:00:00:00:00:01", "", ""),
                mac("02:00:00:00:00:02", "*NOIP*", ""),
                mac("02:00:00:00:00:03", "n1-eth1", "10.1.0.5"),
                mac("02:00:00:00:00:04", "n1-eth2", ""),
            ],
            ports: vec![SwitchPort { switch: "s1".into(), port: "7".into(), interface: String::new() }],
            ..NodeView::default()
        };
        let mut world = World::default();
        world.apply(&ViewUpdate { nodes: vec![node.clone()], ..ViewUpdate::default() });
        let ask = |n: u8| fixed_address(&node, Mac([2, 0, 0, 0, 0, n]));
        assert_eq!(ask(1), Fixed::Address(Ipv4Addr::new(10, 0, 0, 5)));
        assert_eq!(ask(2), Fixed::Denied);
        assert_eq!(ask(3), Fixed::Address(Ipv4Addr::new(10, 1, 0, 5)));
        assert_eq!(ask(4), Fixed::Missing);
        assert!(world.node_by_ip(Ipv4Addr::new(10, 1, 0, 5)).is_some());
        assert_eq!(world.cables("s1").len(), 1);
        assert_eq!(world.nodes_by_serial("abc", "x").len(), 1);
        assert!(world.nodes_by_serial("abc", "y").is_empty());
        let moved = NodeView { macs: vec![], ports: vec![], ip: String::new(), ..node };
        world.apply(&ViewUpdate { nodes: vec![moved], ..ViewUpdate::default() });
        assert!(world.node_by_mac(Mac([2, 0, 0, 0, 0, 1])).is_none());
        assert!(world.cables("s1").is_empty());
        world.apply(&ViewUpdate { removed: vec!["n1".into()], ..ViewUpdate::default() });
        assert!(world.node("n1").is_none() && world.nodes_by_serial("ABC", "").is_empty());
    }
}
