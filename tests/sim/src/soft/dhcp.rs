//! The DHCP client of a boot ROM and of a loader (RFC 2131, 4578; iPXE's option 175).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{Fault, Settings};

/// Waits between the tries of one question, as boot ROMs do.
const PATIENCE: [Duration; 5] = [
    Duration::from_millis(1000),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
];
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const HEADER: usize = 236;
const LARGEST: usize = 1500;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// Which program asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The adapter's boot ROM.
    Firmware,
    /// iPXE.
    Loader,
    /// An operating system.
    System,
}

/// What a server gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Own address.
    pub address: Ipv4Addr,
    /// Mask of the network.
    pub mask: Ipv4Addr,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Where boot files come from: the next server, else the DHCP server.
    pub server: Ipv4Addr,
    /// The boot file's name or URL; empty for none.
    pub file: String,
}

/// Asks for an address and a boot file: DISCOVER, REQUEST.
///
/// # Errors
/// [`Fault::Silence`] when no server answers to either.
pub async fn ask(settings: &Settings, stage: Stage) -> Result<Lease, Fault> {
    let socket = open(&settings.interface)?;
    let client = Client::new(settings, stage)?;
    let offer = exchange(&socket, &client, &client.packet(DISCOVER, None), &[OFFER], "DHCPDISCOVER").await?;
    let answer =
        exchange(&socket, &client, &client.packet(REQUEST, Some(&offer)), &[ACK, NAK], "DHCPREQUEST").await?;
    if answer.kind == NAK {
        return Err(Fault::Refused {
            what: format!("DHCPREQUEST for {}", offer.address),
            whom: offer.identity.to_string(),
            answer: "DHCPNAK".to_owned(),
        });
    }
    // A name that stood in the offer only is still good (PXE 2.1, 2.2.3).
    let file = if answer.file.is_empty() { offer.file } else { answer.file };
    Ok(Lease {
        address: answer.address,
        mask: answer.mask,
        gateway: answer.gateway,
        server: if answer.next.is_unspecified() { answer.identity } else { answer.next },
        file,
    })
}

fn open(interface: &str) -> Result<UdpSocket, Fault> {
    let attempt = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        // Without an address of its own, only the device tells the kernel where to send.
        socket.bind_device(Some(interface.as_bytes()))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket.into())
    };
    attempt().map_err(Fault::system(format!("opening port 68 on {interface}")))
}

async fn exchange(
    socket: &UdpSocket,
    client: &Client,
    packet: &[u8],
    wanted: &[u8],
    what: &'static str,
) -> Result<Answer, Fault> {
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    let mut buffer = [0u8; LARGEST];
    for patience in PATIENCE {
        // The cable may be out for now; the next try will show.
        let _ = socket.send_to(packet, everybody).await;
        let deadline = Instant::now() + patience;
        while let Ok(received) = timeout_at(deadline, socket.recv_from(&mut buffer)).await {
            let Ok((length, _)) = received else { continue };
            if let Some(answer) = client.read(&buffer[..length])
                && wanted.contains(&answer.kind)
            {
                return Ok(answer);
            }
        }
    }
    Err(Fault::Silence { what, whom: "any DHCP server".to_owned() })
}

/// One conversation.
struct Client {
    transaction: [u8; 4],
    mac: [u8; 6],
    uuid: [u8; 16],
    arch: u16,
    stage: Stage,
}

