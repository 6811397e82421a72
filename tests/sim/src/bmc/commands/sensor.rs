//! Network function 04h: sensor readings.

use super::{ABSENT, Answer, UNKNOWN, byte};
use crate::bmc::{brain::Brain, sdr};

/// Answers a sensor command.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &Brain, command: u8, data: &[u8]) -> Answer {
    match command {
        0x20 => Ok(vec![u8::try_from(sdr::SENSORS.len()).unwrap_or(0), 0x01]),
        0x27 => {
            let upper = sdr::upper(byte(data, 0)?).ok_or(ABSENT)?;
            Ok(vec![0x10, 0, 0, 0, upper, upper, upper])
        }
        0x2d => {
            let reading = sdr::reading(byte(data, 0)?, brain.power).ok_or(ABSENT)?;
            Ok(vec![reading, 0xc0, 0xc0])
        }
        _ => Err(UNKNOWN),
    }
}
