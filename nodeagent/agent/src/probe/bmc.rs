//! The BMC as its own host sees it, through the kernel's IPMI device.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rawdev::IpmiDevice;
use wire::hardware::BmcInBand;

/// A BMC that thinks longer than this about one request is not asked further.
const PATIENCE: Duration = Duration::from_secs(3);
/// Channels that may be LAN channels (IPMI 2.0, 6.3).
const CHANNELS: std::ops::RangeInclusive<u8> = 1..=11;

const APP: u8 = 0x06;
const TRANSPORT: u8 = 0x0c;
const GET_DEVICE_ID: u8 = 0x01;
const GET_SYSTEM_GUID: u8 = 0x37;
const GET_CHANNEL_INFO: u8 = 0x42;
const GET_LAN_PARAMETER: u8 = 0x02;
/// Channel medium of IEEE 802.3.
const MEDIUM_LAN: u8 = 4;

/// What the BMC says of itself; none where there is no IPMI device or the BMC does not answer.
#[must_use]
pub fn in_band(root: &Path) -> Option<BmcInBand> {
    let mut device = IpmiDevice::open(&device_node(root)?).ok()?;
    from_answers(&mut |netfn, command, data| device.request(netfn, command, data, PATIENCE)).ok()
}

/// The device node, under any of its names, when it really is one.
fn device_node(root: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::FileTypeExt;
    let found = ["dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0"].iter().map(|name| root.join(name));
    found.into_iter().find(|path| fs::metadata(path).is_ok_and(|node| node.file_type().is_char_device()))
}

type Ask<'a> = dyn FnMut(u8, u8, &[u8]) -> io::Result<Vec<u8>> + 'a;

fn from_answers(ask: &mut Ask<'_>) -> io::Result<BmcInBand> {
    let id = good(ask(APP, GET_DEVICE_ID, &[])?)?;
    let byte = |at: usize| u32::from(id.get(at).copied().unwrap_or_default());
    let mut bmc = BmcInBand {
        // IPMI 2.0, 20.1: firmware revision major (7 bits), minor as BCD.
        firmware: format!("{}.{:02x}", byte(2) & 0x7f, byte(3)),
        manufacturer: byte(6) | byte(7) << 8 | (byte(8) & 0x0f) << 16,
        product: byte(9) | byte(10) << 8,
        ..BmcInBand::default()
    };
    if let Ok(guid) = ask(APP, GET_SYSTEM_GUID, &[]).and_then(good) {
        bmc.guid = guid_text(&guid);
    }
    let lan = CHANNELS.into_iter().find(|channel| {
        let info = ask(APP, GET_CHANNEL_INFO, &[*channel]).and_then(good);
        info.is_ok_and(|info| info.get(1).is_some_and(|medium| medium & 0x7f == MEDIUM_LAN))
    });
    let Some(channel) = lan else { return Ok(bmc) };
    let mut parameter = |number: u8| {
        let answer = ask(TRANSPORT, GET_LAN_PARAMETER, &[channel, number, 0, 0]).and_then(good).ok()?;
        answer.get(1..).map(<[u8]>::to_vec)
    };
    // All zeros is a LAN channel that nobody has set up.
    let set = |bytes: &Vec<u8>| bytes.iter().any(|byte| *byte != 0);
    if let Some([a, b, c, d]) = parameter(3).filter(set).and_then(|ip| <[u8; 4]>::try_from(ip).ok()) {
        bmc.address = std::net::Ipv4Addr::new(a, b, c, d).to_string();
    }
    bmc.source = match parameter(4).and_then(|source| source.first().copied()) {
        Some(source) => match source & 0x0f {
            1 => "static",
            2 => "dhcp",
            3 => "bios",
            _ => "none",
        },
        None => "",
    }
    .to_owned();
    if let Some(mac) = parameter(5).filter(set).and_then(|mac| <[u8; 6]>::try_from(mac).ok()) {
        bmc.mac = wire::names::Mac(mac).to_string();
    }
    Ok(bmc)
}

/// The data behind a completion code of success.
fn good(answer: Vec<u8>) -> io::Result<Vec<u8>> {
    match answer.split_first() {
        Some((0, data)) => Ok(data.to_vec()),
        Some((code, _)) => Err(io::Error::other(format!("completion code {code:#04x}"))),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The GUID in the byte order of SMBIOS (first three groups little endian), as `dmidecode` prints it.
fn guid_text(bytes: &[u8]) -> String {
    let Ok(b) = <[u8; 16]>::try_from(bytes) else { return String::new() };
    let hex = |order: &[usize]| order.iter().map(|at| format!("{:02x}", b[*at])).collect::<String>();
    let groups = [&[3, 2, 1, 0][..], &[5, 4], &[7, 6], &[8, 9], &[10, 11, 12, 13, 14, 15]];
    groups.map(hex).join("-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answers(netfn: u8, command: u8, data: &[u8]) -> io::Result<Vec<u8>> {
        Ok(match (netfn, command, data) {
            (APP, GET_DEVICE_ID, _) => vec![0, 0x20, 1, 2, 0x14, 2, 0xbf, 0xa2, 2, 0, 0, 1, 0, 0, 0, 0],
            (APP, GET_SYSTEM_GUID, _) => [&[0][..], &(0u8..16).collect::<Vec<_>>()].concat(),
            (APP, GET_CHANNEL_INFO, [2]) => vec![0, 2, MEDIUM_LAN, 1, 0, 0, 0, 0, 0, 0],
            (TRANSPORT, GET_LAN_PARAMETER, [2, 3, ..]) => vec![0, 0x11, 10, 3, 0, 1],
            (TRANSPORT, GET_LAN_PARAMETER, [2, 4, ..]) => vec![0, 0x11, 1],
            (TRANSPORT, GET_LAN_PARAMETER, [2, 5, ..]) => vec![0, 0x11, 2, 0, 0, 0, 0, 9],
            _ => vec![0xc1],
        })
    }

    #[test]
    fn a_bmc_tells_its_address_from_the_first_lan_channel() {
        let bmc = from_answers(&mut answers).unwrap();
        assert_eq!(bmc.address, "10.3.0.1");
        assert_eq!((bmc.source.as_str(), bmc.mac.as_str()), ("static", "02:00:00:00:00:09"));
        assert_eq!((bmc.manufacturer, bmc.product, bmc.firmware.as_str()), (674, 256, "2.14"));
        assert_eq!(bmc.guid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_bmc_that_refuses_everything_is_no_bmc_and_short_answers_are_no_panic() {
        assert!(from_answers(&mut |_, _, _| Ok(vec![0xc1])).is_err());
        assert!(from_answers(&mut |_, _, _| Ok(Vec::new())).is_err());
        assert!(from_answers(&mut |_, _, _| Ok(vec![0])).is_ok());
    }

    #[test]
    fn an_ordinary_file_is_not_taken_for_the_device() {
        let root = tempfile::tempdir().unwrap();
        super::super::fixture::write(root.path(), "dev/ipmi0", "");
        assert!(in_band(root.path()).is_none());
    }
}
