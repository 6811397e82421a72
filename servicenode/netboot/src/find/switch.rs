//! A switch's forwarding table as it was told by SNMP, and which configured port is meant by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wire::names::Mac;
use wire::rack::Evidence;

use crate::world::Cable;

/// ifName.
pub const IF_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
/// ifDescr.
pub const IF_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2];
/// dot1dBasePortIfIndex: bridge port to interface.
pub const BASE_PORT: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 1, 4, 1, 2];
/// dot1dTpFdbPort: MAC to bridge port.
pub const BRIDGE_FDB: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 4, 3, 1, 2];
/// dot1qTpFdbPort: VLAN and MAC to bridge port.
pub const Q_BRIDGE_FDB: &[u32] = &[1, 3, 6, 1, 2, 1, 17, 7, 1, 2, 2, 1, 2];

/// Rows of one walk: the part of the OID behind the column, and the value.
pub type Rows<T> = Vec<(Vec<u32>, T)>;

/// Which ports a MAC was learned on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchMap {
    by_mac: HashMap<Mac, BTreeSet<String>>,
    /// All port names, for the search of a configured port.
    ports: BTreeSet<String>,
}

impl SwitchMap {
    /// Puts the tables together. Names are ifName where it has any, else ifDescr.
    pub fn new(
        if_name: &Rows<String>,
        if_descr: &Rows<String>,
        base_port: &Rows<u32>,
        q_bridge: &Rows<u32>,
        bridge: &Rows<u32>,
    ) -> SwitchMap {
        let mut names: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for (index, name) in if_name.iter().chain(if_descr) {
            if let [index] = index[..]
                && !name.trim().is_empty()
            {
                names.entry(index).or_default().insert(name.trim().to_owned());
            }
        }
        let interfaces: BTreeMap<u32, u32> =
            base_port.iter().filter_map(|(i, ifindex)| Some((*i.first()?, *ifindex))).collect();
        let mut map =
            SwitchMap { ports: names.values().flatten().cloned().collect(), ..SwitchMap::default() };
        for (index, port) in q_bridge.iter().chain(bridge) {
            // Port 0: learned, but the switch does not say where.
            let Some(mac) = mac_of(index).filter(|_| *port != 0) else { continue };
            // Some switches tell the interface itself and have no port table.
            let ifindex = interfaces.get(port).copied().unwrap_or(*port);
            let at = map.by_mac.entry(mac).or_default();
            match names.get(&ifindex) {
                Some(names) => at.extend(names.iter().cloned()),
                None => {
                    at.insert(ifindex.to_string());
                }
            }
        }
        map
    }

    /// Names of the ports where the MAC was learned.
    pub fn ports_of(&self, mac: Mac) -> impl Iterator<Item = &str> {
        self.by_mac.get(&mac).into_iter().flatten().map(String::as_str)
    }

    /// MACs in the table.
    pub fn len(&self) -> usize {
        self.by_mac.len()
    }

    /// Whether the switch has learned nothing.
    pub fn is_empty(&self) -> bool {
        self.by_mac.is_empty()
    }

    /// Whether the configured port is this port of the switch. A port that bears the very name
    /// goes before those that only end in it.
    fn means(&self, configured: &str, name: &str) -> bool {
        if configured == name {
            return true;
        }
        !self.ports.contains(configured) && port_matches(configured, name)
    }
}

/// The MAC at the end of an index: six numbers, in Q-BRIDGE behind the VLAN's.
fn mac_of(index: &[u32]) -> Option<Mac> {
    let tail = index.get(index.len().checked_sub(6)?..)?;
    let mut mac = [0; 6];
    for (byte, arc) in mac.iter_mut().zip(tail) {
        *byte = u8::try_from(*arc).ok()?;
    }
    Some(Mac(mac))
}

