//! The decision: which answer a packet gets, where it goes, and what is to be counted.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use dhcproto::v4::MessageType;
use wire::names::Mac;
use wire::view::NodeView;

use super::answer::{self, Content};
use super::arch::{BootFile, Client};
use super::lease::{Leases, NoAddress, POOL_LEASE_SECONDS};
use super::packet::{self, Bad, Kind, Query};
use crate::boot::is_local_disk;
use crate::world::{Boot, BootSite, Fixed, Gateway, Network, fixed_address};

/// What the service node says about itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// All own addresses, for the server identifier.
    pub own: Vec<Ipv4Addr>,
    /// Port of the HTTP service.
    pub http_port: u16,
}

/// Where a packet came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Kernel name of the interface.
    pub interface: String,
    /// Own address on it.
    pub address: Ipv4Addr,
    /// Who sent it.
    pub source: SocketAddrV4,
}

/// Why there is no answer. Each has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// Not readable.
    Bad(Bad),
    /// The interface is not in `dhcpinterfaces`.
    NotServed,
    /// No `networks` row holds the client's place.
    NoNetwork,
    /// The node's adapter is to get nothing (`*NOIP*`).
    Denied,
    /// The node has no address in this network.
    NoAddress,
    /// The dynamic range is used up or missing.
    PoolEmpty,
    /// Too many new machines behind one port.
    TooMany,
    /// The client chose another server.
    OtherServer,
    /// There is nothing to say to it (a release without lease, a request without an address).
    Pointless,
}

impl Drop {
    /// Name of the counter.
    pub fn reason(self) -> &'static str {
        match self {
            Drop::Bad(Bad::Oversized) => "oversized",
            Drop::Bad(Bad::Cut) => "cut",
            Drop::Bad(Bad::Malformed) => "malformed",
            Drop::Bad(Bad::NotARequest) => "not_a_request",
            Drop::NotServed => "interface_not_served",
            Drop::NoNetwork => "no_network",
            Drop::Denied => "denied_by_table",
            Drop::NoAddress => "no_address_in_network",
            Drop::PoolEmpty => "pool_empty",
            Drop::TooMany => "too_many_new_machines",
            Drop::OtherServer => "other_server",
            Drop::Pointless => "pointless",
        }
    }
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// An address was offered.
    Offer(Ipv4Addr),
    /// An address was given or kept.
    Ack(Ipv4Addr),
    /// The client must start again.
    Nak,
    /// Parameters were told.
    Inform,
    /// An address came back.
    Released(Ipv4Addr),
    /// An address turned out to be used by somebody else.
    Declined(Ipv4Addr),
    /// No answer.
    Dropped(Drop),
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where it goes; the broadcast address means broadcast on the interface of arrival.
    pub destination: SocketAddrV4,
}

/// All that follows from a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer, if any.
    pub reply: Option<Reply>,
    /// What became of it.
    pub verdict: Verdict,
    /// The adapter that was heard, when the packet was readable.
    pub seen: Option<Mac>,
    /// The node that it belongs to.
    pub node: Option<String>,
}

/// Decides about one datagram. `now` is in unix seconds.
pub fn decide(
    datagram: &[u8],
    arrival: &Arrival,
    settings: &Settings,
    boot: &dyn Boot,
    leases: &mut Leases,
    now: u64,
) -> Outcome {
    let dropped = |why, seen| Outcome { reply: None, verdict: Verdict::Dropped(why), seen, node: None };
    let query = match packet::parse(datagram) {
        Ok(query) => query,
        Err(bad) => return dropped(Drop::Bad(bad), None),
    };
    let seen = Some(query.mac);
    let site = boot.site();
    let Some(interface) = site.interface(&arrival.interface) else { return dropped(Drop::NotServed, seen) };
    let Some(network) = network_of(&query, arrival, &site) else { return dropped(Drop::NoNetwork, seen) };
    let node = boot.node_by_mac(query.mac);
    let mut desk = Desk {
        query: &query,
        arrival,
        settings,
        site: &site,
        network,
        boots: interface.boot,
        node: node.as_ref(),
        boot,
        leases,
        now,
    };
    let (verdict, reply) = match desk.answer() {
        Ok((verdict, reply)) => (verdict, reply),
        Err(why) => (Verdict::Dropped(why), None),
    };
    Outcome { reply, verdict, seen, node: node.map(|n| n.name.clone()) }
}

