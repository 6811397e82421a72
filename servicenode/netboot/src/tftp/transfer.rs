//! One transfer after its request was accepted.
//!
//! Invariant: at most one window of blocks is under way, and nothing is sent unless the client
//! acknowledged something or a time ran out, so that datagrams never multiply.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Asked, Code};

/// Largest block granted: fits an Ethernet frame.
pub const MAX_BLKSIZE: u16 = 1468;
/// Largest window granted.
pub const MAX_WINDOW: u16 = 32;
/// How often something is sent again before the client is given up.
pub const RETRANSMISSIONS: u8 = 5;
const DEFAULT_BLKSIZE: u16 = 512;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
/// A client may ask for longer waits, but a seat is not kept for hours.
const MAX_TIMEOUT: u8 = 10;

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The last block was acknowledged.
    Done,
    /// The client sent an ERROR (firmware that only wanted the size does that).
    Aborted,
    /// No acknowledgment after all retransmissions.
    TimedOut,
    /// The client sent something that is neither ACK nor ERROR.
    Illegal,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Datagrams to send, in order.
    pub send: Vec<Vec<u8>>,
    /// The transfer is over.
    pub end: Option<Outcome>,
}

impl Step {
    fn nothing() -> Step {
        Step { send: Vec::new(), end: None }
    }
}

/// A running transfer.
#[derive(Debug)]
pub struct Transfer {
    content: Arc<[u8]>,
    blksize: usize,
    window: u64,
    timeout: Duration,
    /// The OACK, until it is acknowledged.
    oack: Option<Vec<u8>>,
    /// Blocks acknowledged; block numbers on the wire are one based and wrap.
    acked: u64,
    /// Blocks sent.
    sent: u64,
    /// Number of all blocks; the last one is shorter than `blksize`, even empty.
    last: u64,
    /// A doubled acknowledgment made the window go out again already.
    resent: bool,
    tries: u8,
    deadline: Instant,
}

impl Transfer {
    /// Starts a transfer: the answer to the request.
    pub fn start(content: Arc<[u8]>, asked: Asked, now: Instant) -> (Transfer, Step) {
        let blksize = asked.blksize.map_or(DEFAULT_BLKSIZE, |b| b.min(MAX_BLKSIZE));
        let window = asked.windowsize.map_or(1, |w| w.min(MAX_WINDOW));
        let seconds = asked.timeout.map(|t| t.min(MAX_TIMEOUT));
        let mut options = Vec::new();
        let mut grant = |key: &str, value: u64| {
            options.extend_from_slice(key.as_bytes());
            options.push(0);
            options.extend_from_slice(value.to_string().as_bytes());
            options.push(0);
        };
        if asked.blksize.is_some() {
            grant("blksize", blksize.into());
        }
        if asked.tsize {
            grant("tsize", content.len() as u64);
        }
        // RFC 2349 knows only "the same value or no answer" for the timeout.
        if let Some(s) = asked.timeout.filter(|t| Some(*t) == seconds) {
            grant("timeout", s.into());
        }
        if asked.windowsize.is_some() {
            grant("windowsize", window.into());
        }
        let oack = (!options.is_empty()).then(|| [&[0, 6], options.as_slice()].concat());
        let last = (content.len() / usize::from(blksize)) as u64 + 1;
        let mut transfer = Transfer {
            content,
            blksize: blksize.into(),
            window: window.into(),
            timeout: seconds.map_or(DEFAULT_TIMEOUT, |s| Duration::from_secs(s.into())),
            oack,
            acked: 0,
            sent: 0,
            last,
            resent: false,
            tries: 0,
            deadline: now,
        };
        let send = transfer.current(now);
        (transfer, Step { send, end: None })
    }

