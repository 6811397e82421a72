//! Everything a simulated BMC knows and decides, without a socket.
//!
//! Datagrams go in with their sender, datagrams come out; power changes are collected for the
//! machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ring::rand::{SecureRandom, SystemRandom};

use super::commands::{self, Caller};
use super::config::Config;
use super::machine::{BootDevice, Change};
use super::packet::{self, Message, Packet, Plus};
use super::session::Session;
use super::sol::Console;

/// One user of the BMC (ids 1 to 15; id 1 is the nameless one).
#[derive(Clone, Debug, Default)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Password.
    pub password: Vec<u8>,
    /// May log in.
    pub enabled: bool,
    /// Highest privilege: 4 is administrator.
    pub privilege: u8,
}

/// Boot options parameter 5 and what belongs to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootOptions {
    /// Byte 1: valid (80h), persistent (40h), EFI (20h).
    pub flags: u8,
    /// Byte 2: device in bits 5 to 2.
    pub device: u8,
    /// Bytes 3 to 5.
    pub rest: [u8; 3],
}

/// A BMC without its socket.
pub struct Brain {
    pub(super) config: Config,
    pub(super) guid: [u8; 16],
    pub(super) users: Vec<User>,
    pub(super) power: bool,
    pub(super) boots: u64,
    pub(super) restore_policy: u8,
    pub(super) identify: Identify,
    pub(super) boot: BootOptions,
    pub(super) boot_parameters: BTreeMap<u8, Vec<u8>>,
    pub(super) lan: BTreeMap<u8, Vec<u8>>,
    pub(super) sol_parameters: BTreeMap<u8, Vec<u8>>,
    pub(super) fru: Vec<u8>,
    pub(super) sel: BTreeMap<u16, [u8; 16]>,
    pub(super) sel_next: u16,
    pub(super) reservations: [u16; 2],
    pub(super) console: Console,
    pub(super) sessions: BTreeMap<u32, Session>,
    changes: Vec<Change>,
    random: SystemRandom,
}

/// The identify light.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identify {
    /// Dark.
    Off,
    /// Blinks until this moment.
    Until(Instant),
    /// Blinks until switched off.
    Forever,
}

impl Brain {
    /// A BMC as it leaves the factory, with the administrator of `config` as user 2.
    pub fn new(config: Config) -> Self {
        let mut users = vec![User::default(); 16];
        users[2] = User {
            name: config.user.clone(),
            password: config.password.clone().into_bytes(),
            enabled: true,
            privilege: 4,
        };
        let mut brain = Self {
            guid: config.guid(),
            users,
            power: config.power,
            boots: u64::from(config.power),
            restore_policy: 1,
            identify: Identify::Off,
            boot: BootOptions::default(),
            boot_parameters: BTreeMap::new(),
            lan: commands::lan::defaults(&config),
            sol_parameters: commands::lan::sol_defaults(&config),
            fru: super::fru::image(&config),
            sel: BTreeMap::new(),
            sel_next: 1,
            reservations: [0; 2],
            console: Console::default(),
            sessions: BTreeMap::new(),
            changes: Vec::new(),
            random: SystemRandom::new(),
            config,
        };
        // "log cleared" as the first entry, like real BMCs
        brain.add_event([0x10, 0x51, 0x6f, 0x02, 0xff, 0xff]);
        brain
    }

    /// Answers one datagram.
    pub fn receive(&mut self, from: SocketAddr, bytes: &[u8], now: Instant) -> Vec<Vec<u8>> {
        match packet::parse(bytes) {
            Some(Packet::Ping(tag)) => vec![packet::pong(tag)],
            Some(Packet::Plain(message)) => {
                self.outside_a_session(message).map(|answer| packet::plain(&answer)).into_iter().collect()
            }
            Some(Packet::Plus(plus)) if plus.session == 0 => self.open_or_ask(&plus, now),
            Some(Packet::Plus(plus)) => self.in_session(from, &plus, now),
            None => Vec::new(),
        }
    }