impl Client {
    fn new(settings: &Settings, stage: Stage) -> Result<Self, Fault> {
        let wrong = |what: &str| Fault::Script(format!("settings of {}: {what}", settings.name));
        let mut transaction = [0; 4];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut transaction)
            .map_err(|_| wrong("no random numbers"))?;
        Ok(Self {
            transaction,
            mac: hex(&settings.mac).ok_or_else(|| wrong("mac"))?,
            uuid: hex(&settings.uuid).ok_or_else(|| wrong("uuid"))?,
            arch: settings.arch,
            stage,
        })
    }

    fn packet(&self, kind: u8, offer: Option<&Answer>) -> Vec<u8> {
        let mut packet = vec![0u8; HEADER];
        packet[..4].copy_from_slice(&[1, 1, 6, 0]);
        packet[4..8].copy_from_slice(&self.transaction);
        // Broadcast, please: there is no address yet to send to.
        packet[10] = 0x80;
        packet[28..34].copy_from_slice(&self.mac);
        packet.extend(COOKIE);
        let mut option = |code: u8, bytes: &[u8]| {
            packet.push(code);
            packet.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
            packet.extend(bytes);
        };
        option(53, &[kind]);
        option(57, &1472u16.to_be_bytes());
        option(55, &[1, 3, 6, 12, 15, 26, 28, 43, 51, 54, 60, 66, 67, 97]);
        if let Some(offer) = offer {
            option(50, &offer.address.octets());
            option(54, &offer.identity.octets());
        }
        if self.stage != Stage::System {
            option(60, format!("PXEClient:Arch:{:05}:UNDI:003016", self.arch).as_bytes());
            option(93, &self.arch.to_be_bytes());
            option(94, &[1, 3, 16]);
            // Type 0 and the UUID in the order of SMBIOS: its first three fields are little-endian.
            let mut machine = [0u8; 17];
            machine[1..].copy_from_slice(&self.uuid);
            machine[1..5].reverse();
            machine[5..7].reverse();
            machine[7..9].reverse();
            option(97, &machine);
        }
        if self.stage == Stage::Loader {
            option(77, b"iPXE");
            // Feature flags as iPXE lists them: priority, bus id, http, bzimage, menu, dns.
            option(175, &[1, 1, 0, 19, 1, 1, 24, 1, 1, 39, 1, 1, 23, 1, 1]);
        }
        packet.push(255);
        packet.resize(packet.len().max(300), 0);
        packet
    }

    /// Reads an answer to this conversation; anything else is none.
    fn read(&self, packet: &[u8]) -> Option<Answer> {
        let ours = packet.len() > HEADER + 4
            && packet[0] == 2
            && packet[4..8] == self.transaction
            && packet[28..34] == self.mac
            && packet[HEADER..HEADER + 4] == COOKIE;
        if !ours {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        let mut answer = Answer {
            kind: 0,
            address: address(16),
            next: address(20),
            identity: Ipv4Addr::UNSPECIFIED,
            mask: Ipv4Addr::new(255, 255, 255, 0),
            gateway: None,
            file: text(&packet[108..236]),
        };
        let mut rest = &packet[HEADER + 4..];
        while let [code, after @ ..] = rest {
            if *code == 0 {
                rest = after;
                continue;
            }
            let ([length, after @ ..], false) = (after, *code == 255) else { break };
            let value = after.get(..usize::from(*length))?;
            rest = &after[value.len()..];
            let first = || <[u8; 4]>::try_from(value.get(..4)?).ok().map(Ipv4Addr::from);
            match code {
                53 => answer.kind = *value.first()?,
                1 => answer.mask = first()?,
                3 => answer.gateway = first(),
                54 => answer.identity = first()?,
                67 => answer.file = text(value),
                _ => {}
            }
        }
        Some(answer)
    }
}

/// A server's packet.
#[derive(Debug, Clone)]
struct Answer {
    kind: u8,
    address: Ipv4Addr,
    next: Ipv4Addr,
    identity: Ipv4Addr,
    mask: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
    file: String,
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Hexadecimal digits with `:` or `-` between them.
fn hex<const N: usize>(words: &str) -> Option<[u8; N]> {
    let digits: Vec<u8> = words
        .chars()
        .filter(|sign| !matches!(sign, ':' | '-'))
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn client(stage: Stage) -> Client {
        Client {
            transaction: [1, 2, 3, 4],
            mac: hex("52:00:00:00:00:01").unwrap(),
            uuid: hex("00112233-4455-6677-8899-aabbccddeeff").unwrap(),
            arch: 7,
            stage,
        }
    }

    fn has(packet: &[u8], code: u8) -> bool {
        let mut rest = &packet[HEADER + 4..];
        while let [found, length, after @ ..] = rest {
            if *found == 255 {
                return false;
            }
            if *found == code {
                return true;
            }
            rest = &after[usize::from(*length)..];
        }
        false
    }

    #[test]
    fn rom_loader_and_system_say_what_they_are() {
        for (stage, wanted) in
            [(Stage::Firmware, [true, false]), (Stage::Loader, [true, true]), (Stage::System, [false, false])]
        {
            let packet = client(stage).packet(DISCOVER, None);
            assert_eq!([has(&packet, 93), has(&packet, 175)], wanted, "{stage:?}");
        }
    }

    #[test]
    fn answers_to_others_and_cut_answers_are_none() {
        let me = client(Stage::Firmware);
        let mut packet = me.packet(OFFER, None);
        packet[0] = 2;
        packet[16..20].copy_from_slice(&[10, 0, 0, 5]);
        assert_eq!(me.read(&packet).unwrap().address, Ipv4Addr::new(10, 0, 0, 5));
        for length in 0..packet.len() {
            let _ = me.read(&packet[..length]);
        }
        packet[28] ^= 1;
        assert!(me.read(&packet).is_none());
    }
}
