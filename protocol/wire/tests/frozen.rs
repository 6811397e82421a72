//! Every message has exact bytes that never change once they are written down.
//!
//! `tests/frozen/vNN.txt` holds one message a line, its name and its bytes in hexadecimal. Files of earlier
//! versions are read and must still decode; the newest is also compared with what this build writes.
//! A new version: append samples to `samples/`, raise `version::CURRENT`, run once with `MARGAY_FREEZE=1`.
#![allow(clippy::unwrap_used, missing_docs)]

mod samples;

use std::collections::BTreeMap;
use std::path::PathBuf;

use samples::Sample;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/frozen")
}

fn file(version: u32) -> PathBuf {
    folder().join(format!("v{version:02}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn frozen(version: u32) -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(file(version)).unwrap();
    text.lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|line| {
            let (name, digits) = line.split_once(' ').unwrap_or((line, ""));
            let bytes =
                (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap());
            (name.to_owned(), bytes.collect())
        })
        .collect()
}

fn freeze_when_asked(samples: &[Sample]) {
    let path = file(wire::version::CURRENT);
    if std::env::var_os("MARGAY_FREEZE").is_some() && !path.exists() {
        let lines: String = samples.iter().map(|s| format!("{} {}\n", s.name, hex(&s.bytes))).collect();
        std::fs::write(
            path,
            format!("# Bytes of every message of protocol version {}.\n{lines}", wire::version::CURRENT),
        )
        .unwrap();
    }
}

#[test]
fn every_message_is_written_as_its_frozen_bytes() {
    let samples = samples::all();
    freeze_when_asked(&samples);
    let frozen = frozen(wire::version::CURRENT);
    for sample in &samples {
        let bytes = frozen.get(&sample.name).unwrap_or_else(|| panic!("{} has no frozen bytes", sample.name));
        assert_eq!(hex(bytes), hex(&sample.bytes), "{} changed on the wire", sample.name);
    }
    assert_eq!(frozen.len(), samples.len(), "a frozen message lost its sample");
}

#[test]
fn messages_of_every_supported_version_are_still_understood() {
    let samples = samples::all();
    for version in wire::version::MIN..=wire::version::CURRENT {
        for (name, bytes) in frozen(version) {
            let sample =
                samples.iter().find(|s| s.name == name).unwrap_or_else(|| panic!("{name} has no sample"));
            (sample.decodes)(&bytes).unwrap_or_else(|e| panic!("{name} of version {version}: {e}"));
        }
    }
}

#[test]
fn a_message_cut_anywhere_is_an_error_and_never_a_panic() {
    for sample in samples::all() {
        for cut in 0..sample.bytes.len() {
            let _ = (sample.decodes)(&sample.bytes[..cut]);
        }
        let mut longer = sample.bytes.clone();
        longer.push(0);
        assert!((sample.decodes)(&longer).is_err(), "{} takes a byte too many", sample.name);
    }
}

#[test]
fn a_message_with_one_flipped_byte_never_panics() {
    for sample in samples::all() {
        for at in 0..sample.bytes.len() {
            for value in [0, 1, 127, 251, 252, 253, 255] {
                let mut bytes = sample.bytes.clone();
                bytes[at] = value;
                let _ = (sample.decodes)(&bytes);
            }
        }
    }
}
