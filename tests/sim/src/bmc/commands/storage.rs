//! Network function 0Ah: FRU inventory, SDR repository, system event log.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    ABSENT, Answer, BAD_FIELD, BAD_LENGTH, NO_RESERVATION, OUT_OF_RANGE, TOO_MUCH, UNKNOWN, byte, word,
};
use crate::bmc::{brain::Brain, sdr};

const SDR: usize = 0;
const SEL: usize = 1;
/// Longest piece of data in one response, like a small real BMC.
const PIECE: usize = 64;
const SEL_ROOM: usize = 512;

/// Answers a storage command.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &mut Brain, command: u8, data: &[u8]) -> Answer {
    match command {
        0x10 => {
            only_fru_0(byte(data, 0)?)?;
            let [low, high] = u16::try_from(brain.fru.len()).unwrap_or(u16::MAX).to_le_bytes();
            Ok(vec![low, high, 0])
        }
        0x11 => read_fru(brain, data),
        0x12 => write_fru(brain, data),
        0x20 => {
            let [low, high] = sdr::count().to_le_bytes();
            Ok(vec![0x51, low, high, 0, 0x10, 1, 0, 0, 0, 1, 0, 0, 0, 0x02])
        }
        0x22 => Ok(reserve(brain, SDR)),
        0x23 => sdr_record(brain, data),
        0x28 | 0x48 => Ok(seconds().to_le_bytes().to_vec()),
        0x40 => Ok(sel_info(brain)),
        0x41 => Ok(vec![0, 2, 16, 0, 0, 2, 0, 2, 1]),
        0x42 => Ok(reserve(brain, SEL)),
        0x43 => sel_entry(brain, data),
        0x44 => add_sel_entry(brain, data),
        0x46 => {
            check_reservation(brain, SEL, word(data, 0)?)?;
            let id = word(data, 2)?;
            brain.sel.remove(&id).ok_or(ABSENT)?;
            Ok(id.to_le_bytes().to_vec())
        }
        0x47 => clear_sel(brain, data),
        0x49 => Ok(Vec::new()),
        0x5c => Ok(vec![0xff, 0x07]),
        _ => Err(UNKNOWN),
    }
}

/// Seconds since 1970, as SEL time stamps count them.
pub fn seconds() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn only_fru_0(id: u8) -> Result<(), u8> {
    if id == 0 { Ok(()) } else { Err(ABSENT) }
}

fn read_fru(brain: &Brain, data: &[u8]) -> Answer {
    only_fru_0(byte(data, 0)?)?;
    let (offset, count) = (usize::from(word(data, 1)?), usize::from(byte(data, 3)?));
    if count > PIECE {
        return Err(TOO_MUCH);
    }
    let rest = brain.fru.get(offset..).ok_or(OUT_OF_RANGE)?;
    let piece = &rest[..count.min(rest.len())];
    let mut out = vec![u8::try_from(piece.len()).unwrap_or(u8::MAX)];
    out.extend(piece);
    Ok(out)
}

fn write_fru(brain: &mut Brain, data: &[u8]) -> Answer {
    only_fru_0(byte(data, 0)?)?;
    let offset = usize::from(word(data, 1)?);
    let new = data.get(3..).unwrap_or_default();
    let place = brain.fru.get_mut(offset..offset + new.len()).ok_or(OUT_OF_RANGE)?;
    place.copy_from_slice(new);
    Ok(vec![u8::try_from(new.len()).unwrap_or(u8::MAX)])
}

fn reserve(brain: &mut Brain, which: usize) -> Vec<u8> {
    brain.reservations[which] = brain.reservations[which].wrapping_add(1).max(1);
    brain.reservations[which].to_le_bytes().to_vec()
}

fn check_reservation(brain: &Brain, which: usize, given: u16) -> Result<(), u8> {
    if given == brain.reservations[which] { Ok(()) } else { Err(NO_RESERVATION) }
}

fn sdr_record(brain: &Brain, data: &[u8]) -> Answer {
    let (reservation, id) = (word(data, 0)?, word(data, 2)?);
    let (offset, count) = (usize::from(byte(data, 4)?), usize::from(byte(data, 5)?));
    if offset != 0 || reservation != 0 {
        check_reservation(brain, SDR, reservation)?;
    }
    let id = if id == u16::MAX { sdr::count() - 1 } else { id };
    let (record, next) = sdr::record(id).ok_or(ABSENT)?;
    let rest = record.get(offset..).ok_or(OUT_OF_RANGE)?;
    let count = if count == 0xff { rest.len() } else { count };
    if count > PIECE {
        return Err(TOO_MUCH);
    }
    let mut out = next.to_le_bytes().to_vec();
    out.extend(&rest[..count.min(rest.len())]);
    Ok(out)
}

fn sel_info(brain: &Brain) -> Vec<u8> {
    let entries = u16::try_from(brain.sel.len()).unwrap_or(u16::MAX);
    let free = u16::try_from(SEL_ROOM.saturating_sub(brain.sel.len()) * 16).unwrap_or(u16::MAX);
    let mut out = vec![0x51];
    out.extend(entries.to_le_bytes());
    out.extend(free.to_le_bytes());
    out.extend(seconds().to_le_bytes());
    out.extend([0; 4]);
    out.push(0x0a);
    out
}

fn sel_entry(brain: &Brain, data: &[u8]) -> Answer {
    let id = word(data, 2)?;
    let (offset, count) = (usize::from(byte(data, 4)?), usize::from(byte(data, 5)?));
    let entry = match id {
        0 => brain.sel.iter().next(),
        u16::MAX => brain.sel.iter().next_back(),
        id => brain.sel.get_key_value(&id),
    };
    let (id, record) = entry.ok_or(ABSENT)?;
    let next = brain.sel.range(id + 1..).next().map_or(u16::MAX, |(next, _)| *next);
    let rest = record.get(offset..).ok_or(OUT_OF_RANGE)?;
    let mut out = next.to_le_bytes().to_vec();
    out.extend(&rest[..count.min(rest.len())]);
    Ok(out)
}

fn add_sel_entry(brain: &mut Brain, data: &[u8]) -> Answer {
    let mut record: [u8; 16] = data.try_into().map_err(|_| BAD_LENGTH)?;
    if brain.sel.len() >= SEL_ROOM {
        return Err(0xc4);
    }
    let id = brain.sel_next;
    record[..2].copy_from_slice(&id.to_le_bytes());
    if record[2] < 0xe0 {
        record[3..7].copy_from_slice(&seconds().to_le_bytes());
    }
    brain.sel.insert(id, record);
    brain.sel_next = id.checked_add(1).filter(|next| *next != u16::MAX).unwrap_or(1);
    Ok(id.to_le_bytes().to_vec())
}

fn clear_sel(brain: &mut Brain, data: &[u8]) -> Answer {
    check_reservation(brain, SEL, word(data, 0)?)?;
    if data.get(2..5) != Some(b"CLR") {
        return Err(BAD_FIELD);
    }
    if byte(data, 5)? == 0xaa {
        brain.sel.clear();
        brain.add_event([0x10, 0x51, 0x6f, 0x02, 0xff, 0xff]);
    }
    Ok(vec![0x01])
}