    /// When `elapsed` must be called if nothing arrives.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A datagram of the client.
    pub fn received(&mut self, datagram: &[u8], now: Instant) -> Step {
        match datagram {
            [0, 4, high, low, ..] => self.acknowledged(u16::from_be_bytes([*high, *low]), now),
            [0, 5, ..] => Step { send: Vec::new(), end: Some(Outcome::Aborted) },
            _ => {
                Step { send: vec![super::error(Code::Illegal, "expected ACK")], end: Some(Outcome::Illegal) }
            }
        }
    }

    /// The deadline passed.
    pub fn elapsed(&mut self, now: Instant) -> Step {
        if now < self.deadline {
            return Step::nothing();
        }
        if self.tries >= RETRANSMISSIONS {
            let text = super::error(Code::Undefined, "timed out");
            return Step { send: vec![text], end: Some(Outcome::TimedOut) };
        }
        self.tries += 1;
        Step { send: self.current(now), end: None }
    }

    fn acknowledged(&mut self, number: u16, now: Instant) -> Step {
        if self.oack.is_some() {
            if number != 0 {
                return Step::nothing();
            }
            self.oack = None;
            self.tries = 0;
            return Step { send: self.current(now), end: None };
        }
        // Distance from the last acknowledged block, across the wrap of 16 bits.
        let ahead = u64::from(number.wrapping_sub((self.acked & 0xffff) as u16));
        if ahead == 0 {
            // The first block of a window was lost, or the ACK was doubled on its way. With a
            // window of one the second is meant (the sorcerer's apprentice), and time decides.
            if self.window == 1 || self.resent || self.sent == self.acked {
                return Step::nothing();
            }
            self.resent = true;
            return Step { send: self.current(now), end: None };
        }
        if ahead > self.sent - self.acked {
            return Step::nothing();
        }
        self.acked += ahead;
        self.tries = 0;
        self.resent = false;
        if self.acked == self.last {
            return Step { send: Vec::new(), end: Some(Outcome::Done) };
        }
        Step { send: self.current(now), end: None }
    }

    /// The OACK or the window behind the last acknowledged block.
    fn current(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.deadline = now + self.timeout;
        if let Some(oack) = &self.oack {
            return vec![oack.clone()];
        }
        self.sent = (self.acked + self.window).min(self.last);
        (self.acked..self.sent).map(|index| self.block(index)).collect()
    }

