//! An RMCP+ session as a pure state machine: bytes and time in, bytes and events out.
//!
//! It asks for the BMC's capabilities, opens a session with the best suite the BMC takes, proves the
//! password both ways, takes the highest privilege it gets, and then carries one request at a time.
//! Lost packets are sent again with growing pauses. It never gives up by itself while there is no
//! answer: the caller has the deadline.
//!
//! Invariant: after [`Event::Failed`] nothing is sent and nothing is accepted any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::decode;
use super::message::{Request, Response};
use super::packet::{self, Packet, Plus};
use super::suite::{Keys, Suite};

mod opening;

/// Longest user name (IPMI 2.0 §22.28).
pub const MAX_USER: usize = 16;
/// Longest password (IPMI 2.0 §22.30).
pub const MAX_PASSWORD: usize = 20;

/// The first pause before a request is sent again.
const PAUSE: Duration = Duration::from_millis(500);
/// The first pause for requests that do something each time they are carried out.
const CAREFUL_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Unanswered messages of the opening after which it starts again from Open Session Request.
const OPENING_TRIES: u32 = 3;

const ADMINISTRATOR: u8 = 4;
const OPERATOR: u8 = 3;
const USER: u8 = 2;

/// Who logs in.
#[derive(Clone)]
pub struct Login {
    /// User name of 1 to 16 bytes.
    pub user: String,
    /// Password of at most 20 bytes.
    pub password: Vec<u8>,
}

/// What the session tells its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Send these bytes to the BMC.
    Send(Vec<u8>),
    /// The session is open: a request may be given.
    Ready,
    /// The answer to the request.
    Answer(Response),
    /// The session ended for this reason.
    Failed(Failure),
}

/// Why a BMC does not let us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The password is wrong.
    Password,
    /// The user is unknown or may not do anything.
    Denied(&'static str),
    /// Another refusal.
    Refused(String),
}

/// What the session is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Get Channel Authentication Capabilities.
    Capabilities,
    /// Open Session Request.
    Open,
    /// RAKP messages 1 and 2.
    Key,
    /// RAKP messages 3 and 4.
    Proof,
    /// Set Session Privilege Level.
    Privilege,
    /// A request of the owner.
    Request,
    /// Nothing: the session is open.
    Idle,
    /// Nothing: the session is over.
    Over,
}

impl Step {
    /// In words, to follow "while".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Capabilities => "asking for its capabilities",
            Self::Open => "opening the session",
            Self::Key => "exchanging keys",
            Self::Proof => "proving the password",
            Self::Privilege => "setting the privilege",
            Self::Request => "carrying out the command",
            Self::Idle | Self::Over => "doing nothing",
        }
    }
}

/// A session with one BMC.
pub struct Session {
    login: Login,
    seed: [u8; 32],
    drawn: u64,
    suites: Vec<Suite>,
    suite: usize,
    privilege: u8,
    stage: Stage,
    tag: u8,
    console: u32,
    message: u8,
    pending: Option<Pending>,
    tries: u32,
    /// Openings begun again because a refused proof may have come from our own repetition.
    doubts: u32,
    events: VecDeque<Event>,
}

/// What must be known at each moment, and no more.
enum Stage {
    Capabilities,
    Open,
    Key { bmc: u32, random: [u8; 16] },
    Proof { bmc: u32, keys: Keys, code: Vec<u8>, doubtful: bool },
    Active(Active),
    Over,
}

struct Active {
    bmc: u32,
    keys: Keys,
    sequence: u32,
    window: Window,
    ready: bool,
}

/// What was sent and not answered.
struct Pending {
    what: Outgoing,
    next: Instant,
    pause: Duration,
    tries: u32,
}

enum Outgoing {
    /// Nothing yet: the BMC asked for patience before a session is opened.
    OpenLater,
    /// The same bytes again.
    Packet(Vec<u8>),
    /// The same message in a packet with a new sequence number.
    Message { request: Request, sequence: u8 },
}

/// Sequence numbers seen: each once, none older than 31 behind the newest.
#[derive(Default)]
struct Window {
    highest: u32,
    seen: u32,
}

impl Session {
    /// Begins a session. `seed` must be fresh random bytes: keys and IVs come from it. `suites` are
    /// tried in their order.
    #[must_use]
    pub fn new(login: Login, suites: &[Suite], seed: [u8; 32], now: Instant) -> Self {
        let mut session = Self {
            login,
            seed,
            drawn: 0,
            suites: suites.to_vec(),
            suite: 0,
            privilege: ADMINISTRATOR,
            stage: Stage::Capabilities,
            tag: 0,
            console: 0,
            message: 0,
            pending: None,
            tries: 0,
            doubts: 0,
            events: VecDeque::new(),
        };
        let question = decode::capabilities_request(ADMINISTRATOR).encode(0);
        session.send(Outgoing::Packet(packet::plain(&question)), PAUSE, now);
        session
    }

