//! What `rinv` shows of a BMC: FRU 0, device id, GUID and firmware, in xCAT's words and order.

use crate::BmcError;
use crate::ipmi::decode;
use crate::ipmi::fru::{self, Area, Kind};
use crate::ipmi::message::Request;
use crate::ipmi::socket::Connection;

const APP: u8 = 0x06;
const STORAGE: u8 = 0x0a;
/// Bytes of FRU data asked for at once; BMCs that cannot are asked for less.
const PIECE: u8 = 48;
const SMALLEST_PIECE: u8 = 8;
/// Codes with which BMCs say that a piece is too large.
const TOO_LARGE: [u8; 4] = [0xc7, 0xc8, 0xca, 0xff];

/// Classes a line can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Model,
    Serial,
    Asset,
    Misc,
    DeviceId,
    Guid,
    Firmware,
    Hardware,
}

/// The classes asked for.
pub struct Kinds(Vec<Class>);

impl Kinds {
    /// Reads the kinds as `rinv` names them; none means `all`.
    pub fn parse(kinds: &[String]) -> Result<Self, BmcError> {
        use Class::{Asset, DeviceId, Firmware, Guid, Hardware, Misc, Model, Serial};
        let mut classes = Vec::new();
        let all = ["all".to_owned()];
        for kind in if kinds.is_empty() { &all[..] } else { kinds } {
            let of_kind: &[Class] = match kind.as_str() {
                "all" => &[Model, Serial, DeviceId, Firmware, Guid, Misc, Hardware, Asset],
                "model" | "mtm" => &[Model],
                "serial" => &[Serial],
                "asset" => &[Asset],
                "vpd" => &[Model, Serial, DeviceId, Firmware],
                "mprom" | "firm" | "firmware" | "bmc" => &[Firmware],
                "misc" => &[Misc],
                "deviceid" => &[DeviceId],
                "guid" | "uuid" => &[Guid],
                // nothing of FRU 0 is a memory module or a processor
                "dimm" | "cpu" => &[Hardware],
                _ => return Err(BmcError::Kind(kind.chars().take(32).collect())),
            };
            classes.extend(of_kind);
        }
        Ok(Self(classes))
    }

    fn wants(&self, class: Class) -> bool {
        self.0.contains(&class)
    }

    fn any_of(&self, classes: &[Class]) -> bool {
        classes.iter().any(|class| self.wants(*class))
    }
}

/// The lines for `kinds`.
pub async fn lines(bmc: &mut Connection<'_>, kinds: Kinds) -> Result<Vec<String>, BmcError> {
    let mut all: Vec<(Class, String, String)> = Vec::new();
    if kinds.any_of(&[Class::Model, Class::Serial, Class::Asset, Class::Misc]) {
        for (kind, area) in read_fru(bmc).await? {
            all.extend(area_lines(kind, area));
        }
    }
    if kinds.any_of(&[Class::DeviceId, Class::Firmware]) {
        all.extend(device_lines(bmc).await?);
    }
    if kinds.wants(Class::Guid) {
        all.extend(guid_line(bmc).await?);
    }
    Ok(all
        .into_iter()
        .filter(|(class, ..)| kinds.wants(*class))
        .map(|(_, what, value)| format!("{:<20} {value}", format!("{what}:")))
        .collect())
}

fn area_lines(kind: Kind, area: Area) -> Vec<(Class, String, String)> {
    let date = (area.minutes != 0).then(|| date(area.minutes));
    let (fields, extra) = match kind {
        Kind::Product => (
            vec![
                (Class::Misc, "System Manufacturer", area.manufacturer),
                (Class::Model, "System Description", area.name),
                (Class::Model, "System Model/MTM", area.part_number),
                (Class::Misc, "System Revision", area.version),
                (Class::Serial, "System Serial Number", area.serial),
                (Class::Asset, "System Asset Number", area.asset),
            ],
            "Product Extra data",
        ),
        Kind::Chassis => (
            vec![
                (Class::Serial, "Chassis Serial Number", area.serial),
                (Class::Model, "Chassis Part Number", area.part_number),
            ],
            "Chassis Extra data",
        ),
        Kind::Board => (
            vec![
                (Class::Misc, "Board manufacture date", date),
                (Class::Misc, "Board manufacturer", area.manufacturer),
                (Class::Misc, "Board FRU Number", area.file),
                (Class::Misc, "Board Description", area.name),
                (Class::Misc, "Board Serial Number", area.serial),
                (Class::Misc, "Board Model Number", area.part_number),
            ],
            "Board Extra data",
        ),
    };
    fields
        .into_iter()
        .chain(area.extra.into_iter().map(|text| (Class::Misc, extra, Some(text))))
        .filter_map(|(class, what, value)| Some((class, what.to_owned(), value?)))
        .collect()
}

