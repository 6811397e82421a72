//! The lab's cables: namespaces, bridges, veth pairs, addresses.
//!
//! ```text
//!            core (router, admin's seat) --- 10.0.0.0/24 --- m1 m2 m3
//!             |                 |
//!     10.R.0.0/16        10.(100+R).0.0/16 (management)
//!      rRsw (switch)            rRmg (BMCs)
//!       | | |   \                |    |
//!   machines   rRsn -------------+   rRnNN (a VM's BMC)
//! ```

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::plan::{Kind, Machine, Plan, Rack};

/// The namespace that routes between everything and where the admin sits.
pub const CORE: &str = "core";

/// The name of a master's namespace.
pub fn master(number: u8) -> String {
    format!("m{number}")
}

/// The address of a master.
pub fn master_address(number: u8) -> String {
    format!("10.0.0.{}", 10 + u16::from(number))
}

/// Makes everything.
pub fn build(place: &Place, plan: &Plan) -> Result<()> {
    let mut names = vec![CORE.to_owned()];
    names.extend((1..=plan.wish.masters).map(master));
    for rack in &plan.racks {
        names.extend([rack.switch(), rack.service_node(), rack.management()]);
        names.extend(rack.machines.iter().map(|machine| machine.name.clone()));
    }
    let made: String = names.iter().map(|name| format!("netns add {name}\n")).collect();
    batch(None, &made)?;
    let (mut cables, mut core) = (String::new(), Links::new("br0", "10.0.0.1/24"));
    for number in 1..=plan.wish.masters {
        let name = master(number);
        cable(&mut cables, &name, "eth0", None, CORE, &name);
        core.port(&name);
    }
    for rack in &plan.racks {
        rack_cables(&mut cables, rack);
        core.address(&rack.name(), &format!("{}/16", rack.address(0, 1)));
        core.address(&format!("{}m", rack.name()), &format!("{}/16", rack.management_address(0, 1)));
    }
    batch(None, &cables)?;
    batch(Some(CORE), &core.text)?;
    place.run_at(CORE, &["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])?;
    for number in 1..=plan.wish.masters {
        host(&master(number), "eth0", &format!("{}/24", master_address(number)), "10.0.0.1")?;
    }
    plan.racks.iter().try_for_each(build_rack)
}

fn rack_cables(cables: &mut String, rack: &Rack) {
    let (switch, node, management) = (rack.switch(), rack.service_node(), rack.management());
    cable(cables, CORE, &rack.name(), None, &switch, "uplink");
    cable(cables, &node, "eth0", None, &switch, "sn");
    cable(cables, CORE, &format!("{}m", rack.name()), None, &management, "core");
    cable(cables, &node, "eth1", None, &management, "sn");
    for machine in &rack.machines {
        match machine.kind {
            Kind::Soft => cable(cables, &machine.name, "eth0", Some(&machine.mac), &switch, &machine.cabled),
            Kind::Bios | Kind::Uefi => {
                cable(cables, &machine.name, "wire", None, &switch, &machine.cabled);
                cable(cables, &machine.name, "bmc", None, &management, &machine.name);
            }
        }
    }
}

fn build_rack(rack: &Rack) -> Result<()> {
    let mut switch = Links::new("br0", &format!("{}/16", rack.address(0, 2)));
    switch.port("uplink");
    switch.port("sn");
    for machine in &rack.machines {
        switch.port(&machine.cabled);
    }
    switch.route(&rack.address(0, 1));
    batch(Some(&rack.switch()), &switch.text)?;

    let mut management = Links::new("br0", &format!("{}/16", rack.management_address(0, 2)));
    management.port("core");
    management.port("sn");
    for machine in &rack.machines {
        if machine.kind == Kind::Soft {
            let _ = writeln!(management.text, "addr add {}/16 dev br0", machine.bmc);
        } else {
            management.port(&machine.name);
        }
    }
    management.route(&rack.management_address(0, 1));
    batch(Some(&rack.management()), &management.text)?;

    let node = rack.service_node();
    host(&node, "eth0", &format!("{}/16", rack.address(0, 10)), &rack.address(0, 1))?;
    host(&node, "eth1", &format!("{}/16", rack.management_address(0, 10)), "")?;
    for machine in &rack.machines {
        match machine.kind {
            // Its firmware raises the link and asks for an address.
            Kind::Soft => batch(Some(&machine.name), "link set lo up\n")?,
            Kind::Bios | Kind::Uefi => virtual_machine(rack, machine)?,
        }
    }
    Ok(())
}

/// A VM's namespace: a bridge without address between the VM's tap and its cable, and its BMC's port.
fn virtual_machine(rack: &Rack, machine: &Machine) -> Result<()> {
    let text = format!(
        "link set lo up\nlink add br0 type bridge mcast_snooping 0\nlink set br0 up\n\
         tuntap add dev tap0 mode tap\nlink set tap0 master br0 up\nlink set wire master br0 up\n\
         addr add {}/16 dev bmc\nlink set bmc up\nroute add default via {}\n",
        machine.bmc,
        rack.management_address(0, 1)
    );
    batch(Some(&machine.name), &text)
}

/// Pulls the cables of these machines and plugs them in where the plan says now.
pub fn recable(place: &Place, plan: &Plan, names: &[&str]) -> Result<()> {
    let mut inside = Vec::new();
    for name in names {
        let (rack, machine) = plan.machine(name)?;
        inside.push((rack.switch(), machine.name.clone(), machine.cabled.clone(), machine.kind));
    }
    // Two steps, because both ports are taken until both cables are out.
    let end = |kind: Kind| if kind == Kind::Soft { "eth0" } else { "wire" };
    let run = |at: &str, words: &str| -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let output = super::enter::output(place, at, &words)?;
        if !output.status.success() {
            bail!("{} at {at}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    for (_, name, _, kind) in &inside {
        run(name, &format!("ip link del {}", end(*kind)))?;
    }
    for (switch, name, port, kind) in &inside {
        let (_, machine) = plan.machine(name)?;
        let address = if *kind == Kind::Soft { format!(" address {}", machine.mac) } else { String::new() };
        run(name, &format!("ip link add {}{address} type veth peer name {port} netns {switch}", end(*kind)))?;
        run(switch, &format!("ip link set {port} master br0 up"))?;
        if *kind != Kind::Soft {
            run(name, "ip link set wire master br0 up")?;
        }
    }
    Ok(())
}

/// Lines for one namespace with a bridge.
struct Links {
    text: String,
}

impl Links {
    fn new(bridge: &str, address: &str) -> Self {
        let text = format!(
            "link set lo up\nlink add {bridge} type bridge mcast_snooping 0\naddr add {address} dev {bridge}\n\
             link set {bridge} up\n"
        );
        Self { text }
    }

    fn port(&mut self, name: &str) {
        let _ = writeln!(self.text, "link set {name} master br0 up");
    }

    fn address(&mut self, name: &str, address: &str) {
        let _ = writeln!(self.text, "addr add {address} dev {name}\nlink set {name} up");
    }

    fn route(&mut self, gateway: &str) {
        let _ = writeln!(self.text, "route add default via {gateway}");
    }
}

/// A veth pair between two namespaces.
fn cable(text: &mut String, one: &str, name: &str, mac: Option<&str>, other: &str, port: &str) {
    let address = mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
    let _ = writeln!(text, "link add {name} netns {one}{address} type veth peer name {port} netns {other}");
}

fn host(namespace: &str, interface: &str, address: &str, gateway: &str) -> Result<()> {
    let mut text = format!("link set lo up\naddr add {address} dev {interface}\nlink set {interface} up\n");
    if !gateway.is_empty() {
        let _ = writeln!(text, "route add default via {gateway}");
    }
    batch(Some(namespace), &text)
}

/// Gives `ip` many lines at once.
fn batch(namespace: Option<&str>, text: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting ip")?;
    let mut input = child.stdin.take().context("ip's standard input")?;
    // `ip` reads all of it before it can fill its error pipe.
    let written = input.write_all(text.as_bytes());
    drop(input);
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        let place = namespace.unwrap_or("the lab");
        bail!("ip in {place}: {}\n{text}", String::from_utf8_lossy(&output.stderr).trim());
    }
    written.context("writing to ip")
}
