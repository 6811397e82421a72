//! Network function 06h: the BMC itself, sessions, users, channels, payloads.

use super::{ABSENT, ADMINISTRATOR, Answer, BAD_FIELD, BAD_LENGTH, Caller, OUT_OF_RANGE, UNKNOWN, byte};
use crate::bmc::brain::Brain;

const LAN_CHANNEL: u8 = 1;
const ALREADY_ACTIVE: u8 = 0x80;
const WRONG_PASSWORD: u8 = 0x80;
const LEVEL_EXCEEDS_LIMIT: u8 = 0x81;

/// Answers an application command.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &mut Brain, caller: &mut Caller, command: u8, data: &[u8]) -> Answer {
    match command {
        // Get Device ID: firmware 2.10, IPMI 2.0, an invented manufacturer
        0x01 => Ok(vec![0x20, 0x81, 0x02, 0x10, 0x02, 0xbf, 0x39, 0x30, 0x00, 0x01, 0x00, 0, 0, 0, 0]),
        0x02 | 0x03 => Ok(Vec::new()),
        0x04 => Ok(vec![0x55, 0x00]),
        0x07 => Ok(vec![if brain.power { 0x00 } else { 0x05 }, 0x00]),
        0x08 | 0x37 => Ok(brain.guid.to_vec()),
        0x38 => authentication_capabilities(data),
        0x3b => set_privilege(caller, byte(data, 0)?),
        0x3c => close(brain, caller, data),
        0x3d => session_info(brain, caller),
        0x40 => Ok(Vec::new()),
        0x41 => Ok(vec![0x02, 0x04]),
        0x42 => channel_info(byte(data, 0)?),
        0x43 => set_user_access(brain, data),
        0x44 => user_access(brain, data),
        0x45 => set_user_name(brain, data),
        0x46 => user_name(brain, data),
        0x47 => set_user_password(brain, data),
        0x48 => activate_payload(brain, caller, data),
        0x49 => deactivate_payload(brain, caller, data),
        0x4a => Ok(vec![0x01, u8::from(brain.console.active()), 0x00]),
        0x4b => payload_instance(brain),
        0x4d => Ok(vec![0x02, 0, 0, 0]),
        0x4e => Ok(vec![0x03, 0x00, 0x3f, 0x00, 0, 0, 0, 0]),
        0x4f => Ok(vec![0x10]),
        0x54 => cipher_suites(brain, data),
        _ => Err(UNKNOWN),
    }
}

fn authentication_capabilities(data: &[u8]) -> Answer {
    let extended = byte(data, 0)? & 0x80 != 0;
    byte(data, 1)?;
    // no IPMI 1.5 authentication type but "none is offered"; only named users; IPMI 2.0 alone
    let kinds = if extended { 0x80 } else { 0x00 };
    Ok(vec![LAN_CHANNEL, kinds, 0x04, 0x02, 0, 0, 0, 0])
}

fn set_privilege(caller: &mut Caller, level: u8) -> Answer {
    match level & 0x0f {
        0 => {}
        level if level > caller.limit => return Err(LEVEL_EXCEEDS_LIMIT),
        level @ 2..=ADMINISTRATOR => caller.privilege = level,
        _ => return Err(BAD_FIELD),
    }
    Ok(vec![caller.privilege])
}

fn close(brain: &mut Brain, caller: &mut Caller, data: &[u8]) -> Answer {
    let id = u32::from_le_bytes(data.get(..4).and_then(|id| id.try_into().ok()).ok_or(BAD_LENGTH)?);
    if id == caller.session {
        caller.close = true;
        return Ok(Vec::new());
    }
    brain.sessions.remove(&id).map(|_| Vec::new()).ok_or(0x87)
}

fn session_info(brain: &Brain, caller: &Caller) -> Answer {
    let active = u8::try_from(brain.sessions.len() + 1).unwrap_or(u8::MAX);
    Ok(vec![1, 8, active, caller.user, caller.privilege, 0x10 | LAN_CHANNEL])
}

fn channel_info(channel: u8) -> Answer {
    match channel & 0x0f {
        // 802.3 LAN, IPMB-1.0 protocol, multi-session
        LAN_CHANNEL | 0x0e => Ok(vec![LAN_CHANNEL, 0x04, 0x01, 0x81, 0xf2, 0x1b, 0x00, 0, 0]),
        0x0f => Ok(vec![0x0f, 0x0c, 0x05, 0x00, 0xf2, 0x1b, 0x00, 0, 0]),
        _ => Err(BAD_FIELD),
    }
}