    /// Power changes since the last call, oldest first.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Random bytes.
    pub(super) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes).expect("the system has random numbers");
        bytes
    }

    /// Switches the power as the chassis command or the machine itself wants it.
    pub(super) fn change_power(&mut self, change: Change) {
        self.power = !matches!(change, Change::Off);
        if matches!(change, Change::On(_) | Change::Reset(_) | Change::Cycle(_)) {
            self.boots += 1;
        }
        self.changes.push(change);
    }

    /// Records a change that does not alter the power state by itself.
    pub(super) fn press(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The device of the boot that begins now; a one-shot request is used up by it.
    pub fn consume_boot_device(&mut self) -> BootDevice {
        if self.boot.flags & 0x80 == 0 {
            return BootDevice::Default;
        }
        let device = BootDevice::from_code(self.boot.device >> 2 & 0x0f);
        if self.boot.flags & 0x40 == 0 {
            self.boot = BootOptions::default();
        }
        device
    }

    /// Adds an event to the SEL: sensor type, sensor number, event type, three data bytes.
    pub fn add_event(&mut self, [kind, sensor, event, data @ ..]: [u8; 6]) {
        let id = self.sel_next;
        let mut record = [0u8; 16];
        record[..2].copy_from_slice(&id.to_le_bytes());
        record[2] = 0x02;
        record[3..7].copy_from_slice(&commands::storage::seconds().to_le_bytes());
        record[7] = 0x20;
        record[9] = 0x04;
        record[10..13].copy_from_slice(&[kind, sensor, event]);
        record[13..].copy_from_slice(&data);
        self.sel.insert(id, record);
        self.sel_next = id.checked_add(1).filter(|next| *next != u16::MAX).unwrap_or(1);
    }

    fn outside_a_session(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(bytes)?;
        let mut caller = Caller::default();
        Some(self.answer(&message, &mut caller))
    }

    fn answer(&mut self, message: &Message, caller: &mut Caller) -> Vec<u8> {
        match commands::answer(self, caller, message) {
            Ok(data) => {
                let keep = self.config.faults.cut_data.filter(|_| caller.session != 0);
                message.response(0, &data[..keep.unwrap_or(data.len()).min(data.len())])
            }
            Err(code) => message.response(code, &[]),
        }
    }

    fn open_or_ask(&mut self, plus: &Plus<'_>, now: Instant) -> Vec<Vec<u8>> {
        let answer = match plus.payload_type {
            packet::PAYLOAD_IPMI => self.outside_a_session(plus.payload).map(|answer| (0, answer)),
            packet::PAYLOAD_OPEN => self.open(plus.payload, now).map(|answer| (0x11, answer)),
            packet::PAYLOAD_RAKP1 => self.rakp1(plus.payload).map(|answer| (0x13, answer)),
            packet::PAYLOAD_RAKP3 => self.rakp3(plus.payload).map(|answer| (0x15, answer)),
            _ => None,
        };
        answer.map(|(kind, payload)| packet::unsecured(kind, &payload)).into_iter().collect()
    }

    fn in_session(&mut self, from: SocketAddr, plus: &Plus<'_>, now: Instant) -> Vec<Vec<u8>> {
        let Some(mut session) = self.sessions.remove(&plus.session) else {
            return Vec::new();
        };
        let Some(payload) = session.accept(plus, now) else {
            self.sessions.insert(plus.session, session);
            return Vec::new();
        };
        let mut out = Vec::new();
        let mut caller = session.caller(plus.session, from);
        match plus.payload_type {
            packet::PAYLOAD_IPMI => {
                if let Some(message) = Message::parse(&payload) {
                    let answer = match session.repeated(&message) {
                        Some(answer) => answer,
                        None => {
                            let answer = self.answer(&message, &mut caller);
                            session.remember(&message, &answer);
                            answer
                        }
                    };
                    if self.config.faults.mute_after != Some((message.function, message.command)) {
                        out.push(session.seal(packet::PAYLOAD_IPMI, &answer, self.random()));
                    }
                }
            }
            packet::PAYLOAD_SOL if self.console.belongs_to(plus.session) => {
                for reply in self.console.receive(&payload, now) {
                    out.push(session.seal(packet::PAYLOAD_SOL, &reply, self.random()));
                }
            }
            _ => {}
        }
        session.set_privilege(caller.privilege);
        if caller.close {
            self.console.deactivate(plus.session);
        } else {
            self.sessions.insert(plus.session, session);
        }
        out
    }

    /// Console bytes that are due for the client, with its address.
    pub fn console_packets(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some((id, peer, payload)) = self.console.due(now) {
            let iv = self.random();
            let Some(session) = self.sessions.get_mut(&id) else {
                self.console.deactivate(id);
                break;
            };
            out.push((peer, session.seal(packet::PAYLOAD_SOL, &payload, iv)));
        }
        out
    }
}