/// The network that the client sits in: told by the relay, else by its own address, else by ours.
fn network_of<'a>(query: &Query, arrival: &Arrival, site: &'a BootSite) -> Option<&'a Network> {
    if let Some(giaddr) = query.giaddr() {
        let chosen = query.relay_suboption(5).and_then(|b| <[u8; 4]>::try_from(b).ok());
        return site.network_of(chosen.map_or(giaddr, Ipv4Addr::from));
    }
    let here = || site.network_of(arrival.address);
    match query.ciaddr() {
        // A renewal may come routed from a network behind a relay.
        Some(ciaddr) => site.network_of(ciaddr).or_else(here),
        None => here(),
    }
}

struct Desk<'a> {
    query: &'a Query,
    arrival: &'a Arrival,
    settings: &'a Settings,
    site: &'a BootSite,
    network: &'a Network,
    boots: bool,
    node: Option<&'a Arc<NodeView>>,
    boot: &'a dyn Boot,
    leases: &'a mut Leases,
    now: u64,
}

type Answer = Result<(Verdict, Option<Reply>), Drop>;

impl Desk<'_> {
    fn answer(&mut self) -> Answer {
        match self.query.kind {
            Kind::Discover => self.discover(),
            Kind::Request => self.request(),
            Kind::Decline => self.decline(),
            Kind::Release => self.release(),
            Kind::Inform => self.inform(),
        }
    }

    /// The address of a known node here; `None` for an unknown machine.
    fn fixed(&self) -> Result<Option<Ipv4Addr>, Drop> {
        let Some(node) = self.node else { return Ok(None) };
        match fixed_address(node, self.query.mac) {
            Fixed::Address(ip) if self.network.contains(ip) => Ok(Some(ip)),
            Fixed::Address(_) | Fixed::Missing => Err(Drop::NoAddress),
            Fixed::Denied => Err(Drop::Denied),
        }
    }

    fn discover(&mut self) -> Answer {
        let ip = match self.fixed()? {
            Some(ip) => ip,
            None => self.offer_from_pool()?,
        };
        Ok((Verdict::Offer(ip), Some(self.reply(MessageType::Offer, Some(ip)))))
    }

    fn offer_from_pool(&mut self) -> Result<Ipv4Addr, Drop> {
        if self.network.ranges.is_empty() {
            return Err(Drop::PoolEmpty);
        }
        let port = self.query.relay_suboption(1).map(|circuit| {
            let relay = self.query.header.giaddr().octets();
            [&relay[..], circuit].concat()
        });
        let offered = self.leases.offer(
            self.query.mac,
            &self.network.ranges,
            self.query.requested,
            port.as_deref(),
            self.now,
            &taken(self.boot, self.settings, self.network.gateway),
        );
        offered.map_err(|why| match why {
            NoAddress::Empty => Drop::PoolEmpty,
            NoAddress::TooMany => Drop::TooMany,
        })
    }

    fn request(&mut self) -> Answer {
        if let Some(server) = self.query.server
            && server != self.arrival.address
            && !self.settings.own.contains(&server)
        {
            if let Some(ip) = self.leases.held(self.query.mac) {
                self.leases.release(self.query.mac, ip);
            }
            return Err(Drop::OtherServer);
        }
        let Some(wanted) = self.query.requested.or(self.query.ciaddr()) else { return Err(Drop::Pointless) };
        match self.fixed() {
            Ok(Some(ip)) if ip == wanted => Ok(self.ack(ip)),
            Ok(Some(_)) => Ok(self.nak()),
            Ok(None) => self.request_from_pool(wanted),
            // It holds something that it must not have: let it notice.
            Err(why) if self.network.dynamic(wanted) || !self.network.contains(wanted) => {
                let _ = why;
                Ok(self.nak())
            }
            Err(why) => Err(why),
        }
    }

    fn request_from_pool(&mut self, wanted: Ipv4Addr) -> Answer {
        let held = self.leases.held(self.query.mac) == Some(wanted);
        let others = self.leases.others(self.query.mac, wanted, self.now);
        // An address of the range that nobody has is given even when we know of no offer: the
        // lease may have been lost with a disk, and another address would help nobody.
        let usable = self.network.dynamic(wanted)
            && !others
            && !taken(self.boot, self.settings, self.network.gateway)(wanted);
        if !usable {
            return Ok(self.nak());
        }
        let selecting = self.query.server.is_some();
        if selecting && !held {
            return Ok(self.nak());
        }
        if !self.leases.grant(self.query.mac, wanted, POOL_LEASE_SECONDS, self.now) {
            return Ok(self.nak());
        }
        Ok(self.ack(wanted))
    }

    fn decline(&mut self) -> Answer {
        let ip = self.query.requested.ok_or(Drop::Pointless)?;
        let own = self.leases.decline(self.query.mac, ip, self.now);
        if own || matches!(self.fixed(), Ok(Some(fixed)) if fixed == ip) {
            Ok((Verdict::Declined(ip), None))
        } else {
            Err(Drop::Pointless)
        }
    }

    fn release(&mut self) -> Answer {
        let ip = self.query.ciaddr().ok_or(Drop::Pointless)?;
        if self.leases.release(self.query.mac, ip) {
            Ok((Verdict::Released(ip), None))
        } else {
            Err(Drop::Pointless)
        }
    }

    fn inform(&mut self) -> Answer {
        let ip = self.query.ciaddr().ok_or(Drop::Pointless)?;
        if !self.network.contains(ip) {
            return Err(Drop::NoNetwork);
        }
        Ok((Verdict::Inform, Some(self.reply(MessageType::Ack, None))))
    }

    fn ack(&self, ip: Ipv4Addr) -> (Verdict, Option<Reply>) {
        (Verdict::Ack(ip), Some(self.reply(MessageType::Ack, Some(ip))))
    }

    fn nak(&self) -> (Verdict, Option<Reply>) {
        let bytes = answer::nak(self.query, self.arrival.address);
        (Verdict::Nak, Some(Reply { bytes, destination: self.destination(true) }))
    }

    fn reply(&self, kind: MessageType, ip: Option<Ipv4Addr>) -> Reply {
        let client = Client::of(&self.query.vendor, &self.query.user_class, self.query.ipxe, self.query.arch);
        let (netboot, disk) = match self.node {
            Some(node) => {
                let disk = is_local_disk(&node.destiny) && !self.boot.genesis_next(&node.name);
                (node.netboot.as_str(), disk)
            }
            None => ("", false),
        };
        let file = if self.boots { client.boot_file(netboot, disk) } else { BootFile::Nothing };
        let lease = match (self.node, client) {
            (Some(_), Client::Plain) => self.site.lease,
            _ => self.site.lease.min(POOL_LEASE_SECONDS),
        };
        let content = Content {
            kind,
            ip,
            lease,
            server: self.arrival.address,
            http_port: self.settings.http_port,
            site: self.site,
            network: self.network,
            node: self.node.map(|n| n.as_ref()),
            client,
            file,
        };
        Reply { bytes: answer::bytes(self.query, &content), destination: self.destination(false) }
    }

    fn destination(&self, nak: bool) -> SocketAddrV4 {
        if let Some(relay) = self.query.giaddr() {
            return SocketAddrV4::new(relay, 67);
        }
        match self.query.ciaddr() {
            Some(ip) if !nak => SocketAddrV4::new(ip, 68),
            _ => SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
        }
    }
}

/// Which addresses are never lent: our own, the gateway's, those of nodes.
fn taken<'a>(boot: &'a dyn Boot, settings: &'a Settings, gateway: Gateway) -> impl Fn(Ipv4Addr) -> bool + 'a {
    move |ip| settings.own.contains(&ip) || gateway == Gateway::Address(ip) || boot.node_by_ip(ip).is_some()
}

#[cfg(test)]
#[path = "decide/tests.rs"]
mod tests;
