//! All methods of recognition in their order, each with its yes or its reason for no.

use wire::hardware::Hardware;
use wire::names::Mac;
use wire::rack::Evidence;

use crate::world::Boot;

/// What a machine said about itself, as far as it helps to recognize it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// MACs, the boot adapter's first.
    pub macs: Vec<Mac>,
    /// Serial number.
    pub serial: String,
    /// Model.
    pub mtm: String,
}

/// Answer of the switches, see `switch::match_ports`.
pub type PortOf = Evidence;

/// More MACs than any machine has are not looked up.
const MAX_MACS: usize = 64;

impl Machine {
    /// Takes what is needed from an agent's report.
    pub fn of(hardware: &Hardware) -> Machine {
        let texts = std::iter::once(&hardware.boot_mac).chain(hardware.adapters.iter().map(|a| &a.mac));
        let mut macs: Vec<Mac> = Vec::new();
        for mac in texts.filter_map(|t| Mac::parse(t).ok()) {
            if macs.len() < MAX_MACS && !macs.contains(&mac) && mac.0 != [0; 6] {
                macs.push(mac);
            }
        }
        Machine { macs, serial: hardware.serial.trim().to_owned(), mtm: hardware.mtm.trim().to_owned() }
    }
}

/// The machine's node, by the first method that names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This node, by this method.
    Node {
        /// The node.
        node: String,
        /// `switch`, `mtms`.
        method: String,
    },
    /// Nobody; the evidence says why.
    Nobody,
}

/// Evidence in the order of trust: cable, serial number, MAC. The last is a hint for the admin
/// only, for a MAC is easily copied.
pub fn evidence(machine: &Machine, boot: &dyn Boot, port: PortOf) -> Vec<Evidence> {
    vec![port, by_serial(machine, boot), by_mac(machine, boot)]
}

/// Decides by the evidence.
pub fn find(evidence: &[Evidence]) -> Found {
    let hit = evidence.iter().find(|e| !e.node.is_empty() && e.method != "mac");
    hit.map_or(Found::Nobody, |e| Found::Node { node: e.node.clone(), method: e.method.clone() })
}

fn by_serial(machine: &Machine, boot: &dyn Boot) -> Evidence {
    let answer = |node: &str, reason: String| Evidence { method: "mtms".into(), node: node.into(), reason };
    if machine.serial.is_empty() {
        return answer("", "the machine tells no serial number".into());
    }
    let id = format!("{}*{}", machine.mtm, machine.serial);
    let nodes = boot.nodes_by_serial(&machine.serial, &machine.mtm);
    match nodes.as_slice() {
        [] => answer("", format!("no node has model and serial {id}")),
        [node] => answer(&node.name, format!("model and serial {id}")),
        many => {
            let names: Vec<&str> = many.iter().map(|n| n.name.as_str()).collect();
            answer("", format!("several nodes ({}) have model and serial {id}", names.join(",")))
        }
    }
}

fn by_mac(machine: &Machine, boot: &dyn Boot) -> Evidence {
    let answer = |node: &str, reason: String| Evidence { method: "mac".into(), node: node.into(), reason };
    for mac in &machine.macs {
        if let Some(node) = boot.node_by_mac(*mac) {
            return answer(&node.name, format!("{mac} is in the mac table"));
        }
    }
    answer("", "none of its MACs is in the mac table".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;
    use wire::hardware::Adapter;
    use wire::view::{NodeMac, NodeView, ViewUpdate};

    fn world() -> World {
        let node = |name: &str, mtm: &str, serial: &str, mac: &str| NodeView {
            name: name.into(),
            mtm: mtm.into(),
            serial: serial.into(),
            macs: vec![NodeMac { mac: mac.into(), ..NodeMac::default() }],
            ..NodeView::default()
        };
        let nodes = vec![
            node("n1", "PE860", "A1", "02:00:00:00:00:01"),
            node("n2", "PE860", "TWICE", ""),
            node("n3", "PE860", "TWICE", ""),
        ];
        let mut world = World::default();
        world.apply(&ViewUpdate { nodes, ..ViewUpdate::default() });
        world
    }

    fn no_port() -> Evidence {
        Evidence { method: "switch".into(), node: String::new(), reason: "silent".into() }
    }

    fn machine(mtm: &str, serial: &str) -> Machine {
        Machine { mtm: mtm.into(), serial: serial.into(), macs: vec![Mac([2, 0, 0, 0, 0, 1])] }
    }

    #[test]
    fn cable_goes_before_serial() {
        let port = Evidence { node: "n9".into(), ..no_port() };
        let all = evidence(&machine("PE860", "A1"), &world(), port);
        assert_eq!(find(&all), Found::Node { node: "n9".into(), method: "switch".into() });
        let all = evidence(&machine("PE860", "A1"), &world(), no_port());
        assert_eq!(find(&all), Found::Node { node: "n1".into(), method: "mtms".into() });
    }

    #[test]
    fn a_known_mac_alone_makes_no_node() {
        let all = evidence(&machine("PE860", "unknown"), &world(), no_port());
        assert_eq!(find(&all), Found::Nobody);
        assert_eq!(all[2].node, "n1", "but the admin is told");
    }

    #[test]
    fn two_nodes_with_one_serial_are_no_match_and_each_method_has_a_reason() {
        let all = evidence(&machine("PE860", "TWICE"), &world(), no_port());
        assert_eq!(find(&all), Found::Nobody);
        assert!(all[1].reason.contains("n2,n3"), "{}", all[1].reason);
        assert!(all.iter().all(|e| !e.reason.is_empty()));
        let all = evidence(&machine("", ""), &world(), no_port());
        assert!(all[1].reason.contains("no serial"));
    }

    #[test]
    fn boot_adapter_comes_first_and_doubles_once() {
        let adapter = |mac: &str| Adapter { mac: mac.into(), ..Adapter::default() };
        let hardware = Hardware {
            boot_mac: "02:00:00:00:00:02".into(),
            adapters: vec![
                adapter("02:00:00:00:00:01"),
                adapter("02:00:00:00:00:02"),
                adapter(""),
                adapter("00:00:00:00:00:00"),
            ],
            ..Hardware::default()
        };
        assert_eq!(Machine::of(&hardware).macs, [Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1])]);
    }
}
