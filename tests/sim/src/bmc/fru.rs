//! FRU inventory data (Platform Management FRU Information Storage Definition 1.0).

use super::config::Config;

/// Bytes of the inventory device, larger than its contents like in real ones.
const SIZE: usize = 1024;

/// The FRU of a machine: chassis, board and product areas.
pub fn image(config: &Config) -> Vec<u8> {
    let chassis = area(&[0x17], &[&config.mtm, &config.serial]);
    let minutes = [0x00, 0x80, 0xc0];
    let mut board_head = vec![0x19];
    board_head.extend(minutes);
    let board = area(
        &board_head,
        &[&config.manufacturer, "Simulated Board", &format!("B{}", config.serial), "BRD-1", ""],
    );
    let product = area(
        &[0x19],
        &[&config.manufacturer, &config.model, &config.mtm, "1.0", &config.serial, &config.node, ""],
    );
    let mut header = vec![1, 0, 1, 0, 0, 0, 0];
    header[3] = units(8 + chassis.len());
    header[4] = units(8 + chassis.len() + board.len());
    header.push(sum(&header).wrapping_neg());
    let mut image = header;
    image.extend(chassis);
    image.extend(board);
    image.extend(product);
    image.resize(SIZE.max(image.len()), 0);
    image
}

fn area(head: &[u8], fields: &[&str]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(head);
    for field in fields {
        let bytes: Vec<u8> = field.bytes().take(63).collect();
        if bytes.len() == 1 {
            // a one-byte field would read as the end mark: pad it
            out.extend([0xc2, bytes[0], b' ']);
        } else {
            out.push(0xc0 | u8::try_from(bytes.len()).expect("at most 63"));
            out.extend(bytes);
        }
    }
    out.push(0xc1);
    while (out.len() + 1) % 8 != 0 {
        out.push(0);
    }
    out[1] = units(out.len() + 1);
    out.push(sum(&out).wrapping_neg());
    out
}

fn units(bytes: usize) -> u8 {
    u8::try_from(bytes / 8).expect("areas are short")
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}
