//! Network function 0Ch: LAN and serial-over-LAN parameters.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Answer, BAD_LENGTH, UNKNOWN, byte};
use crate::bmc::{brain::Brain, config::Config};

const PARAMETER_UNKNOWN: u8 = 0x80;
const READ_ONLY: u8 = 0x82;

/// Answers a transport command.
///
/// # Errors
/// The completion code when it is refused.
pub fn answer(brain: &mut Brain, command: u8, data: &[u8]) -> Answer {
    match command {
        0x01 => set(&mut brain.lan, &[1, 22, 23], data),
        0x02 => read(&brain.lan, data),
        0x21 => set(&mut brain.sol_parameters, &[7, 8], data),
        0x22 => read(&brain.sol_parameters, data),
        _ => Err(UNKNOWN),
    }
}

/// LAN parameters at birth.
pub fn defaults(config: &Config) -> BTreeMap<u8, Vec<u8>> {
    let address = match config.address.ip() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    let [a, b, c, d] = address;
    let suites: Vec<u8> = std::iter::once(0).chain(config.suites.iter().copied()).collect();
    let count = u8::try_from(config.suites.len()).unwrap_or(0);
    BTreeMap::from([
        (0, vec![0]),
        (1, vec![0x00]),
        (2, vec![0; 5]),
        (3, address.to_vec()),
        (4, vec![1]),
        (5, vec![0x02, 0xbc, a, b, c, d]),
        (6, vec![255, 255, 0, 0]),
        (7, vec![64, 0x40, 0x10]),
        (8, vec![0x6f, 0x02]),
        (10, vec![0x02]),
        (11, vec![4]),
        (12, vec![0; 4]),
        (13, vec![0; 6]),
        (14, vec![0; 4]),
        (15, vec![0; 6]),
        (16, b"public\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        (17, vec![0]),
        (20, vec![0, 0]),
        (21, vec![0]),
        (22, vec![count]),
        (23, suites),
        (24, vec![0, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44]),
    ])
}

/// Serial-over-LAN parameters at birth.
pub fn sol_defaults(config: &Config) -> BTreeMap<u8, Vec<u8>> {
    BTreeMap::from([
        (0, vec![0]),
        (1, vec![1]),
        (2, vec![0xc2]),
        (3, vec![12, 96]),
        (4, vec![6, 20]),
        (5, vec![0x0a]),
        (6, vec![0x0a]),
        (7, vec![1]),
        (8, config.address.port().to_le_bytes().to_vec()),
    ])
}

fn set(parameters: &mut BTreeMap<u8, Vec<u8>>, read_only: &[u8], data: &[u8]) -> Answer {
    let selector = byte(data, 1)?;
    let new = data.get(2..).filter(|new| !new.is_empty()).ok_or(BAD_LENGTH)?;
    if read_only.contains(&selector) {
        return Err(READ_ONLY);
    }
    match parameters.get_mut(&selector) {
        Some(value) => *value = new.to_vec(),
        None => return Err(PARAMETER_UNKNOWN),
    }
    Ok(Vec::new())
}

fn read(parameters: &BTreeMap<u8, Vec<u8>>, data: &[u8]) -> Answer {
    if byte(data, 0)? & 0x80 != 0 {
        return Ok(vec![0x11]);
    }
    let value = parameters.get(&byte(data, 1)?).ok_or(PARAMETER_UNKNOWN)?;
    let mut out = vec![0x11];
    out.extend(value);
    Ok(out)
}