    /// The next thing for the owner to do.
    pub fn event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::tick`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.next)
    }

    /// What it is waiting for.
    #[must_use]
    pub fn step(&self) -> Step {
        match &self.stage {
            Stage::Capabilities => Step::Capabilities,
            Stage::Open => Step::Open,
            Stage::Key { .. } => Step::Key,
            Stage::Proof { .. } => Step::Proof,
            Stage::Active(active) => match (&self.pending, active.ready) {
                (None, _) => Step::Idle,
                (Some(_), true) => Step::Request,
                (Some(_), false) => Step::Privilege,
            },
            Stage::Over => Step::Over,
        }
    }

    /// Packets sent since the last answer that counted.
    #[must_use]
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// The suite in use once the session is open.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        matches!(self.stage, Stage::Active(_)).then(|| self.suites.get(self.suite).copied())?
    }

    /// Sends a request; only while [`Step::Idle`]. A `careful` request is repeated late, because a BMC
    /// may carry it out once for each copy.
    ///
    /// # Panics
    /// When the session is not idle: the owner has overlooked an event.
    pub fn request(&mut self, request: Request, careful: bool, now: Instant) {
        assert_eq!(self.step(), Step::Idle, "one request at a time");
        self.tries = 0;
        self.message = (self.message + 1) & 0x3f;
        let pause = if careful { CAREFUL_PAUSE } else { PAUSE };
        self.send(Outgoing::Message { request, sequence: self.message }, pause, now);
    }

    /// Time has passed: sends again what is due.
    pub fn tick(&mut self, now: Instant) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        if pending.next > now {
            self.pending = Some(pending);
            return;
        }
        if matches!(pending.what, Outgoing::OpenLater) {
            return self.open(now);
        }
        if pending.tries >= OPENING_TRIES && self.start_again_unheard(now) {
            return;
        }
        pending.pause = (pending.pause * 3 / 2).min(LONGEST_PAUSE);
        pending.next = now + pending.pause;
        pending.tries += 1;
        self.transmit(&pending.what);
        self.pending = Some(pending);
    }

    /// Bytes came from the BMC's address. What does not belong here is ignored.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) {
        match packet::parse(datagram) {
            Some(Packet::Plain(message)) => self.capabilities(message, now),
            Some(Packet::Plus(plus)) if plus.session == 0 => match plus.kind {
                packet::OPEN_RESPONSE => self.opened(plus.payload, now),
                packet::RAKP2 => self.key(plus.payload, now),
                packet::RAKP4 => self.proof(plus.payload, now),
                _ => {}
            },
            Some(Packet::Plus(plus)) => self.secured(&plus, now),
            None => {}
        }
    }

    /// Ends the session; the packet tells an open one's BMC, once and without waiting.
    #[must_use]
    pub fn close(&mut self) -> Option<Vec<u8>> {
        let bmc = match &self.stage {
            Stage::Active(active) => active.bmc,
            _ => 0,
        };
        self.message = (self.message + 1) & 0x3f;
        let bytes = Request::new(0x06, 0x3c, bmc.to_le_bytes()).encode(self.message);
        let farewell = self.seal(&bytes);
        self.stage = Stage::Over;
        self.pending = None;
        self.events.clear();
        farewell
    }

    fn secured(&mut self, plus: &Plus<'_>, now: Instant) {
        let (Stage::Active(active), Some(Pending { what: Outgoing::Message { request, sequence }, .. })) =
            (&mut self.stage, &self.pending)
        else {
            return;
        };
        if plus.session != self.console || plus.kind != packet::IPMI {
            return;
        }
        let Some(payload) = plus.open(&active.keys) else {
            return;
        };
        if !active.window.admit(plus.sequence) {
            return;
        }
        let Some(response) =
            Response::decode(&payload).filter(|response| response.answers(request, *sequence))
        else {
            return;
        };
        let ready = active.ready;
        self.pending = None;
        self.tries = 0;
        if ready {
            self.events.push_back(Event::Answer(response));
        } else {
            self.privileged(response.code, now);
        }
    }

    /// The answer to Set Session Privilege Level.
    fn privileged(&mut self, code: u8, now: Instant) {
        match (code, self.privilege) {
            (0, _) => {
                if let Stage::Active(active) = &mut self.stage {
                    active.ready = true;
                }
                self.events.push_back(Event::Ready);
            }
            (_, ADMINISTRATOR) => {
                self.privilege = OPERATOR;
                self.ask_privilege(now);
            }
            (_, OPERATOR) => {
                self.privilege = USER;
                self.ask_privilege(now);
            }
            _ => self.fail(Failure::Denied("the user has no privilege")),
        }
    }

    fn ask_privilege(&mut self, now: Instant) {
        self.message = (self.message + 1) & 0x3f;
        let request = Request::new(0x06, 0x3b, [self.privilege]);
        self.send(Outgoing::Message { request, sequence: self.message }, PAUSE, now);
    }

    fn send(&mut self, what: Outgoing, pause: Duration, now: Instant) {
        self.transmit(&what);
        self.pending = Some(Pending { what, next: now + pause, pause, tries: 1 });
    }

    fn transmit(&mut self, what: &Outgoing) {
        let bytes = match what {
            Outgoing::OpenLater => None,
            Outgoing::Packet(bytes) => Some(bytes.clone()),
            Outgoing::Message { request, sequence } => self.seal(&request.encode(*sequence)),
        };
        self.tries += 1;
        self.events.extend(bytes.map(Event::Send));
    }

    fn seal(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let iv = self.draw();
        let Stage::Active(active) = &mut self.stage else {
            return None;
        };
        active.sequence = active.sequence.wrapping_add(1).max(1);
        Some(packet::secured(packet::IPMI, active.bmc, active.sequence, payload, &active.keys, iv))
    }

    fn fail(&mut self, failure: Failure) {
        self.stage = Stage::Over;
        self.pending = None;
        self.events.push_back(Event::Failed(failure));
    }

    /// Sixteen fresh bytes out of the seed.
    fn draw(&mut self) -> [u8; 16] {
        self.drawn += 1;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.seed).expect("HMAC takes keys of every length");
        mac.update(&self.drawn.to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        bytes
    }
}

impl Window {
    fn admit(&mut self, sequence: u32) -> bool {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let mask = 1u32.checked_shl(self.highest - sequence).unwrap_or(0);
        let fresh = sequence != 0 && mask != 0 && self.seen & mask == 0;
        self.seen |= mask;
        fresh
    }
}

#[cfg(test)]
mod tests;
