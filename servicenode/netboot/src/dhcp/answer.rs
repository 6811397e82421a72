//! The bytes of an answer.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, DhcpOptions, Message, MessageType, Opcode, UnknownOption};
use dhcproto::{Encodable, Encoder};
use wire::view::NodeView;

use super::arch::{BootFile, Client};
use super::packet::Query;
use crate::world::{BootSite, Gateway, Network};

/// BOOTP's smallest message; some relays and ROMs drop shorter ones.
const MIN_REPLY: usize = 300;
/// What every client accepts (RFC 2131: 576 octets with IP and UDP headers).
const SAFE_REPLY: usize = 548;
const END: u8 = 255;

/// What an OFFER or ACK says.
pub struct Content<'a> {
    pub kind: MessageType,
    /// None for the answer to an INFORM.
    pub ip: Option<Ipv4Addr>,
    pub lease: u32,
    pub server: Ipv4Addr,
    pub http_port: u16,
    pub site: &'a BootSite,
    pub network: &'a Network,
    pub node: Option<&'a NodeView>,
    pub client: Client,
    pub file: BootFile,
}

/// An OFFER or ACK.
pub fn bytes(query: &Query, content: &Content<'_>) -> Vec<u8> {
    let mut message = head(query, content.kind, content.server);
    if let Some(ip) = content.ip {
        message.set_yiaddr(ip);
    }
    message.set_ciaddr(query.header.ciaddr());
    let file = file_name(query, content);
    if let Some(file) = &file {
        message.set_siaddr(content.server);
        message.set_fname(file.as_bytes());
    }
    let options = message.opts_mut();
    network_options(options, content);
    if let Some(lease) = content.ip.map(|_| content.lease) {
        options.insert(DhcpOption::AddressLeaseTime(lease));
        options.insert(DhcpOption::Renewal(lease / 2));
        options.insert(DhcpOption::Rebinding(lease / 8 * 7));
    }
    if let Some(file) = file {
        if query.wanted.contains(&66) {
            options.insert(DhcpOption::TFTPServerName(content.server.to_string().into_bytes()));
        }
        if query.wanted.contains(&67) {
            options.insert(DhcpOption::BootfileName(file.into_bytes()));
        }
    }
    match content.client {
        // UEFI HTTP boot takes only offers that say so. PXEClient is not said: with it firmware
        // would look for a PXE boot server on port 4011 first.
        Client::Http(_) => {
            options.insert(DhcpOption::ClassIdentifier(b"HTTPClient".to_vec()));
        }
        // iPXE: do not wait for proxy DHCP offers (its suboption 176), that saves seconds.
        Client::Ipxe => {
            options.insert(DhcpOption::Unknown(UnknownOption::new(175.into(), vec![176, 1, 1])));
        }
        _ => {}
    }
    finish(query, &message)
}

/// A NAK.
pub fn nak(query: &Query, server: Ipv4Addr) -> Vec<u8> {
    let mut message = head(query, MessageType::Nak, server);
    message.set_flags(query.header.flags().set_broadcast());
    finish(query, &message)
}

fn head(query: &Query, kind: MessageType, server: Ipv4Addr) -> Message {
    let mut message = query.header.clone();
    message
        .set_opcode(Opcode::BootReply)
        .set_secs(0)
        .set_hops(0)
        .set_ciaddr(Ipv4Addr::UNSPECIFIED)
        .set_yiaddr(Ipv4Addr::UNSPECIFIED)
        .set_siaddr(Ipv4Addr::UNSPECIFIED);
    message.clear_fname();
    message.clear_sname();
    let mut options = DhcpOptions::new();
    options.insert(DhcpOption::MessageType(kind));
    options.insert(DhcpOption::ServerIdentifier(server));
    if let Some(uuid) = &query.uuid {
        options.insert(DhcpOption::ClientMachineIdentifier(uuid.clone()));
    }
    if let Some(id) = &query.client_id {
        options.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    message.set_opts(options);
    message
}

fn network_options(options: &mut DhcpOptions, content: &Content<'_>) {
    let (site, network) = (content.site, content.network);
    options.insert(DhcpOption::SubnetMask(network.mask));
    options.insert(DhcpOption::BroadcastAddr(network.broadcast()));
    match network.gateway {
        Gateway::None => {}
        Gateway::ServiceNode => {
            options.insert(DhcpOption::Router(vec![content.server]));
        }
        Gateway::Address(ip) => {
            options.insert(DhcpOption::Router(vec![ip]));
        }
    }
    let servers = if network.nameservers.is_empty() { &site.nameservers } else { &network.nameservers };
    if !servers.is_empty() {
        options.insert(DhcpOption::DomainNameServer(servers.iter().take(4).copied().collect()));
    }
    if !network.ntpservers.is_empty() {
        options.insert(DhcpOption::NtpServers(network.ntpservers.iter().take(4).copied().collect()));
    }
    let domain = if network.domain.is_empty() { &site.domain } else { &network.domain };
    if !domain.is_empty() {
        options.insert(DhcpOption::DomainName(domain.clone()));
    }
    if let Some(node) = content.node {
        options.insert(DhcpOption::Hostname(node.name.clone()));
    }
    if let Some(mtu) = network.mtu {
        options.insert(DhcpOption::InterfaceMtu(mtu));
    }
}

fn file_name(query: &Query, content: &Content<'_>) -> Option<String> {
    let base = crate::boot::base_url(content.server, content.http_port);
    match content.file {
        BootFile::Nothing => None,
        BootFile::Tftp(name) => Some(name.to_owned()),
        BootFile::Http(name) => Some(format!("{base}/loader/{name}")),
        BootFile::Script => Some(format!("{base}/boot/ipxe?mac={}", query.mac)),
    }
}

/// Encodes, puts the relay's option last and fills up.
fn finish(query: &Query, message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(SAFE_REPLY);
    if message.encode(&mut Encoder::new(&mut out)).is_err() {
        // Every field was checked and is bounded; an answer without options is no answer.
        return Vec::new();
    }
    if let Some(relay) = &query.relay {
        if out.last() == Some(&END) {
            out.pop();
        }
        out.push(82);
        out.push(u8::try_from(relay.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&relay[..relay.len().min(255)]);
        out.push(END);
    }
    if out.len() < MIN_REPLY {
        out.resize(MIN_REPLY, 0);
    }
    out
}
