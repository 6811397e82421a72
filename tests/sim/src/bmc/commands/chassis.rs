//! Network function 00h: power, identify light, boot options.

use std::time::{Duration, Instant};

use super::{Answer, BAD_FIELD, NOT_NOW, UNKNOWN, byte};
use crate::bmc::brain::{BootOptions, Brain, Identify};
use crate::bmc::machine::Change;

const PARAMETER_UNKNOWN: u8 = 0x80;
const IDENTIFY_DEFAULT: u8 = 15;

/// Answers a chassis command.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &mut Brain, command: u8, data: &[u8]) -> Answer {
    match command {
        0x00 => Ok(vec![0x00, 0x20, 0x20, 0x20, 0x20]),
        0x01 => Ok(status(brain)),
        0x02 => control(brain, byte(data, 0)?),
        0x04 => identify(brain, data),
        0x06 => {
            if let policy @ 0..=2 = byte(data, 0)? & 7 {
                brain.restore_policy = policy;
            }
            Ok(vec![0x07])
        }
        0x07 => Ok(vec![0x01, 0x00]),
        0x08 => set_boot_option(brain, data),
        0x09 => boot_option(brain, byte(data, 0)? & 0x7f),
        0x0f => Ok(vec![60, 0, 0, 0, 0]),
        _ => Err(UNKNOWN),
    }
}

fn status(brain: &Brain) -> Vec<u8> {
    let light = match brain.identify {
        Identify::Forever => 0x20,
        Identify::Until(end) if Instant::now() < end => 0x10,
        Identify::Until(_) | Identify::Off => 0x00,
    };
    vec![u8::from(brain.power) | brain.restore_policy << 5, 0x00, 0x40 | light, 0x00]
}

fn control(brain: &mut Brain, action: u8) -> Answer {
    match (action & 0x0f, brain.power) {
        (0, true) => brain.change_power(Change::Off),
        (1, false) => {
            let device = brain.consume_boot_device();
            brain.change_power(Change::On(device));
        }
        (0, false) | (1, true) | (5, false) => {}
        (2, true) => {
            let device = brain.consume_boot_device();
            brain.change_power(Change::Cycle(device));
        }
        (3, true) => {
            let device = brain.consume_boot_device();
            brain.change_power(Change::Reset(device));
        }
        (4, true) => {}
        (5, true) => brain.press(Change::SoftOff),
        (2..=4, false) => return Err(NOT_NOW),
        _ => return Err(BAD_FIELD),
    }
    Ok(Vec::new())
}

fn identify(brain: &mut Brain, data: &[u8]) -> Answer {
    let seconds = data.first().copied().unwrap_or(IDENTIFY_DEFAULT);
    brain.identify = if data.get(1).is_some_and(|force| force & 1 == 1) {
        Identify::Forever
    } else if seconds == 0 {
        Identify::Off
    } else {
        Identify::Until(Instant::now() + Duration::from_secs(u64::from(seconds)))
    };
    Ok(Vec::new())
}

fn set_boot_option(brain: &mut Brain, data: &[u8]) -> Answer {
    let selector = byte(data, 0)? & 0x7f;
    match selector {
        5 => {
            let field = |index| data.get(index).copied().unwrap_or(0);
            byte(data, 2)?;
            brain.boot =
                BootOptions { flags: data[1], device: data[2], rest: [field(3), field(4), field(5)] };
        }
        0..=4 | 6 | 7 => {
            brain.boot_parameters.insert(selector, data[1..].to_vec());
        }
        _ => return Err(PARAMETER_UNKNOWN),
    }
    Ok(Vec::new())
}

fn boot_option(brain: &Brain, selector: u8) -> Answer {
    let mut out = vec![0x01, selector];
    match selector {
        5 => {
            out.extend([brain.boot.flags, brain.boot.device]);
            out.extend(brain.boot.rest);
        }
        0..=3 => out.extend(brain.boot_parameters.get(&selector).cloned().unwrap_or_else(|| vec![0])),
        4 => out.extend(brain.boot_parameters.get(&4).cloned().unwrap_or_else(|| vec![0, 0])),
        6 => out.extend(brain.boot_parameters.get(&6).cloned().unwrap_or_else(|| vec![0; 9])),
        7 => out.extend(brain.boot_parameters.get(&7).cloned().unwrap_or_else(|| vec![0; 17])),
        _ => return Err(PARAMETER_UNKNOWN),
    }
    Ok(out)
}
