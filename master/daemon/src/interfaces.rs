//! The IPv4 networks that this machine is on, as the system's `ip` tells them.

use std::net::Ipv4Addr;
use std::process::Command;

use commands::Interface;
use serde::Deserialize;

/// The network's mask.
#[must_use]
pub fn mask(interface: &Interface) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(interface.prefix.min(32))).unwrap_or(0))
}

/// The network's address.
#[must_use]
pub fn net(interface: &Interface) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(interface.address) & u32::from(mask(interface)))
}

/// All IPv4 interfaces but loopback; empty when the system does not tell. Blocks for a moment.
#[must_use]
pub fn of_this_machine() -> Vec<Interface> {
    let ask = |arguments: &[&str]| {
        Command::new("ip").args(arguments).output().map(|output| output.stdout).unwrap_or_default()
    };
    parse(&ask(&["-j", "-4", "addr", "show", "up"]), &ask(&["-j", "-4", "route", "show", "default"]))
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    ifname: String,
    #[serde(default)]
    mtu: u32,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<Ipv4Addr>,
    #[serde(default)]
    prefixlen: u8,
}

#[derive(Deserialize)]
struct Route {
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    dev: String,
}

fn parse(addresses: &[u8], routes: &[u8]) -> Vec<Interface> {
    let links: Vec<Link> = serde_json::from_slice(addresses).unwrap_or_default();
    let routes: Vec<Route> = serde_json::from_slice(routes).unwrap_or_default();
    let gateway = |name: &str| routes.iter().find(|route| route.dev == name).and_then(|route| route.gateway);
    let mut interfaces = Vec::new();
    for link in links {
        for address in &link.addr_info {
            let Some(local) = address.local.filter(|local| !local.is_loopback()) else { continue };
            interfaces.push(Interface {
                name: link.ifname.clone(),
                address: local,
                prefix: address.prefixlen.min(32),
                mtu: link.mtu,
                gateway: gateway(&link.ifname),
            });
        }
    }
    interfaces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_default_route_become_networks() {
        let addresses = br#"[{"ifname":"lo","addr_info":[{"local":"127.0.0.1","prefixlen":8}]},
            {"ifname":"eth0","addr_info":[{"local":"10.1.2.3","prefixlen":20}]},{"ifname":"eth1"}]"#;
        let interfaces = parse(addresses, br#"[{"dst":"default","gateway":"10.1.0.1","dev":"eth0"}]"#);
        assert_eq!(interfaces.len(), 1);
        assert_eq!(net(&interfaces[0]), Ipv4Addr::new(10, 1, 0, 0));
        assert_eq!(mask(&interfaces[0]), Ipv4Addr::new(255, 255, 240, 0));
        assert_eq!(interfaces[0].gateway, Some(Ipv4Addr::new(10, 1, 0, 1)));
    }

    #[test]
    fn nonsense_is_no_interface() {
        assert!(parse(b"", b"x").is_empty());
    }
}
