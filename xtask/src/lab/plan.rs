//! What the lab is made of: drawn from a seed, kept as a file, read by every part of the lab.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How large a lab is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wish {
    /// Masters: 1 or 3.
    pub masters: u8,
    /// Racks.
    pub racks: u8,
    /// Soft nodes in each rack.
    pub nodes: u16,
    /// Virtual machines in each rack.
    pub vms: u16,
    /// Machines in each rack that no node is defined for.
    pub strangers: u16,
    /// Everything random comes from it.
    pub seed: u64,
    /// Whether the machines are powered on.
    pub power: bool,
    /// Seconds to wait for the machines.
    pub patience: u64,
}

/// A drawn lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// What it was drawn from.
    pub wish: Wish,
    /// The racks, from 1.
    pub racks: Vec<Rack>,
}

/// One rack with its own service node, switch and management network.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rack {
    /// From 1.
    pub number: u8,
    /// Machines in the order of their places.
    pub machines: Vec<Machine>,
}

/// What a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Our PXE client and the real agent in a network namespace.
    Soft,
    /// QEMU with SeaBIOS and iPXE.
    Bios,
    /// QEMU with OVMF.
    Uefi,
}

/// One machine in its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The name that belongs to its place; the node's name when it is cabled as defined.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether a node is defined for its place.
    pub defined: bool,
    /// Address of the adapter it boots from.
    pub mac: String,
    /// Serial number.
    pub serial: String,
    /// Machine type and model.
    pub model: String,
    /// DMI UUID.
    pub uuid: String,
    /// The switch port that the tables give to its place.
    pub port: String,
    /// The switch port that its cable hangs on; differs from `port` after a swap.
    pub cabled: String,
    /// Fixed address of the node.
    pub ip: String,
    /// Address of its BMC.
    pub bmc: String,
    /// Password of the BMC's administrator.
    pub password: String,
}

impl Plan {
    /// Draws a lab; equal wishes give equal labs.
    pub fn draw(wish: &Wish) -> Self {
        let mut chance = Chance(wish.seed);
        let racks = (1..=wish.racks).map(|number| Rack::draw(number, wish, &mut chance)).collect();
        Self { wish: wish.clone(), racks }
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.racks.iter().flat_map(|rack| &rack.machines)
    }

    /// The machine in the place of this name, with its rack.
    pub fn machine(&self, name: &str) -> Result<(&Rack, &Machine)> {
        self.racks
            .iter()
            .find_map(|rack| Some((rack, rack.machines.iter().find(|machine| machine.name == name)?)))
            .with_context(|| format!("no machine {name} in this lab"))
    }

    /// The machine that hangs on the port which belongs to the node `name`: what discovery must find.
    pub fn at_port_of(&self, name: &str) -> Result<&Machine> {
        let (rack, place) = self.machine(name)?;
        rack.machines
            .iter()
            .find(|machine| machine.cabled == place.port)
            .with_context(|| format!("nothing hangs on the port of {name}"))
    }

    /// Exchanges two cables of one rack.
    pub fn swap(&mut self, one: &str, other: &str) -> Result<()> {
        for rack in &mut self.racks {
            let find = |name: &str| rack.machines.iter().position(|machine| machine.name == name);
            if let (Some(first), Some(second)) = (find(one), find(other)) {
                let cable = rack.machines[first].cabled.clone();
                rack.machines[first].cabled = rack.machines[second].cabled.clone();
                rack.machines[second].cabled = cable;
                return Ok(());
            }
        }
        bail!("{one} and {other} are not machines of one rack")
    }
}

impl Rack {
    fn draw(number: u8, wish: &Wish, chance: &mut Chance) -> Self {
        let count = wish.nodes + wish.vms + wish.strangers;
        let mut ports: Vec<u16> = (1..=count).collect();
        chance.shuffle(&mut ports);
        let machines = (1..=count)
            .zip(ports)
            .map(|(place, port)| {
                let kind = match place {
                    place if place > wish.nodes && place <= wish.nodes + wish.vms => {
                        // BIOS first in odd racks, UEFI first in even ones: one each with one per rack.
                        let turn = (place - wish.nodes - 1) + u16::from(number - 1);
                        if turn.is_multiple_of(2) { Kind::Bios } else { Kind::Uefi }
                    }
                    _ => Kind::Soft,
                };
                Machine::draw(number, place, port, kind, place <= wish.nodes + wish.vms, chance)
            })
            .collect();
        Self { number, machines }
    }