    fn block(&self, index: u64) -> Vec<u8> {
        let from = index as usize * self.blksize;
        let to = (from + self.blksize).min(self.content.len());
        let number = ((index + 1) & 0xffff) as u16;
        let mut out = Vec::with_capacity(4 + to - from);
        out.extend_from_slice(&3u16.to_be_bytes());
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&self.content[from..to]);
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn content(len: usize) -> Arc<[u8]> {
        (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    fn ack(n: u64) -> [u8; 4] {
        let [a, b] = ((n & 0xffff) as u16).to_be_bytes();
        [0, 4, a, b]
    }

    /// Reads a whole content as a client with a window would; one block of `lose` is lost.
    fn read(len: usize, asked: Asked, lose: u64) -> Vec<u8> {
        let want = content(len);
        let now = Instant::now();
        let (mut t, mut step) = Transfer::start(want, asked, now);
        let (block, window) =
            (usize::from(asked.blksize.unwrap_or(512)), usize::from(asked.windowsize.unwrap_or(1)));
        let (mut got, mut expected, mut seen, mut clock) = (Vec::new(), 1u64, 1u64, now);
        loop {
            if let Some(end) = step.end {
                assert_eq!(end, Outcome::Done);
                return got;
            }
            let (mut in_window, mut answer) = (0, None);
            for d in &step.send {
                if d[1] == 6 {
                    answer = Some(0);
                    continue;
                }
                seen = seen.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                if lose > 0 && (seen >> 33).is_multiple_of(lose) {
                    continue;
                }
                let number = u16::from_be_bytes([d[2], d[3]]);
                if number != (expected & 0xffff) as u16 {
                    answer = Some(expected - 1);
                    continue;
                }
                got.extend_from_slice(&d[4..]);
                expected += 1;
                in_window += 1;
                if d.len() - 4 < block || in_window == window {
                    answer = Some(expected - 1);
                }
            }
            step = match answer {
                Some(n) => t.received(&ack(n), clock),
                None => Step::nothing(),
            };
            if step.send.is_empty() && step.end.is_none() {
                clock = t.deadline();
                step = t.elapsed(clock);
            }
        }
    }

    #[test]
    fn content_arrives_whole_at_all_sizes_windows_and_losses() {
        for len in [0, 1, 511, 512, 513, 1468 * 40, 100_000] {
            for (blksize, windowsize) in
                [(None, None), (Some(1468), None), (Some(1024), Some(16)), (None, Some(3))]
            {
                for lose in [0, 5, 7, 13] {
                    let asked = Asked { blksize, windowsize, ..Asked::default() };
                    assert_eq!(read(len, asked, lose), *content(len), "{len} {asked:?} {lose}");
                }
            }
        }
    }

    #[test]
    fn block_numbers_wrap_after_65535() {
        let asked = Asked { blksize: Some(8), windowsize: Some(32), ..Asked::default() };
        assert_eq!(read(8 * 70_000 + 3, asked, 0), *content(8 * 70_000 + 3));
    }

    #[test]
    fn options_are_granted_within_our_limits() {
        let asked = Asked { blksize: Some(65464), tsize: true, timeout: Some(3), windowsize: Some(64) };
        let (_, step) = Transfer::start(content(1000), asked, Instant::now());
        assert_eq!(
            step.send,
            [b"\0\x06blksize\x001468\0tsize\x001000\0timeout\x003\0windowsize\x0032\0".to_vec()]
        );
        let asked = Asked { timeout: Some(200), ..Asked::default() };
        let (_, step) = Transfer::start(content(10), asked, Instant::now());
        assert_eq!(step.send[0][1], 3, "a timeout that we do not keep is not granted");
    }

    #[test]
    fn silent_client_is_given_up_after_five_retransmissions() {
        let now = Instant::now();
        let (mut t, first) = Transfer::start(content(2000), Asked::default(), now);
        let mut clock = now;
        for _ in 0..RETRANSMISSIONS {
            assert_eq!(t.elapsed(clock), Step::nothing(), "not before its time");
            clock = t.deadline();
            assert_eq!(t.elapsed(clock).send, first.send);
        }
        clock = t.deadline();
        assert_eq!(t.elapsed(clock).end, Some(Outcome::TimedOut));
    }

    #[test]
    fn doubled_acknowledgments_do_not_double_the_blocks() {
        let now = Instant::now();
        let (mut t, _) = Transfer::start(content(5000), Asked::default(), now);
        assert_eq!(t.received(&ack(1), now).send.len(), 1);
        assert_eq!(t.received(&ack(1), now), Step::nothing());
        assert_eq!(t.received(&ack(0), now), Step::nothing());
        assert_eq!(t.received(&ack(9), now), Step::nothing(), "a block that was never sent");
        let asked = Asked { windowsize: Some(4), ..Asked::default() };
        let (mut t, _) = Transfer::start(content(50_000), asked, now);
        assert_eq!(t.received(&ack(0), now).send.len(), 4);
        assert_eq!(t.received(&ack(4), now).send.len(), 4);
        assert_eq!(t.received(&ack(4), now).send.len(), 4, "the window is sent again once");
        assert_eq!(t.received(&ack(4), now), Step::nothing());
    }

    #[test]
    fn error_of_the_client_ends_and_anything_else_is_illegal() {
        let now = Instant::now();
        let (mut t, _) = Transfer::start(content(10), Asked::default(), now);
        assert_eq!(t.received(b"\0\x05\0\0stop\0", now).end, Some(Outcome::Aborted));
        for d in [&b""[..], b"\0", b"\0\x04\0", b"\0\x01f\0octet\0", b"\xff\xff\xff\xff"] {
            assert_eq!(t.received(d, now).end, Some(Outcome::Illegal));
        }
    }
}
