//! The way into a session: capabilities, Open Session, RAKP messages 1 to 4 (IPMI 2.0 §13.17 to 24).

use std::time::Instant;

use super::{ADMINISTRATOR, Active, Failure, OPERATOR, Outgoing, PAUSE, Pending, Session, Stage, Window};
use crate::ipmi::decode;
use crate::ipmi::message::Response;
use crate::ipmi::packet;
use crate::ipmi::suite::Keys;

/// Look the user up by name only.
const NAME_ONLY: u8 = 0x10;
/// Openings that are begun again after a doubtful proof.
const MOST_DOUBTS: u32 = 3;
/// Length of keys made of passwords.
const KEY: usize = 20;

/// RMCP+ status codes (IPMI 2.0 table 13-15).
mod status {
    pub const OK: u8 = 0x00;
    pub const NO_RESOURCES: u8 = 0x01;
    pub const UNKNOWN_SESSION: u8 = 0x02;
    pub const BAD_AUTHENTICATION: u8 = 0x04;
    pub const BAD_INTEGRITY: u8 = 0x05;
    pub const BAD_ROLE: u8 = 0x09;
    pub const ROLE_DENIED: u8 = 0x0a;
    pub const UNKNOWN_NAME: u8 = 0x0d;
    pub const BAD_CHECK: u8 = 0x0f;
    pub const BAD_CONFIDENTIALITY: u8 = 0x10;
    pub const NO_SUITE: u8 = 0x11;
}

impl Session {
    /// The answer to Get Channel Authentication Capabilities.
    pub(super) fn capabilities(&mut self, message: &[u8], now: Instant) {
        let Stage::Capabilities = self.stage else {
            return;
        };
        let question = decode::capabilities_request(ADMINISTRATOR);
        let Some(response) = Response::decode(message).filter(|response| response.answers(&question, 0))
        else {
            return;
        };
        // A BMC that refuses the question may still open a session: only a clear "no" ends it here.
        if response.code == 0 {
            match decode::speaks_ipmi_2(&response.data) {
                Some(true) => {}
                Some(false) => {
                    return self
                        .fail(Failure::Refused("it speaks only IPMI 1.5, which is not supported".into()));
                }
                None => return,
            }
        }
        self.tries = 0;
        self.open(now);
    }