fn user_id(brain: &Brain, value: u8) -> Result<usize, u8> {
    let id = usize::from(value & 0x3f);
    if id == 0 || id >= brain.users.len() { Err(OUT_OF_RANGE) } else { Ok(id) }
}

fn user_access(brain: &Brain, data: &[u8]) -> Answer {
    let user = &brain.users[user_id(brain, byte(data, 1)?)?];
    let enabled = brain.users.iter().filter(|user| user.enabled).count();
    let status = if user.enabled { 0x40 } else { 0x80 };
    let access = if user.enabled { 0x30 | user.privilege } else { 0x0f };
    Ok(vec![15, status | u8::try_from(enabled).unwrap_or(15), 1, access])
}

fn set_user_access(brain: &mut Brain, data: &[u8]) -> Answer {
    let id = user_id(brain, byte(data, 1)?)?;
    brain.users[id].privilege = byte(data, 2)? & 0x0f;
    Ok(Vec::new())
}

fn user_name(brain: &Brain, data: &[u8]) -> Answer {
    let user = &brain.users[user_id(brain, byte(data, 0)?)?];
    let mut name = user.name.clone().into_bytes();
    name.resize(16, 0);
    Ok(name)
}

fn set_user_name(brain: &mut Brain, data: &[u8]) -> Answer {
    let id = user_id(brain, byte(data, 0)?)?;
    let name = data.get(1..17).ok_or(BAD_LENGTH)?;
    brain.users[id].name = text(name);
    Ok(Vec::new())
}

fn set_user_password(brain: &mut Brain, data: &[u8]) -> Answer {
    let id = user_id(brain, byte(data, 0)?)?;
    let length = if data[0] & 0x80 == 0 { 16 } else { 20 };
    let user = &mut brain.users[id];
    match byte(data, 1)? & 3 {
        0 => user.enabled = false,
        1 => user.enabled = true,
        operation => {
            let given = text(data.get(2..2 + length).ok_or(BAD_LENGTH)?).into_bytes();
            if operation == 2 {
                user.password = given;
            } else if user.password != given {
                return Err(WRONG_PASSWORD);
            }
        }
    }
    Ok(Vec::new())
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn activate_payload(brain: &mut Brain, caller: &Caller, data: &[u8]) -> Answer {
    if byte(data, 0)? != 1 || byte(data, 1)? != 1 {
        return Err(BAD_FIELD);
    }
    if brain.console.active() {
        return Err(ALREADY_ACTIVE);
    }
    brain.console.activate(caller.session, caller.peer.ok_or(ABSENT)?);
    let [low, high] = brain.config.address.port().to_le_bytes();
    Ok(vec![0, 0, 0, 0, 0xff, 0x00, 0xff, 0x00, low, high, 0xff, 0xff])
}

fn deactivate_payload(brain: &mut Brain, caller: &Caller, data: &[u8]) -> Answer {
    if byte(data, 0)? != 1 || byte(data, 1)? != 1 {
        return Err(BAD_FIELD);
    }
    if !brain.console.active() {
        return Err(ALREADY_ACTIVE);
    }
    let owner = brain.console.owner().unwrap_or(caller.session);
    brain.console.deactivate(owner);
    Ok(Vec::new())
}

fn payload_instance(brain: &Brain) -> Answer {
    let mut out = brain.console.owner().unwrap_or(0).to_le_bytes().to_vec();
    out.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    Ok(out)
}

fn cipher_suites(brain: &Brain, data: &[u8]) -> Answer {
    let index = usize::from(byte(data, 2)? & 0x3f);
    let mut all = Vec::new();
    for suite in &brain.config.suites {
        match suite {
            3 => all.extend([0xc0, 3, 0x01, 0x41, 0x81]),
            17 => all.extend([0xc0, 17, 0x03, 0x44, 0x81]),
            _ => {}
        }
    }
    let mut out = vec![LAN_CHANNEL];
    out.extend(all.chunks(16).nth(index).unwrap_or_default());
    Ok(out)
}
