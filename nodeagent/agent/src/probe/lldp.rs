//! The neighbor on the other end of an adapter's cable, from the LLDP frames it sends (IEEE 802.1AB).
//!
//! Switches speak every 30 seconds, so listening takes its time; the frame's reading is pure.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use wire::hardware::{Adapter, LldpNeighbor};

use crate::netlink::Netlink;

/// Ethernet header: two addresses and the type.
const HEADER: usize = 14;
/// Longest text that is taken over from a switch.
const MAX_TEXT: usize = 255;
/// Most management addresses of one neighbor.
const MAX_ADDRESSES: usize = 8;

/// Listens on all named adapters at once for at most `patience` and notes the neighbors heard.
/// Blocks; call it on a thread of its own. Adapters on which nothing can be heard stay as they are.
pub fn listen(adapters: &mut [Adapter], patience: Duration) {
    let Ok(links) = Netlink::open().and_then(|mut netlink| netlink.links()) else { return };
    let deadline = Instant::now() + patience;
    std::thread::scope(|scope| {
        for adapter in adapters.iter_mut().filter(|adapter| !adapter.name.is_empty()) {
            let Some(link) = links.iter().find(|link| link.name == adapter.name && link.up) else { continue };
            let index = link.index;
            scope.spawn(move || adapter.lldp = hear(index, deadline));
        }
    });
}

fn hear(index: u32, deadline: Instant) -> Option<LldpNeighbor> {
    let mut socket = rawdev::LldpSocket::open(index).ok()?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let frame = socket.receive(left).ok()??;
        if let Some(neighbor) = read(&frame) {
            return Some(neighbor);
        }
    }
}

/// Reads an Ethernet frame with an LLDP data unit.
#[must_use]
pub fn read(frame: &[u8]) -> Option<LldpNeighbor> {
    if frame.get(12..HEADER)? != [0x88, 0xcc] {
        return None;
    }
    let mut neighbor = LldpNeighbor::default();
    let mut chassis = String::new();
    let mut rest = &frame[HEADER..];
    loop {
        let head = u16::from_be_bytes(*rest.first_chunk()?);
        let length = usize::from(head & 0x1ff);
        let value = rest.get(2..2 + length)?;
        rest = &rest[2 + length..];
        match head >> 9 {
            0 => break,
            1 => chassis = identifier(value, 4, 5),
            2 => neighbor.port = identifier(value, 3, 4),
            4 => neighbor.port_description = words(value),
            5 => neighbor.switch = words(value),
            6 => neighbor.description = words(value),
            8 if neighbor.addresses.len() < MAX_ADDRESSES => neighbor.addresses.extend(management(value)),
            _ => {}
        }
    }
    if neighbor.switch.is_empty() {
        neighbor.switch = chassis;
    }
    (!neighbor.switch.is_empty() || !neighbor.port.is_empty()).then_some(neighbor)
}

/// A chassis or port id: subtype `mac` and `network` are numbers, all others are text.
fn identifier(value: &[u8], mac: u8, network: u8) -> String {
    match value.split_first() {
        Some((kind, id)) if *kind == mac => match <[u8; 6]>::try_from(id) {
            Ok(id) => wire::names::Mac(id).to_string(),
            Err(_) => String::new(),
        },
        Some((kind, id)) if *kind == network => address(id).unwrap_or_default(),
        Some((_, id)) => words(id),
        None => String::new(),
    }
}

fn management(value: &[u8]) -> Option<String> {
    let length = usize::from(*value.first()?);
    address(value.get(1..=length)?)
}

/// An address with its IANA family number in front.
fn address(bytes: &[u8]) -> Option<String> {
    match bytes.split_first()? {
        (1, ip) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).to_string()),
        (2, ip) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).to_string()),
        _ => None,
    }
}

/// Text of a switch: control characters are replaced, the length is limited.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.trim_matches('\0').chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_TEXT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        let head = kind << 9 | u16::try_from(value.len()).unwrap();
        [&head.to_be_bytes()[..], value].concat()
    }

    fn frame(tlvs: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 0, 1, 0x88, 0xcc];
        bytes.extend(tlvs.concat());
        bytes
    }

    #[test]
    fn a_switch_tells_its_name_port_and_address() {
        let heard = frame(&[
            tlv(1, &[4, 2, 0, 0, 0, 0, 9]),
            tlv(2, b"\x05swp3"),
            tlv(3, &[0, 120]),
            tlv(4, b"to rack 1"),
            tlv(5, b"switch1"),
            tlv(6, b"Cumulus\nLinux"),
            tlv(8, &[5, 1, 10, 0, 0, 9, 2, 0, 0, 0, 1, 0]),
            tlv(0, &[]),
        ]);
        let neighbor = read(&heard).unwrap();
        assert_eq!((neighbor.switch.as_str(), neighbor.port.as_str()), ("switch1", "swp3"));
        assert_eq!(neighbor.addresses, ["10.0.0.9"]);
        assert_eq!(neighbor.description, "Cumulus Linux");
    }

    #[test]
    fn a_nameless_switch_is_known_by_its_chassis() {
        let heard = frame(&[tlv(1, &[4, 2, 0, 0, 0, 0, 9]), tlv(2, &[3, 2, 0, 0, 0, 0, 10]), tlv(0, &[])]);
        let neighbor = read(&heard).unwrap();
        assert_eq!(neighbor.switch, "02:00:00:00:00:09");
        assert_eq!(neighbor.port, "02:00:00:00:00:0a");
    }

    #[test]
    fn cut_and_foreign_frames_say_nothing() {
        let heard = frame(&[tlv(5, b"switch1"), tlv(0, &[])]);
        for length in 0..heard.len() {
            assert_eq!(read(&heard[..length]), None, "{length}");
        }
        assert_eq!(read(&[0; 60]), None);
    }
}
