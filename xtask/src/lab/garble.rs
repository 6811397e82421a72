//! Garbage on purpose: noise for a port, and something that answers in a switch's place with noise, cut,
//! oversized and unasked-for SNMP.

use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;

use anyhow::{Context, Result};

/// Datagrams of each small kind for one question.
const EACH: usize = 10;
/// An oversized datagram: one is enough for a socket's buffer.
const LARGE: usize = 60_000;

/// Sends so many datagrams to an address: `head` (hexadecimal digits) and so many random bytes behind it.
pub fn noise(address: &str, head: &str, bytes: usize, count: usize) -> Result<()> {
    let head = (0..head.len())
        .step_by(2)
        .map(|at| head.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
        .collect::<Option<Vec<u8>>>()
        .with_context(|| format!("'{head}' is not hexadecimal"))?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("opening a socket")?;
    let mut chance = File::open("/dev/urandom").context("opening /dev/urandom")?;
    let mut datagram = [head.as_slice(), &vec![0; bytes]].concat();
    for _ in 0..count {
        chance.read_exact(&mut datagram[head.len()..]).context("reading random bytes")?;
        socket.send_to(&datagram, address).with_context(|| format!("sending to {address}"))?;
    }
    Ok(())
}

/// Answers so many questions, and prints how many datagrams were malformed and how many nobody asked for.
pub fn answer(address: &str, questions: usize) -> Result<()> {
    let socket = UdpSocket::bind(address).with_context(|| format!("listening at {address}"))?;
    let (mut malformed, mut unasked) = (0, 0);
    let mut question = [0; 1_500];
    for _ in 0..questions {
        let (length, from) = socket.recv_from(&mut question).context("waiting for a question")?;
        let question = &question[..length];
        let say = |datagram: &[u8], count: &mut usize| -> Result<()> {
            socket.send_to(datagram, from).context("answering")?;
            *count += 1;
            Ok(())
        };
        for number in 0..EACH {
            let fill = u8::try_from(number * 23 % 256).unwrap_or_default();
            say(&[fill; 40], &mut malformed)?;
            say(&question[..length / 2 - number], &mut malformed)?;
            say(&other(question, fill), &mut unasked)?;
        }
        say(&vec![0x30; LARGE], &mut malformed)?;
    }
    println!("{malformed} {unasked}");
    Ok(())
}

/// An answer as to this question (SNMP version 1 or 2c, short lengths) but with another request id.
fn other(question: &[u8], difference: u8) -> Vec<u8> {
    let mut answer = question.to_vec();
    // Sequence, version, community; then the kind of the message, its length, and the request id.
    let kind = question.get(6).map(|community| 7 + usize::from(*community));
    let last = kind.and_then(|kind| Some(kind + 3 + usize::from(*question.get(kind + 3)?)));
    if let (Some(kind), Some(last)) = (kind, last.filter(|last| *last < question.len())) {
        answer[kind] = 0xa2;
        answer[last] = answer[last].wrapping_add(difference | 1);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_nobody_asked_for_differs_in_kind_and_request_id_only() {
        let head = b"\x30\x1c\x02\x01\x01\x04\x06public";
        let question = [&head[..], b"\xa5\x0f\x02\x02\x12\x34\x02\x01\x00\x02\x01\x19\x30\x00"].concat();
        let wanted = [&head[..], b"\xa2\x0f\x02\x02\x12\x37\x02\x01\x00\x02\x01\x19\x30\x00"].concat();
        assert_eq!(other(&question, 2), wanted);
        assert_eq!(other(&head[..5], 2), head[..5], "no question of SNMP");
    }
}