/// Get Device ID (IPMI 2.0 §20.1).
async fn device_lines(bmc: &mut Connection<'_>) -> Result<Vec<(Class, String, String)>, BmcError> {
    let step = "reading the device id";
    let answer = bmc.ask(step, decode::device_id_request(), false).await?;
    let id = decode::device_id(&answer).ok_or_else(|| bmc.unreadable(step, "it is too short"))?;
    // 20 bits count
    let manufacturer = id.manufacturer_id & 0x000f_ffff;
    let maker = match manufacturer {
        2 | 20301 => format!("IBM ({manufacturer})"),
        343 => format!("Intel ({manufacturer})"),
        _ => manufacturer.to_string(),
    };
    let firmware = format!("{}.{:02}", id.major_fw_revision, id.minor_fw_revision);
    let line = |class, what: &str, value| (class, what.to_owned(), value);
    Ok(vec![
        line(Class::DeviceId, "Device ID", id.device_id.to_string()),
        line(Class::DeviceId, "Manufacturer ID", maker),
        line(Class::Firmware, "BMC Firmware", firmware),
        line(Class::DeviceId, "Product ID", id.product_id.to_string()),
    ])
}

/// Get System GUID (IPMI 2.0 §22.14), in the byte order of SMBIOS that BMCs use in spite of it.
async fn guid_line(bmc: &mut Connection<'_>) -> Result<Option<(Class, String, String)>, BmcError> {
    let answer = match bmc.ask("reading the GUID", Request::new(APP, 0x37, []), false).await {
        Ok(answer) => answer,
        // a BMC without one is no reason to show nothing else
        Err(BmcError::Completion { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(guid(&answer).map(|guid| (Class::Guid, "UUID/GUID".to_owned(), guid)))
}

fn guid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, index) in order.into_iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", bytes[index]));
    }
    Some(text)
}

/// Reads the areas of FRU 0 that we show, and no byte more.
async fn read_fru(bmc: &mut Connection<'_>) -> Result<Vec<(Kind, Area)>, BmcError> {
    let step = "reading the FRU inventory";
    let info = bmc.ask(step, Request::new(STORAGE, 0x10, [0]), false).await?;
    let (Some(low), Some(high), Some(access)) = (info.first(), info.get(1), info.get(2)) else {
        return Err(bmc.unreadable(step, "it is too short"));
    };
    let mut reader = Reader { size: u16::from_le_bytes([*low, *high]), words: access & 1 == 1, piece: PIECE };
    let header = reader.read(bmc, 0, 8).await?;
    let mut areas = Vec::new();
    for (kind, offset) in fru::areas(&header) {
        let start = reader.read(bmc, offset, 8).await?;
        let length = fru::area_length(&start).unwrap_or(0);
        let bytes = reader.read(bmc, offset, length).await?;
        areas.push((kind, fru::decode(kind, &bytes)));
    }
    Ok(areas)
}

/// Read FRU Data (IPMI 2.0 §34.2), piece by piece.
struct Reader {
    size: u16,
    words: bool,
    piece: u8,
}

impl Reader {
    async fn read(&mut self, bmc: &mut Connection<'_>, start: u16, length: u16) -> Result<Vec<u8>, BmcError> {
        let step = "reading the FRU inventory";
        let end = start.saturating_add(length).min(self.size);
        let mut bytes = Vec::new();
        let mut at = start;
        while at < end {
            let count = u8::try_from(end - at).unwrap_or(u8::MAX).min(self.piece);
            let unit: u8 = if self.words { 2 } else { 1 };
            let [low, high] = (at / u16::from(unit)).to_le_bytes();
            let wanted = count.div_ceil(unit);
            match bmc.ask(step, Request::new(STORAGE, 0x11, [0, low, high, wanted]), false).await {
                Ok(answer) => {
                    let given = answer.get(1..).unwrap_or_default();
                    let given = &given[..given.len().min(usize::from(count))];
                    if given.is_empty() {
                        break;
                    }
                    bytes.extend(given);
                    at = at.saturating_add(u16::try_from(given.len()).unwrap_or(u16::MAX));
                }
                Err(BmcError::Completion { code, .. })
                    if TOO_LARGE.contains(&code) && self.piece > SMALLEST_PIECE =>
                {
                    self.piece = (self.piece / 2).max(SMALLEST_PIECE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

/// Minutes since 1996 as a date.
fn date(minutes: u32) -> String {
    // days since 1970, then the civil calendar in years that begin in March
    let days = i64::from(minutes / 1440) + 9496;
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    format!("{month:02}-{day:02}-{year} {hour:02}:{minute:02}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_guid_is_printed_as_smbios_prints_it() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(guid(&bytes).unwrap(), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(guid(&bytes[..15]), None);
    }

    #[test]
    fn a_board_s_minutes_are_a_date() {
        assert_eq!(date(1), "01-01-1996 00:01");
        // what ipmitool shows for these three bytes: Thu Dec 26 21:20:00 2019
        assert_eq!(date(0x00c0_8000), "12-26-2019 21:20");
    }

    #[test]
    fn unknown_kinds_are_refused_by_name() {
        let error = Kinds::parse(&["model".to_owned(), "colour".to_owned()]).err().unwrap();
        assert_eq!(error.to_string(), "unsupported BMC inv argument colour");
        assert!(Kinds::parse(&[]).unwrap().wants(Class::Guid));
    }
}
