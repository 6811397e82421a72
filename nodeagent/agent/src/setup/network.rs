//! Interfaces and routes, set in the kernel of this network namespace.

use std::io;
use std::net::Ipv4Addr;

use wire::view::{InterfaceConfig, NodeConfig, RouteConfig};

use super::{Failures, step};
use crate::netlink::{Address, Link, Netlink, Route};

/// Brings interfaces and routes from the last configuration to the new one.
pub fn apply(last: &NodeConfig, config: &NodeConfig, failed: &mut Failures) {
    let nothing = |config: &NodeConfig| config.interfaces.is_empty() && config.routes.is_empty();
    if nothing(last) && nothing(config) {
        return;
    }
    let opened = Netlink::open().and_then(|mut netlink| netlink.links().map(|links| (netlink, links)));
    let (mut netlink, links) = match opened {
        Ok(opened) => opened,
        Err(error) => return failed.push(("interfaces".to_owned(), error.to_string())),
    };
    for old in last.routes.iter().filter(|old| !config.routes.contains(old)) {
        if let Ok(route) = route(&links, old) {
            // It may be gone with its interface; then that is as it should be.
            let _ = netlink.remove_route(route);
        }
    }
    for old in last.interfaces.iter().filter(|old| !old.address.is_empty()) {
        let kept = config.interfaces.iter().any(|new| new.name == old.name && new.address == old.address);
        if let (false, Ok(address)) = (kept, address(&links, old)) {
            let _ = netlink.remove_address(address);
        }
    }
    for interface in &config.interfaces {
        step(failed, &format!("interface {}", interface.name), bring_up(&mut netlink, &links, interface));
    }
    for wanted in &config.routes {
        let set = route(&links, wanted).and_then(|route| netlink.add_route(route).map_err(words));
        step(failed, &format!("route {}", wanted.destination), set);
    }
}

fn bring_up(netlink: &mut Netlink, links: &[Link], config: &InterfaceConfig) -> Result<(), String> {
    let link = find(links, &config.name)?;
    netlink.set_up(link.index, (config.mtu > 0).then_some(config.mtu)).map_err(words)?;
    if config.address.is_empty() {
        // DHCP: the system's own client keeps the address.
        return Ok(());
    }
    let wanted = address(links, config)?;
    let present = netlink.addresses().map_err(words)?;
    if !present.contains(&wanted) {
        netlink.add_address(wanted).map_err(words)?;
    }
    if !config.gateway.is_empty() {
        let gateway =
            config.gateway.parse().map_err(|_| format!("'{}' is not an address", config.gateway))?;
        let everywhere = Route {
            destination: Ipv4Addr::UNSPECIFIED,
            prefix: 0,
            gateway: Some(gateway),
            index: Some(link.index),
        };
        netlink.add_route(everywhere).map_err(words)?;
    }
    Ok(())
}

fn words(error: io::Error) -> String {
    error.to_string()
}

/// The interface with this name or MAC.
fn find<'a>(links: &'a [Link], name: &str) -> Result<&'a Link, String> {
    let mac = wire::names::Mac::parse(name).map(|mac| mac.to_string()).unwrap_or_default();
    let found = links.iter().find(|link| link.name == name || (!mac.is_empty() && link.mac == mac));
    found.ok_or_else(|| format!("there is no interface '{}'", name.escape_debug()))
}

fn address(links: &[Link], config: &InterfaceConfig) -> Result<Address, String> {
    let (address, prefix) = network(&config.address)?;
    Ok(Address { index: find(links, &config.name)?.index, address, prefix })
}

fn route(links: &[Link], config: &RouteConfig) -> Result<Route, String> {
    let everywhere = config.destination == "default";
    let (destination, prefix) =
        if everywhere { (Ipv4Addr::UNSPECIFIED, 0) } else { network(&config.destination)? };
    let gateway = match config.gateway.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("'{}' is not an address", text.escape_debug()))?),
    };
    let index = match config.interface.as_str() {
        "" => None,
        name => Some(find(links, name)?.index),
    };
    if gateway.is_none() && index.is_none() {
        return Err("neither gateway nor interface".to_owned());
    }
    Ok(Route { destination, prefix, gateway, index })
}

/// `10.0.0.1/24`.
fn network(text: &str) -> Result<(Ipv4Addr, u8), String> {
    let refuse = || format!("'{}' is not an address with its prefix length", text.escape_debug());
    let (address, prefix) = text.split_once('/').ok_or_else(refuse)?;
    let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(refuse)?;
    Ok((address.parse().map_err(|_| refuse())?, prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_named_and_the_next_one_is_tried() {
        let mut failed = Failures::new();
        let interface = |name: &str| InterfaceConfig {
            name: name.to_owned(),
            address: "192.0.2.1/24".to_owned(),
            ..InterfaceConfig::default()
        };
        let config = NodeConfig {
            interfaces: vec![interface("nope9"), interface("02:00:00:00:99:99")],
            routes: vec![RouteConfig { destination: "10.0.0.0/33".to_owned(), ..RouteConfig::default() }],
            ..NodeConfig::default()
        };
        apply(&NodeConfig::default(), &config, &mut failed);
        let names: Vec<_> = failed.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["interface nope9", "interface 02:00:00:00:99:99", "route 10.0.0.0/33"]);
    }
}
