//! RMCP+ sessions: opening them (IPMI 2.0 section 13) and keeping their sequence numbers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::brain::Brain;
use super::commands::Caller;
use super::packet::{self, Message, Plus};
use super::suite::{Keys, Suite};

/// Sessions at one time; a further one takes the place of the oldest unfinished or idle one.
pub const SESSIONS: usize = 8;

const IDLE: Duration = Duration::from_secs(60);

const OK: u8 = 0x00;
const NO_RESOURCES: u8 = 0x01;
const UNKNOWN_SESSION: u8 = 0x02;
const BAD_AUTHENTICATION: u8 = 0x04;
const BAD_ROLE: u8 = 0x09;
const UNAUTHORIZED_NAME: u8 = 0x0d;
const BAD_INTEGRITY_CHECK: u8 = 0x0f;
const NO_SUITE: u8 = 0x11;

/// One session, from Open Session Request on.
pub struct Session {
    client: u32,
    suite: Suite,
    stage: Stage,
    used: Instant,
    highest_in: u32,
    seen_in: u32,
    sequence_out: u32,
    last: Option<(Message, Vec<u8>)>,
}

enum Stage {
    Opened,
    Named { client_random: [u8; 16], bmc_random: [u8; 16], role: u8, user: usize, name: Vec<u8> },
    Active { keys: Keys, privilege: u8, limit: u8, user: usize },
}

impl Brain {
    /// Open Session Request (13.17).
    pub(super) fn open(&mut self, data: &[u8], now: Instant) -> Option<Vec<u8>> {
        if data.len() < 32 {
            return None;
        }
        let (tag, client) = (data[0], u32::from_le_bytes(data[4..8].try_into().ok()?));
        let refuse = |status: u8| {
            let mut out = vec![tag, status, 0, 0];
            out.extend(client.to_le_bytes());
            Some(out)
        };
        let Some(suite) = Suite::from_algorithms(data[12], data[20], data[28]) else {
            return refuse(BAD_AUTHENTICATION);
        };
        if !self.config.suites.contains(&suite.number()) {
            return refuse(NO_SUITE);
        }
        if !self.make_room(now) {
            return refuse(NO_RESOURCES);
        }
        let id = loop {
            let id = u32::from_le_bytes(self.random());
            if id != 0 && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.sessions.insert(
            id,
            Session {
                client,
                suite,
                stage: Stage::Opened,
                used: now,
                highest_in: 0,
                seen_in: 0,
                sequence_out: 0,
                last: None,
            },
        );
        let mut out = vec![tag, OK, if data[1] == 0 { 4 } else { data[1] }, 0];
        out.extend(client.to_le_bytes());
        out.extend(id.to_le_bytes());
        for (kind, algorithm) in (0u8..).zip(suite.algorithms()) {
            out.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
        }
        Some(out)
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.sessions.len() < SESSIONS {
            return true;
        }
        let victim = self
            .sessions
            .iter()
            .filter(|(_, session)| {
                !matches!(session.stage, Stage::Active { .. }) || now.duration_since(session.used) > IDLE
            })
            .min_by_key(|(_, session)| session.used)
            .map(|(id, _)| *id);
        victim.is_some_and(|id| self.sessions.remove(&id).is_some())
    }

    /// RAKP message 1 (13.20) and its answer.
    pub(super) fn rakp1(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() < 28 {
            return None;
        }
        let tag = data[0];
        let id = u32::from_le_bytes(data[4..8].try_into().ok()?);
        let name = data.get(28..28 + usize::from(data[27]))?.to_vec();
        let bmc_random: [u8; 16] = self.random();
        let Some(client) = self.sessions.get(&id).map(|session| session.client) else {
            return Some(vec![tag, UNKNOWN_SESSION, 0, 0, 0, 0, 0, 0]);
        };
        let mut out = vec![tag, OK, 0, 0];
        out.extend(client.to_le_bytes());
        let role = data[24];
        let user = self
            .users
            .iter()
            .position(|user| user.enabled && !user.name.is_empty() && user.name.as_bytes() == name);
        let refusal = match user {
            None => Some(UNAUTHORIZED_NAME),
            Some(user) if role & 0x0f > self.users[user].privilege => Some(BAD_ROLE),
            Some(_) => None,
        };
        let (Some(user), None) = (user, refusal) else {
            out[1] = refusal.unwrap_or(UNAUTHORIZED_NAME);
            self.sessions.remove(&id);
            return Some(out);
        };
        let client_random: [u8; 16] = data[8..24].try_into().ok()?;
        let key = password_key(self, user);
        let mut signed = client.to_le_bytes().to_vec();
        signed.extend(id.to_le_bytes());
        signed.extend(client_random);
        signed.extend(bmc_random);
        signed.extend(self.guid);
        signed.extend([role, data[27]]);
        signed.extend(&name);
        let session = self.sessions.get_mut(&id)?;
        out.extend(bmc_random);
        out.extend(self.guid);
        out.extend(session.suite.hash(&key, &signed));
        session.stage = Stage::Named { client_random, bmc_random, role, user, name };
        Some(out)
    }

    /// RAKP message 3 (13.22) and its answer.
    pub(super) fn rakp3(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() < 8 {
            return None;
        }
        let tag = data[0];
        let id = u32::from_le_bytes(data[4..8].try_into().ok()?);
        let Some(session) = self.sessions.get(&id) else {
            return Some(vec![tag, UNKNOWN_SESSION, 0, 0, 0, 0, 0, 0]);
        };
        let Stage::Named { client_random, bmc_random, role, user, name } = &session.stage else {
            return None;
        };
        let key = password_key(self, *user);
        let mut identity = vec![*role, u8::try_from(name.len()).ok()?];
        identity.extend(name);
        let mut signed = bmc_random.to_vec();
        signed.extend(session.client.to_le_bytes());
        signed.extend(&identity);
        let mut out = vec![tag, OK, 0, 0];
        out.extend(session.client.to_le_bytes());
        if data[1] != OK || session.suite.hash(&key, &signed) != data[8..] {
            out[1] = BAD_INTEGRITY_CHECK;
            self.sessions.remove(&id);
            return Some(out);
        }
        let mut both = client_random.to_vec();
        both.extend(bmc_random);
        both.extend(&identity);
        let sik = session.suite.hash(&key, &both);
        let mut proof = client_random.to_vec();
        proof.extend(id.to_le_bytes());
        proof.extend(self.guid);
        let mut code = session.suite.hash(&sik, &proof);
        code.truncate(session.suite.code_length());
        out.extend(code);
        let limit = match role & 0x0f {
            0 => self.users[*user].privilege,
            role => role,
        };
        let user = *user;
        let session = self.sessions.get_mut(&id)?;
        session.stage =
            Stage::Active { keys: Keys::new(session.suite, &sik), privilege: limit.min(2), limit, user };
        Some(out)
    }
}

fn password_key(brain: &Brain, user: usize) -> Vec<u8> {
    let mut key = brain.users[user].password.clone();
    if brain.config.faults.wrong_password {
        key = b"not this one".to_vec();
    }
    key.resize(20, 0);
    key
}

impl Session {
    /// Checks code and sequence number of a packet and decrypts it.
    pub fn accept(&mut self, plus: &Plus<'_>, now: Instant) -> Option<Vec<u8>> {
        let Stage::Active { keys, .. } = &self.stage else {
            return None;
        };
        if !plus.authenticated || !plus.encrypted || !plus.authentic(keys) {
            return None;
        }
        let payload = keys.decrypt(plus.payload)?;
        self.window(plus.sequence).then(|| {
            self.used = now;
            payload
        })
    }

