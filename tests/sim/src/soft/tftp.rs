//! The TFTP client of a boot ROM (RFC 1350, 2347, 2348, 2349, 7440).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Fault;

/// Larger loaders do not exist.
const LIMIT: usize = 16 * 1024 * 1024;
const BLOCK: usize = 1432;
const WINDOW: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;

/// What the server agreed to.
struct Terms {
    block: usize,
    window: u16,
}

/// Fetches a file.
///
/// # Errors
/// [`Fault::Refused`] with the server's words, [`Fault::Silence`] after five tries.
pub async fn fetch(server: Ipv4Addr, name: &str) -> Result<Vec<u8>, Fault> {
    let whom = format!("{server}:69");
    let silence = || Fault::Silence { what: "TFTP", whom: whom.clone() };
    let socket = UdpSocket::bind("0.0.0.0:0").await.map_err(Fault::system("opening a socket for TFTP"))?;
    let request = request(name);
    let mut buffer = vec![0u8; 65_536];
    let (length, peer) = first(&socket, &request, server, &mut buffer).await.ok_or_else(silence)?;
    let mut terms = Terms { block: 512, window: 1 };
    let (mut file, mut last, mut in_window) = (Vec::new(), 0u16, 0u16);
    let mut packet = buffer[..length].to_vec();
    let mut failures = 0;
    loop {
        match read(&packet) {
            Packet::Options(options) => {
                terms = agreed(&options);
                acknowledge(&socket, peer, 0).await?;
            }
            Packet::Data(number, bytes) if number == last.wrapping_add(1) => {
                file.extend_from_slice(bytes);
                if file.len() > LIMIT {
                    return Err(refused(name, &whom, "more bytes than any loader has"));
                }
                (last, in_window, failures) = (number, in_window + 1, 0);
                let end = bytes.len() < terms.block;
                if end || in_window >= terms.window {
                    acknowledge(&socket, peer, last).await?;
                    in_window = 0;
                }
                if end {
                    return Ok(file);
                }
            }
            // A gap or an old block: say what was the last good one.
            Packet::Data(..) => {
                acknowledge(&socket, peer, last).await?;
                in_window = 0;
            }
            Packet::Error(words) => return Err(refused(name, &whom, &words)),
            Packet::Other => {}
        }
        packet = loop {
            match timeout(PATIENCE, socket.recv_from(&mut buffer)).await {
                Ok(Ok((length, from))) if from == peer => break buffer[..length].to_vec(),
                Ok(_) => {}
                Err(_) => {
                    failures += 1;
                    if failures >= TRIES {
                        return Err(silence());
                    }
                    acknowledge(&socket, peer, last).await?;
                    in_window = 0;
                }
            }
        };
    }
}

async fn first(
    socket: &UdpSocket,
    request: &[u8],
    server: Ipv4Addr,
    buffer: &mut [u8],
) -> Option<(usize, SocketAddr)> {
    for _ in 0..TRIES {
        let _ = socket.send_to(request, (server, 69)).await;
        // The answer comes from the transfer's own port.
        if let Ok(Ok((length, from))) = timeout(PATIENCE, socket.recv_from(buffer)).await
            && from.ip() == server
        {
            return Some((length, from));
        }
    }
    None
}

async fn acknowledge(socket: &UdpSocket, peer: SocketAddr, number: u16) -> Result<(), Fault> {
    let mut packet = vec![0, 4];
    packet.extend(number.to_be_bytes());
    socket.send_to(&packet, peer).await.map(drop).map_err(Fault::system("acknowledging a TFTP block"))
}

fn refused(name: &str, whom: &str, answer: &str) -> Fault {
    Fault::Refused {
        what: format!("the request for {name}"),
        whom: whom.to_owned(),
        answer: answer.to_owned(),
    }
}

fn request(name: &str) -> Vec<u8> {
    let mut packet = vec![0, 1];
    let (block, window) = (BLOCK.to_string(), WINDOW.to_string());
    for word in [name, "octet", "tsize", "0", "blksize", &block, "windowsize", &window] {
        packet.extend(word.as_bytes());
        packet.push(0);
    }
    packet
}

enum Packet<'a> {
    Data(u16, &'a [u8]),
    Options(Vec<(String, String)>),
    Error(String),
    Other,
}

fn read(packet: &[u8]) -> Packet<'_> {
    match packet {
        [0, 3, high, low, bytes @ ..] => Packet::Data(u16::from_be_bytes([*high, *low]), bytes),
        [0, 5, _, _, words @ ..] => {
            Packet::Error(String::from_utf8_lossy(words).trim_end_matches('\0').to_owned())
        }
        [0, 6, words @ ..] => {
            let words: Vec<String> = words
                .split(|byte| *byte == 0)
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            Packet::Options(
                words.chunks_exact(2).map(|pair| (pair[0].to_lowercase(), pair[1].clone())).collect(),
            )
        }
        _ => Packet::Other,
    }
}

fn agreed(options: &[(String, String)]) -> Terms {
    let value = |name: &str| options.iter().find(|(found, _)| found == name)?.1.parse::<u16>().ok();
    Terms {
        block: value("blksize").map_or(512, usize::from).max(8),
        window: value("windowsize").unwrap_or(1).max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_server_leaves_out_are_not_used() {
        let Packet::Options(options) = read(b"\0\x06BLKSIZE\x001024\0tsize\x0077\0") else {
            panic!("no options")
        };
        let terms = agreed(&options);
        assert_eq!((terms.block, terms.window), (1024, 1));
    }

    #[test]
    fn a_request_names_its_options_in_pairs() {
        let request = request("undionly.kpxe");
        let words: Vec<_> = request[2..].split(|byte| *byte == 0).collect();
        assert_eq!(words[..4], [&b"undionly.kpxe"[..], b"octet", b"tsize", b"0"]);
        assert_eq!(words.len() % 2, 1, "each word ends with a zero");
    }
}
