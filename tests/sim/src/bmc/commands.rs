//! The IPMI commands a simulated BMC knows, one file for each network function.

use std::net::SocketAddr;

use super::brain::Brain;
use super::packet::Message;

pub mod app;
pub mod chassis;
pub mod lan;
pub mod sensor;
pub mod storage;

/// Response data, or the completion code of a refusal.
pub type Answer = Result<Vec<u8>, u8>;

/// Unknown command.
pub const UNKNOWN: u8 = 0xc1;
/// Request data too short or too long.
pub const BAD_LENGTH: u8 = 0xc7;
/// A parameter is out of range.
pub const OUT_OF_RANGE: u8 = 0xc9;
/// More data asked for than fits or exists.
pub const TOO_MUCH: u8 = 0xca;
/// The record does not exist.
pub const ABSENT: u8 = 0xcb;
/// A field has an impossible value.
pub const BAD_FIELD: u8 = 0xcc;
/// The reservation is gone.
pub const NO_RESERVATION: u8 = 0xc5;
/// The session's privilege is too low.
pub const NO_PRIVILEGE: u8 = 0xd4;
/// Not now.
pub const NOT_NOW: u8 = 0xd5;

/// Privilege levels.
pub const USER: u8 = 2;
/// Operator.
pub const OPERATOR: u8 = 3;
/// Administrator.
pub const ADMINISTRATOR: u8 = 4;

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller {
    /// Session id; zero outside a session.
    pub session: u32,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// Present privilege; zero outside a session.
    pub privilege: u8,
    /// Highest privilege the session may take.
    pub limit: u8,
    /// User id.
    pub user: u8,
    /// Set when the session ends with this command.
    pub close: bool,
}

/// Answers `message`.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &mut Brain, caller: &mut Caller, message: &Message) -> Answer {
    let (command, data) = (message.command, &message.data[..]);
    let needed = match (message.function, command) {
        (0x06, 0x37 | 0x38 | 0x54) => 0,
        (0x00, 0x02 | 0x04 | 0x06 | 0x08 | 0x09) => OPERATOR,
        (0x06, 0x02 | 0x03 | 0x40 | 0x43 | 0x45 | 0x47) | (0x0c, 0x01 | 0x21) => ADMINISTRATOR,
        (0x0a, 0x12 | 0x44..=0x47 | 0x49) => OPERATOR,
        _ => USER,
    };
    if caller.privilege < needed {
        return Err(NO_PRIVILEGE);
    }
    match message.function {
        0x00 => chassis::answer(brain, command, data),
        0x04 => sensor::answer(brain, command, data),
        0x06 => app::answer(brain, caller, command, data),
        0x0a => storage::answer(brain, command, data),
        0x0c => lan::answer(brain, command, data),
        _ => Err(UNKNOWN),
    }
}

/// The byte at `index`, or "request data truncated".
///
/// # Errors
/// [`BAD_LENGTH`].
pub fn byte(data: &[u8], index: usize) -> Result<u8, u8> {
    data.get(index).copied().ok_or(BAD_LENGTH)
}

/// The little-endian word at `index`.
///
/// # Errors
/// [`BAD_LENGTH`].
pub fn word(data: &[u8], index: usize) -> Result<u16, u8> {
    Ok(u16::from_le_bytes([byte(data, index)?, byte(data, index + 1)?]))
}