    /// Each number once, and none more than 31 below the highest.
    fn window(&mut self, sequence: u32) -> bool {
        if sequence > self.highest_in {
            let ahead = sequence - self.highest_in;
            self.seen_in = if ahead > 31 { 0 } else { self.seen_in << ahead };
            self.seen_in |= 1;
            self.highest_in = sequence;
            return true;
        }
        let behind = self.highest_in - sequence;
        if sequence == 0 || behind > 31 || self.seen_in >> behind & 1 == 1 {
            return false;
        }
        self.seen_in |= 1 << behind;
        true
    }

    /// Who asks in this session.
    pub fn caller(&self, id: u32, peer: SocketAddr) -> Caller {
        match &self.stage {
            Stage::Active { privilege, limit, user, .. } => Caller {
                session: id,
                peer: Some(peer),
                privilege: *privilege,
                limit: *limit,
                user: u8::try_from(*user).unwrap_or(0),
                close: false,
            },
            _ => Caller::default(),
        }
    }

    /// Keeps the privilege that Set Session Privilege Level gave.
    pub fn set_privilege(&mut self, new: u8) {
        if let Stage::Active { privilege, .. } = &mut self.stage {
            *privilege = new;
        }
    }

    /// The answer given to the same request before, when this is a retransmission.
    pub fn repeated(&self, message: &Message) -> Option<Vec<u8>> {
        self.last.as_ref().filter(|(known, _)| known == message).map(|(_, answer)| answer.clone())
    }

    /// Keeps the answer for a retransmission.
    pub fn remember(&mut self, message: &Message, answer: &[u8]) {
        self.last = Some((message.clone(), answer.to_vec()));
    }

    /// A packet to the client.
    pub fn seal(&mut self, payload_type: u8, payload: &[u8], iv: [u8; 16]) -> Vec<u8> {
        match &self.stage {
            Stage::Active { keys, .. } => {
                self.sequence_out += 1;
                packet::secured(payload_type, self.client, self.sequence_out, payload, keys, iv)
            }
            _ => Vec::new(),
        }
    }
}