/// xCAT's rule: equal, or the switch's name ends in the configured text behind a character that is
/// no digit; names of things that are no ports never match that way.
pub fn port_matches(configured: &str, name: &str) -> bool {
    if configured.is_empty() {
        return false;
    }
    if configured == name {
        return true;
    }
    if let Some((unit, port)) = unit_and_port(name) {
        return configured == format!("{unit}/{port}") || (unit == 1 && configured == port.to_string());
    }
    let lower = name.to_ascii_lowercase();
    let no_port = ["vlan", "console", "stack", "trunk", "port-channel", "lag", "cpu", "management", "trk"];
    if name.contains("Nu") || no_port.iter().any(|word| lower.contains(word)) {
        return false;
    }
    [name, name.strip_suffix(".0").unwrap_or(name)].iter().any(|name| {
        name.strip_suffix(configured)
            .and_then(|head| head.chars().last())
            .is_some_and(|last| !last.is_ascii_digit())
    })
}

/// `RMON Port 07 on unit 2` or `Unit: 2 Slot: 0 Port: 7` and the like.
fn unit_and_port(name: &str) -> Option<(u32, u32)> {
    let lower = name.to_ascii_lowercase();
    let number_behind = |word: &str| -> Option<u32> {
        let (_, rest) = lower.split_once(word)?;
        let rest = rest.trim_start_matches([' ', ':']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    if !lower.starts_with("rmon port") && !lower.starts_with("unit") {
        return None;
    }
    Some((number_behind("unit")?, number_behind("port")?))
}

/// What a switch said, or why it said nothing.
pub type Told<'a> = (&'a str, Result<&'a SwitchMap, &'a str>, &'a [Cable]);

/// Looks the machine's MACs up, the boot adapter's first, and says which node's cable it is.
pub fn match_ports(macs: &[Mac], told: &[Told<'_>]) -> Evidence {
    let answer = |node: &str, reason: String| Evidence { method: "switch".into(), node: node.into(), reason };
    if told.is_empty() {
        return answer("", "no node has a switch port in the switch table".into());
    }
    let mut seen = Vec::new();
    for mac in macs {
        let mut nodes: BTreeMap<&str, String> = BTreeMap::new();
        for (switch, map, cables) in told {
            let Ok(map) = map else { continue };
            let ports: Vec<&str> = map.ports_of(*mac).collect();
            if ports.is_empty() {
                continue;
            }
            seen.push(format!("{mac} at {switch} port {}", ports.join(" or ")));
            for cable in *cables {
                if let Some(port) = ports.iter().find(|p| map.means(&cable.port, p)) {
                    nodes.insert(&cable.node, format!("{switch} port {port}"));
                }
            }
        }
        let mut found = nodes.iter();
        match (found.next(), found.next()) {
            (Some((node, port)), None) => return answer(node, format!("{mac} is at {port}")),
            (Some(_), Some(_)) => {
                let names: Vec<&str> = nodes.keys().copied().collect();
                let ports: Vec<&str> = nodes.values().map(String::as_str).collect();
                let reason = format!(
                    "{mac} is at {}: several nodes ({}) claim it",
                    ports.join(" and "),
                    names.join(",")
                );
                return answer("", reason);
            }
            (None, _) => {}
        }
    }
    let mut reasons: Vec<String> =
        told.iter().filter_map(|(_, map, _)| map.err().map(str::to_owned)).collect();
    if seen.is_empty() {
        let answered: Vec<&str> = told.iter().filter(|t| t.1.is_ok()).map(|t| t.0).collect();
        if !answered.is_empty() {
            reasons.push(format!("{} does not know the machine's MACs", answered.join(",")));
        }
    } else {
        reasons.push(format!("{}: no node is defined there", seen.join(", ")));
    }
    answer("", reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 0xbb]);

    fn fdb(mac: Mac) -> Vec<u32> {
        mac.0.iter().map(|b| u32::from(*b)).collect()
    }

    fn map() -> SwitchMap {
        let name = |i: u32, n: &str| (vec![i], n.to_owned());
        SwitchMap::new(
            &vec![name(11, "swp1"), name(12, "swp12"), name(13, "uplink")],
            &vec![],
            &vec![(vec![1], 11), (vec![2], 12), (vec![3], 13)],
            &vec![([vec![1], fdb(M)].concat(), 1)],
            &vec![
                (fdb(OTHER), 2),
                (fdb(Mac([2, 0, 0, 0, 0, 1])), 0),
                (vec![1, 2], 1),
                (vec![2, 0, 0, 0, 0, 999], 1),
            ],
        )
    }

    fn cable(port: &str, node: &str) -> Cable {
        Cable { port: port.into(), interface: String::new(), node: node.into() }
    }

    #[test]
    fn port_names_match_by_xcat_rules() {
        for (configured, name, want) in [
            ("swp1", "swp1", true),
            ("1", "swp1", true),
            ("1", "swp11", false),
            ("1/0/7", "GigabitEthernet1/0/7", true),
            ("7", "GigabitEthernet1/0/7", true),
            ("7", "GigabitEthernet1/0/17", false),
            ("0/7", "ge-0/0/7.0", true),
            ("7", "Vlan7", false),
            ("7", "port-channel7", false),
            ("7", "Nu0/7", false),
            ("7", "CPU Interface 7", false),
            ("7", "Stack unit 7", false),
            ("1", "Trk1", false),
            ("Vlan7", "Vlan7", true),
            ("7", "RMON Port 07 on unit 1", true),
            ("2/7", "RMON Port 07 on unit 2", true),
            ("7", "RMON Port 07 on unit 2", false),
            ("2/7", "Unit 2 Port 7", true),
            ("", "swp1", false),
        ] {
            assert_eq!(port_matches(configured, name), want, "{configured} {name}");
        }
    }

    #[test]
    fn machine_is_found_by_its_cable() {
        let map = map();
        let cables = [cable("1", "n1"), cable("12", "n2")];
        let told: [Told<'_>; 1] = [("s1", Ok(&map), &cables)];
        assert_eq!(match_ports(&[M], &told).node, "n1");
        assert_eq!(match_ports(&[OTHER], &told).node, "n2");
        let e = match_ports(&[Mac([2, 9, 9, 9, 9, 9]), OTHER], &told);
        assert_eq!((e.node.as_str(), e.reason.as_str()), ("n2", "02:00:00:00:00:bb is at s1 port swp12"));
    }

    #[test]
    fn exact_name_goes_before_a_mere_end() {
        let name = |i: u32, n: &str| (vec![i], n.to_owned());
        let map = SwitchMap::new(
            &vec![name(1, "1"), name(2, "ge-0/1")],
            &vec![],
            &vec![],
            &vec![],
            &vec![(fdb(M), 2), (fdb(OTHER), 1)],
        );
        let cables = [cable("1", "n1")];
        let told: [Told<'_>; 1] = [("s1", Ok(&map), &cables)];
        assert_eq!(match_ports(&[OTHER], &told).node, "n1");
        assert_eq!(match_ports(&[M], &told).node, "");
    }

    #[test]
    fn two_nodes_at_one_port_are_no_match_and_both_are_named() {
        let map = map();
        let cables = [cable("1", "n1"), cable("swp1", "n9")];
        let e = match_ports(&[M], &[("s1", Ok(&map), &cables)]);
        assert_eq!(e.node, "");
        assert!(e.reason.contains("n1") && e.reason.contains("n9"), "{}", e.reason);
    }

    #[test]
    fn reasons_name_the_silent_switch_and_the_undefined_port() {
        let map = map();
        let cables = [cable("3", "n3")];
        let e = match_ports(
            &[M],
            &[("s1", Ok(&map), &cables), ("s2", Err("s2 (10.0.0.2) did not answer"), &cables)],
        );
        assert_eq!(
            e.reason,
            "s2 (10.0.0.2) did not answer; 02:00:00:00:00:aa at s1 port swp1: no node is defined there"
        );
        let e = match_ports(&[Mac([2, 7, 7, 7, 7, 7])], &[("s1", Ok(&map), &cables)]);
        assert_eq!(e.reason, "s1 does not know the machine's MACs");
        assert!(match_ports(&[M], &[]).reason.contains("switch table"));
    }
}
