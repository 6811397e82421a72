//! FRU inventory areas (Platform Management FRU Information Storage Definition 1.0).
//!
//! The bytes come from a machine's EEPROM and may be anything: every read is bounded, and no control
//! character reaches an admin's terminal.

/// What an area describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The case.
    Chassis,
    /// The main board.
    Board,
    /// The machine as it was sold.
    Product,
}

/// The texts of one area; an absent or empty field is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// Manufacturer (board, product).
    pub manufacturer: Option<String>,
    /// Name (board, product).
    pub name: Option<String>,
    /// Part or model number.
    pub part_number: Option<String>,
    /// Version (product).
    pub version: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Asset tag (product).
    pub asset: Option<String>,
    /// FRU file id (board, product).
    pub file: Option<String>,
    /// Minutes since 1996 (board); zero is not known.
    pub minutes: u32,
    /// Further fields of the manufacturer.
    pub extra: Vec<String>,
}

/// Where the areas begin, out of the common header.
#[must_use]
pub fn areas(header: &[u8]) -> Vec<(Kind, u16)> {
    if header.len() < 8 || header[0] & 0x0f != 1 {
        return Vec::new();
    }
    [(Kind::Product, header[4]), (Kind::Chassis, header[2]), (Kind::Board, header[3])]
        .into_iter()
        .filter(|(_, offset)| *offset != 0)
        .map(|(kind, offset)| (kind, u16::from(offset) * 8))
        .collect()
}

/// Bytes of an area that begins with `start` (at least two bytes).
#[must_use]
pub fn area_length(start: &[u8]) -> Option<u16> {
    start.get(1).map(|units| u16::from(*units) * 8)
}

/// Reads an area.
#[must_use]
pub fn decode(kind: Kind, bytes: &[u8]) -> Area {
    let mut area = Area::default();
    let (head, english) = match kind {
        Kind::Chassis => (3, true),
        Kind::Product => (3, english(bytes)),
        Kind::Board => {
            if let Some([low, middle, high]) = bytes.get(3..6) {
                area.minutes = u32::from_le_bytes([*low, *middle, *high, 0]);
            }
            (6, english(bytes))
        }
    };
    let mut fields = Fields { rest: bytes.get(head..).unwrap_or_default(), english };
    let mut next = || fields.next().filter(|text| !text.is_empty());
    match kind {
        Kind::Chassis => {
            area.part_number = next();
            area.serial = next();
        }
        Kind::Board => {
            area.manufacturer = next();
            area.name = next();
            area.serial = next();
            area.part_number = next();
            area.file = next();
        }
        Kind::Product => {
            area.manufacturer = next();
            area.name = next();
            area.part_number = next();
            area.version = next();
            area.serial = next();
            area.asset = next();
            area.file = next();
        }
    }
    area.extra = fields.filter(|text| !text.is_empty()).collect();
    area
}

fn english(bytes: &[u8]) -> bool {
    matches!(bytes.get(2), None | Some(0 | 25))
}

/// Type/length coded fields up to the end mark.
struct Fields<'a> {
    rest: &'a [u8],
    english: bool,
}

impl Iterator for Fields<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let (head, rest) = self.rest.split_first()?;
        if *head == 0xc1 {
            self.rest = &[];
            return None;
        }
        let Some((value, rest)) = rest.split_at_checked(usize::from(head & 0x3f)) else {
            self.rest = &[];
            return None;
        };
        self.rest = rest;
        Some(match head >> 6 {
            0 => hexadecimal(value),
            1 => bcd_plus(value),
            2 => six_bit(value),
            _ if self.english => printable(value.iter().map(|byte| char::from(*byte))),
            _ => wide(value),
        })
    }
}

fn hexadecimal(value: &[u8]) -> String {
    let bytes: Vec<String> = value.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

fn bcd_plus(value: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ' ', '-', '.', '?', '?', '?'];
    printable(value.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]).map(|digit| DIGITS[usize::from(digit)]))
}

fn six_bit(value: &[u8]) -> String {
    let mut text = String::new();
    for three in value.chunks(3) {
        let word = three.iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let characters = three.len() * 8 / 6;
        text.extend((0..characters).filter_map(|i| char::from_u32((word >> (6 * i) & 0x3f) + 0x20)));
    }
    printable(text.chars())
}

fn wide(value: &[u8]) -> String {
    let units = value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    printable(char::decode_utf16(units).map(|unit| unit.unwrap_or('?')))
}

/// The text up to the first zero, without surrounding blanks and with `?` for what does not print.
fn printable(characters: impl Iterator<Item = char>) -> String {
    let text: String = characters
        .take_while(|character| *character != '\0')
        .map(|character| if character.is_control() { '?' } else { character })
        .collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Vec<String> {
        Fields { rest: bytes, english: true }.collect()
    }

    #[test]
    fn all_four_ways_to_write_a_field_are_read() {
        assert_eq!(text(&[0x02, 0xca, 0xfe, 0xc1]), ["ca fe"]);
        assert_eq!(text(&[0x42, 0x12, 0xb4, 0xc1]), ["12-4"]);
        // "IPMI" of the specification's example
        assert_eq!(text(&[0x83, 0x29, 0xdc, 0xa6, 0xc1]), ["IPMI"]);
        assert_eq!(text(&[0xc3, b'a', b'b', b' ', 0xc1]), ["ab"]);
    }

    #[test]
    fn a_field_longer_than_its_area_ends_the_reading() {
        assert_eq!(text(&[0xc2, b'a', b'b', 0xff, b'c']), ["ab"]);
        assert!(text(&[]).is_empty());
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(text(&[0xc4, 0x1b, b'[', b'2', b'J', 0xc1]), ["?[2J"]);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_print_control_characters(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
            kind in 0..3usize,
        ) {
            assert!(areas(&bytes).len() <= 3);
            let area = decode([Kind::Chassis, Kind::Board, Kind::Product][kind], &bytes);
            let texts = [area.manufacturer, area.name, area.part_number, area.version, area.serial];
            for text in texts.into_iter().flatten().chain(area.extra) {
                assert!(!text.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn a_header_of_another_version_has_no_areas() {
        assert!(areas(&[0xff; 8]).is_empty());
        assert_eq!(areas(&[1, 0, 1, 5, 9, 0, 0, 0xf0]).len(), 3);
    }
}
