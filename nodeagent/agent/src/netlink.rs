//! Links, addresses and routes of this network namespace, over rtnetlink: no `ip` program needed.
//!
//! Only what a node's set-up needs: list links and addresses, switch a link on, set its MTU, add and
//! remove IPv4 addresses and routes.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

const AF_NETLINK: i32 = 16;
const AF_INET: u8 = 2;
const NETLINK_ROUTE: i32 = 0;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_REPLACE: u16 = 0x500;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// The kernel answers at once; silence is a fault.
const PATIENCE: Duration = Duration::from_secs(5);

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Kernel number.
    pub index: u32,
    /// Kernel name.
    pub name: String,
    /// Ethernet address, colon form; empty for none.
    pub mac: String,
    /// It is the loopback.
    pub loopback: bool,
    /// It is switched on.
    pub up: bool,
    /// IF_OPER_*: 6 is up, 2 is down, 0 unknown.
    pub operstate: u8,
}

/// An IPv4 address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Interface number.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A route to a network; `destination` with prefix 0 is the default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Network.
    pub destination: Ipv4Addr,
    /// Its prefix length.
    pub prefix: u8,
    /// Next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Interface number.
    pub index: Option<u32>,
}

/// A conversation with the kernel.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens the conversation; it belongs to the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_ROUTE)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// When the kernel refuses or is silent.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RTM_GETLINK, DUMP, &[0; 16])?;
        Ok(answers.iter().filter_map(|body| link(body)).collect())
    }

    /// All IPv4 addresses.
    ///
    /// # Errors
    /// As above.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let answers = self.ask(RTM_GETADDR, DUMP, &[AF_INET, 0, 0, 0, 0, 0, 0, 0])?;
        Ok(answers.iter().filter_map(|body| address(body)).collect())
    }

    /// Switches an interface on, and sets its MTU when one is given.
    ///
    /// # Errors
    /// As above.
    pub fn set_up(&mut self, index: u32, mtu: Option<u32>) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        body.extend(IFF_UP.to_ne_bytes());
        if let Some(mtu) = mtu {
            attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        }
        self.ask(RTM_NEWLINK, ACK, &body).map(drop)
    }

    /// Adds an address, or keeps it when it is there.
    ///
    /// # Errors
    /// As above.
    pub fn add_address(&mut self, address: Address) -> io::Result<()> {
        self.change_address(RTM_NEWADDR, ACK | CREATE_REPLACE, address)
    }

    /// Removes an address.
    ///
    /// # Errors
    /// As above.
    pub fn remove_address(&mut self, address: Address) -> io::Result<()> {
        self.change_address(RTM_DELADDR, ACK, address)
    }

    /// Adds a route or replaces the one to the same network.
    ///
    /// # Errors
    /// As above.
    pub fn add_route(&mut self, route: Route) -> io::Result<()> {
        self.change_route(RTM_NEWROUTE, ACK | CREATE_REPLACE, route)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// As above.
    pub fn remove_route(&mut self, route: Route) -> io::Result<()> {
        self.change_route(RTM_DELROUTE, ACK, route)
    }

    fn change_address(&mut self, kind: u16, flags: u16, address: Address) -> io::Result<()> {
        let mut body = vec![AF_INET, address.prefix, 0, 0];
        body.extend(address.index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &address.address.octets());
        attribute(&mut body, IFA_ADDRESS, &address.address.octets());
        if address.prefix < 31 {
            let host = u32::MAX.checked_shr(u32::from(address.prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(address.address) | host);
            attribute(&mut body, IFA_BROADCAST, &broadcast.octets());
        }
        self.ask(kind, flags, &body).map(drop)
    }

    fn change_route(&mut self, kind: u16, flags: u16, route: Route) -> io::Result<()> {
        // Table main, protocol static, scope global or link, unicast.
        let scope = if route.gateway.is_some() { 0 } else { 253 };
        let mut body = vec![AF_INET, route.prefix, 0, 0, 254, 4, scope, 1, 0, 0, 0, 0];
        if route.prefix > 0 {
            attribute(&mut body, RTA_DST, &route.destination.octets());
        }
        if let Some(gateway) = route.gateway {
            attribute(&mut body, RTA_GATEWAY, &gateway.octets());
        }
        if let Some(index) = route.index {
            attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        }
        self.ask(kind, flags, &body).map(drop)
    }

    /// Sends a request and gives the bodies of the answers up to the end or the acknowledgment.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut request = Vec::with_capacity(16 + body.len());
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((REQUEST | flags).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0u32.to_ne_bytes());
        request.extend(body);
        self.socket.send(&request)?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = io::Read::read(&mut &self.socket, &mut buffer)?;
            let mut rest = &buffer[..length];
            while let Some((kind, sequence, body, next)) = message(rest) {
                rest = next;
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = body.first_chunk().map_or(-5, |code| i32::from_ne_bytes(*code));
                        let failed = io::Error::from_raw_os_error(-code);
                        return if code == 0 { Ok(answers) } else { Err(failed) };
                    }
                    _ => answers.push(body.to_vec()),
                }
            }
        }
    }
}

/// The first message of a buffer: kind, sequence, body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, u32, &[u8], &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*bytes.first_chunk()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, sequence, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("values here are short");
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes behind a message's fixed part.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

fn link(body: &[u8]) -> Option<Link> {
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let flags = word(8)?;
    let mut found = Link {
        index: word(4)?,
        name: String::new(),
        mac: String::new(),
        loopback: flags & IFF_LOOPBACK != 0,
        up: flags & IFF_UP != 0,
        operstate: 0,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            IFLA_IFNAME => found.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_owned(),
            IFLA_ADDRESS if value.len() == 6 => {
                let mac = <[u8; 6]>::try_from(value).ok()?;
                found.mac = wire::names::Mac(mac).to_string();
            }
            IFLA_OPERSTATE => found.operstate = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    Some(found)
}

fn address(body: &[u8]) -> Option<Address> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let find = |wanted| attributes(body.get(8..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let octets = <[u8; 4]>::try_from(value).ok()?;
    Some(Address { index, address: octets.into(), prefix: *body.get(1)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_kernel_tells_of_its_loopback() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.links().unwrap();
        assert!(links.iter().any(|link| link.loopback && link.name == "lo"), "{links:?}");
        netlink.addresses().unwrap();
    }

    #[test]
    fn a_refused_request_is_an_error_of_the_system() {
        let mut netlink = Netlink::open().unwrap();
        assert!(netlink.set_up(999_999, None).is_err());
        let nowhere = Address { index: 999_999, address: Ipv4Addr::new(192, 0, 2, 1), prefix: 24 };
        assert!(netlink.add_address(nowhere).is_err());
    }
}
