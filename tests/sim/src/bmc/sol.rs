//! Serial over LAN (IPMI 2.0 section 15) with the machine's console behind it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Console output kept while nobody looks; the oldest bytes go first.
pub const HISTORY: usize = 64 * 1024;
/// Typed pieces that may wait for the machine; more are refused with a NACK.
pub const TYPED: usize = 64;

const PIECE: usize = 200;
const AGAIN: Duration = Duration::from_millis(500);
const TRIES: u32 = 20;
const NACK: u8 = 0x40;

/// The serial console of a machine.
#[derive(Default)]
pub struct Console {
    waiting: VecDeque<u8>,
    viewer: Option<Viewer>,
    typed: Option<mpsc::Sender<Vec<u8>>>,
}

struct Viewer {
    session: u32,
    peer: SocketAddr,
    sequence: u8,
    unacknowledged: Option<Unacknowledged>,
    last_heard: u8,
}

struct Unacknowledged {
    data: Vec<u8>,
    next: Instant,
    tries: u32,
}

impl Console {
    /// Bytes the machine prints.
    pub fn print(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        let surplus = self.waiting.len().saturating_sub(HISTORY);
        self.waiting.drain(..surplus);
    }

    /// A channel with what is typed at the console; a later call replaces it.
    pub fn listen(&mut self) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(TYPED);
        self.typed = Some(sender);
        receiver
    }

    /// Whether somebody looks.
    pub fn active(&self) -> bool {
        self.viewer.is_some()
    }

    /// Session of who looks.
    pub fn owner(&self) -> Option<u32> {
        self.viewer.as_ref().map(|viewer| viewer.session)
    }

    /// Whether this session looks.
    pub fn belongs_to(&self, session: u32) -> bool {
        self.owner() == Some(session)
    }

    /// A session begins to look.
    pub fn activate(&mut self, session: u32, peer: SocketAddr) {
        self.viewer = Some(Viewer { session, peer, sequence: 0, unacknowledged: None, last_heard: 0 });
    }

    /// The session does not look any more.
    pub fn deactivate(&mut self, session: u32) {
        if self.belongs_to(session) {
            self.viewer = None;
        }
    }

    /// When [`Console::due`] should be asked again.
    pub fn deadline(&self) -> Option<Instant> {
        self.viewer.as_ref()?.unacknowledged.as_ref().map(|piece| piece.next)
    }

    /// A payload from the viewer; gives the payloads to send back.
    pub fn receive(&mut self, payload: &[u8], now: Instant) -> Vec<Vec<u8>> {
        let (Some(viewer), [sequence, acknowledged, _accepted, status, typed @ ..]) =
            (&mut self.viewer, payload)
        else {
            return Vec::new();
        };
        let (sequence, acknowledged) = (sequence & 0x0f, acknowledged & 0x0f);
        if acknowledged != 0 && acknowledged == viewer.sequence {
            if status & NACK == 0 {
                viewer.unacknowledged = None;
            } else if let Some(piece) = &mut viewer.unacknowledged {
                piece.next = now;
            }
        }
        if sequence == 0 {
            return Vec::new();
        }
        let repeated = sequence == viewer.last_heard;
        let taken = repeated
            || typed.is_empty()
            || self.typed.as_ref().is_none_or(|machine| machine.try_send(typed.to_vec()).is_ok());
        if taken {
            viewer.last_heard = sequence;
        }
        let count = if taken { u8::try_from(typed.len()).unwrap_or(u8::MAX) } else { 0 };
        vec![vec![0, sequence, count, if taken { 0 } else { NACK }]]
    }

    /// The next payload to send now: new output, or an unacknowledged piece once more.
    pub fn due(&mut self, now: Instant) -> Option<(u32, SocketAddr, Vec<u8>)> {
        let viewer = self.viewer.as_mut()?;
        if viewer.unacknowledged.is_none() {
            let data: Vec<u8> = self.waiting.drain(..PIECE.min(self.waiting.len())).collect();
            if data.is_empty() {
                return None;
            }
            viewer.sequence = viewer.sequence % 15 + 1;
            viewer.unacknowledged = Some(Unacknowledged { data, next: now, tries: 0 });
        }
        let piece = viewer.unacknowledged.as_mut()?;
        if piece.next > now {
            return None;
        }
        if piece.tries == TRIES {
            self.viewer = None;
            return None;
        }
        piece.tries += 1;
        piece.next = now + AGAIN;
        let mut payload = vec![viewer.sequence, 0, 0, 0];
        payload.extend(&piece.data);
        Some((viewer.session, viewer.peer, payload))
    }
}