    /// Sends Open Session Request with the present suite and privilege.
    pub(super) fn open(&mut self, now: Instant) {
        let Some(suite) = self.suites.get(self.suite).copied() else {
            return self.fail(Failure::Refused("it takes neither cipher suite 17 nor 3".into()));
        };
        self.tag = self.tag.wrapping_add(1);
        let fresh = self.draw();
        self.console = u32::from_le_bytes([fresh[0], fresh[1], fresh[2], fresh[3]]).max(1);
        let mut request = vec![self.tag, self.privilege, 0, 0];
        request.extend(self.console.to_le_bytes());
        for (kind, algorithm) in (0u8..).zip(suite.algorithms()) {
            request.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        self.stage = Stage::Open;
        self.send(Outgoing::Packet(packet::unsecured(packet::OPEN_REQUEST, &request)), PAUSE, now);
    }

    /// Open Session Response.
    pub(super) fn opened(&mut self, data: &[u8], now: Instant) {
        let (Stage::Open, [tag, code, ..]) = (&self.stage, data) else {
            return;
        };
        if *tag != self.tag || word(data, 4).is_some_and(|console| console != self.console) {
            return;
        }
        match *code {
            status::OK => {}
            status::BAD_AUTHENTICATION
            | status::BAD_INTEGRITY
            | status::BAD_CONFIDENTIALITY
            | status::NO_SUITE => return self.next_suite(now),
            code => return self.refused(code, now),
        }
        let (Some(suite), Some(bmc)) = (self.suites.get(self.suite).copied(), word(data, 8)) else {
            return;
        };
        let chosen: Option<Vec<u8>> =
            [16, 24, 32].iter().map(|at| data.get(*at).map(|byte| byte & 0x3f)).collect();
        if bmc == 0 || chosen.is_none() {
            return;
        }
        // accepting another suite than asked for would let a BMC (or who plays one) talk us down to suite 0
        if chosen.as_deref() != Some(&suite.algorithms()) {
            return self
                .fail(Failure::Refused("it chose another cipher suite than the one asked for".into()));
        }
        self.tries = 0;
        self.tag = self.tag.wrapping_add(1);
        let random = self.draw();
        let mut request = vec![self.tag, 0, 0, 0];
        request.extend(bmc.to_le_bytes());
        request.extend(random);
        request.extend(self.role());
        self.stage = Stage::Key { bmc, random };
        self.send(Outgoing::Packet(packet::unsecured(packet::RAKP1, &request)), PAUSE, now);
    }

    /// RAKP message 2: the BMC proves that it knows the password.
    pub(super) fn key(&mut self, data: &[u8], now: Instant) {
        let (Stage::Key { bmc, random }, [tag, code, ..]) = (&self.stage, data) else {
            return;
        };
        if *tag != self.tag || word(data, 4).is_some_and(|console| console != self.console) {
            return;
        }
        if *code != status::OK {
            return self.refused(*code, now);
        }
        let Some(suite) = self.suites.get(self.suite).copied() else {
            return;
        };
        let (bmc, random) = (*bmc, *random);
        let (Some(bmc_random), Some(guid), Some(code)) =
            (data.get(8..24), data.get(24..40), data.get(40..40 + suite.hash_length()))
        else {
            return;
        };
        let role = self.role();
        // bytes 2 and 3 of the role field are reserved and not part of what is signed
        let identity = [&role[..1], &role[3..]].concat();
        let (console, session) = (self.console.to_le_bytes(), bmc.to_le_bytes());
        let key = self.password_key();
        let signed: [&[u8]; 6] = [&console, &session, &random, bmc_random, guid, &identity];
        if !suite.verify(&key, &signed, code) {
            return self.fail(Failure::Password);
        }
        let answer = suite.hash(&key, &[bmc_random, &console, &identity]);
        let sik = suite.hash(&key, &[&random, bmc_random, &identity]);
        let mut code = suite.hash(&sik, &[&random, &session, guid]);
        code.truncate(suite.code_length());
        self.tries = 0;
        self.tag = self.tag.wrapping_add(1);
        let mut request = vec![self.tag, 0, 0, 0];
        request.extend(session);
        request.extend(answer);
        let doubtful = self.pending.as_ref().is_some_and(|pending| pending.tries > 1);
        self.stage = Stage::Proof { bmc, keys: Keys::new(suite, &sik), code, doubtful };
        self.send(Outgoing::Packet(packet::unsecured(packet::RAKP3, &request)), PAUSE, now);
    }

    /// RAKP message 4: the session is open.
    pub(super) fn proof(&mut self, data: &[u8], now: Instant) {
        let (Stage::Proof { bmc, keys, code: expected, doubtful }, [tag, code, ..]) = (&self.stage, data)
        else {
            return;
        };
        if *tag != self.tag || word(data, 4).is_some_and(|console| console != self.console) {
            return;
        }
        match *code {
            status::OK => {}
            // A slow BMC that got message 1 twice drew a second random number and waits for a proof of that
            // one, while ours answers the first.
            status::BAD_CHECK if *doubtful && self.doubts < MOST_DOUBTS => {
                self.doubts += 1;
                return self.open(now);
            }
            status::BAD_CHECK => return self.fail(Failure::Password),
            code => return self.refused(code, now),
        }
        if data.get(8..8 + expected.len()) != Some(expected) {
            return self.fail(Failure::Refused("its last proof is wrong".into()));
        }
        self.stage = Stage::Active(Active {
            bmc: *bmc,
            keys: keys.clone(),
            sequence: 0,
            window: Window::default(),
            ready: false,
        });
        self.tries = 0;
        self.ask_privilege(now);
    }

    /// Three messages of the opening got no answer: starts again, with the next suite when the BMC
    /// perhaps does not answer because of the suite. False when going on as before is right.
    pub(super) fn start_again_unheard(&mut self, now: Instant) -> bool {
        match self.stage {
            Stage::Open => {
                self.suite = (self.suite + 1) % self.suites.len().max(1);
                self.open(now);
                true
            }
            // the BMC may have taken message 3 and lost its answer; it will not take it twice
            Stage::Key { .. } | Stage::Proof { .. } => {
                self.open(now);
                true
            }
            Stage::Capabilities | Stage::Active(_) | Stage::Over => false,
        }
    }

    fn next_suite(&mut self, now: Instant) {
        self.suite += 1;
        self.tries = 0;
        self.open(now);
    }

    fn refused(&mut self, code: u8, now: Instant) {
        match code {
            // all its sessions are taken, or it forgot ours: ask again after a pause
            status::NO_RESOURCES | status::UNKNOWN_SESSION => {
                self.stage = Stage::Open;
                self.pending = Some(Pending {
                    what: Outgoing::OpenLater,
                    next: now + PAUSE * 2,
                    pause: PAUSE,
                    tries: 0,
                });
            }
            status::BAD_ROLE | status::ROLE_DENIED | status::UNKNOWN_NAME
                if self.privilege == ADMINISTRATOR =>
            {
                self.privilege = OPERATOR;
                self.open(now);
            }
            status::BAD_ROLE | status::ROLE_DENIED => {
                self.fail(Failure::Denied("the user may not have operator privilege"));
            }
            status::UNKNOWN_NAME => self.fail(Failure::Denied("it does not know the user name")),
            status::BAD_CHECK => self.fail(Failure::Password),
            code => self.fail(Failure::Refused(format!("RMCP+ status {code:02X}h"))),
        }
    }

    /// Role, two reserved bytes, name length and name, as in RAKP message 1.
    fn role(&self) -> Vec<u8> {
        let name = self.login.user.as_bytes();
        let mut role = vec![NAME_ONLY | self.privilege, 0, 0];
        role.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        role.extend(name);
        role
    }

    fn password_key(&self) -> Vec<u8> {
        let mut key = self.login.password.clone();
        key.resize(KEY, 0);
        key
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