    /// Name of the rack.
    pub fn name(&self) -> String {
        format!("r{}", self.number)
    }

    /// Name of its service node (host and namespace).
    pub fn service_node(&self) -> String {
        format!("r{}sn", self.number)
    }

    /// Name of its switch (host and namespace).
    pub fn switch(&self) -> String {
        format!("r{}sw", self.number)
    }

    /// Namespace that holds the management network and the simulated BMCs.
    pub fn management(&self) -> String {
        format!("r{}mg", self.number)
    }

    /// An address in the rack's network.
    pub fn address(&self, third: u16, fourth: u16) -> String {
        format!("10.{}.{third}.{fourth}", self.number)
    }

    /// An address in its management network.
    pub fn management_address(&self, third: u16, fourth: u16) -> String {
        format!("10.{}.{third}.{fourth}", 100 + u16::from(self.number))
    }
}

impl Machine {
    fn draw(rack: u8, place: u16, port: u16, kind: Kind, defined: bool, chance: &mut Chance) -> Self {
        const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let mac = chance.next();
        let mac: Vec<String> = (0..5).map(|byte| format!("{:02x}", mac >> (8 * byte) & 0xff)).collect();
        let mut word = |length: usize| -> String {
            (0..length).map(|_| char::from(LETTERS[chance.below(LETTERS.len() as u64)])).collect()
        };
        let (serial, password) = (word(8), word(12));
        let model = if kind == Kind::Soft { "SOFT-1U" } else { "QEMU-VM" };
        let (high, low) = (chance.next(), chance.next());
        Self {
            name: format!("r{rack}n{place:02}"),
            kind,
            defined,
            // Locally administered, so that no real card has it.
            mac: format!("52:{}", mac.join(":")),
            serial,
            model: model.into(),
            uuid: format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                high >> 32,
                high >> 16 & 0xffff,
                high & 0xfff,
                low >> 48 & 0xfff,
                low & 0xffff_ffff_ffff
            ),
            port: format!("swp{port}"),
            cabled: format!("swp{port}"),
            ip: format!("10.{rack}.{}.{}", 1 + (place - 1) / 250, 1 + (place - 1) % 250),
            bmc: format!("10.{}.{}.{}", 100 + u16::from(rack), 1 + (place - 1) / 250, 1 + (place - 1) % 250),
            password,
        }
    }
}

/// A seed that nobody chose.
pub fn fresh_seed() -> Result<u64> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("asking for chance")?;
    // Short enough to be typed again.
    u64::from_str_radix(&id[..6], 16).context("reading chance")
}

/// splitmix64: small, and the same everywhere and for ever.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u64 + 1);
            items.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::*;

    fn wish(seed: u64) -> Wish {
        Wish { masters: 1, racks: 2, nodes: 8, vms: 1, strangers: 1, seed, power: true, patience: 1 }
    }

    #[test]
    fn equal_seeds_draw_equal_labs_and_others_differ() {
        let text = |seed| serde_json::to_string(&Plan::draw(&wish(seed))).unwrap();
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn nothing_is_drawn_twice() {
        let plan = Plan::draw(&wish(3));
        let count = plan.machines().count();
        assert_eq!(count, 20);
        let drawn: [fn(&Machine) -> &str; 4] = [|m| &m.mac, |m| &m.serial, |m| &m.uuid, |m| &m.bmc];
        for of in drawn {
            assert_eq!(plan.machines().map(of).collect::<BTreeSet<_>>().len(), count);
        }
        assert_eq!(plan.machines().filter(|machine| machine.kind == Kind::Bios).count(), 1);
        assert_eq!(plan.machines().filter(|machine| machine.kind == Kind::Uefi).count(), 1);
    }

    #[test]
    fn swapped_cables_swap_what_is_found() {
        let mut plan = Plan::draw(&wish(3));
        let before = plan.at_port_of("r1n01").unwrap().serial.clone();
        plan.swap("r1n01", "r1n02").unwrap();
        assert_eq!(plan.at_port_of("r1n02").unwrap().serial, before);
        assert!(plan.swap("r1n01", "r2n01").is_err());
    }
}
