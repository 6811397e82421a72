//! Bytes of a message, and the frame that carries it. The only file that names the encoding crate.
//!
//! The format is bincode 2's `standard()` (little endian, variable-length integers) as written by
//! `wincode`. A frame on a stream is a little-endian `u32` length followed by that many bytes.

use wincode::config::Configuration;
pub use wincode::{SchemaRead as Decode, SchemaWrite as Encode};

/// Largest payload of one frame, in bytes. Bigger things are split by their sender.
pub const MAX_FRAME: usize = 4 * 1024 * 1024;

/// Bytes of the length in front of each frame.
pub const HEADER: usize = 4;

const CONFIG: Config = Configuration::default().with_varint_encoding();

/// The encoding's settings as a type (variable-length integers, 4 MiB allocation limit).
pub type Config = Configuration<
    true,
    { 4 * 1024 * 1024 },
    wincode::len::BincodeLen,
    wincode::int_encoding::LittleEndian,
    wincode::int_encoding::VarInt,
>;

/// A value that can travel: encodes to and decodes from itself.
pub trait Message: Encode<Config, Src = Self> + for<'de> Decode<'de, Config, Dst = Self> {}
impl<T> Message for T where T: Encode<Config, Src = T> + for<'de> Decode<'de, Config, Dst = T> {}

/// Why bytes could not become a message, or a message not bytes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The payload is longer than [`MAX_FRAME`].
    #[error("frame of {0} bytes is larger than the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// The payload is not a message of the expected type.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The value could not be written.
    #[error("message cannot be encoded: {0}")]
    Unencodable(String),
}

/// The payload bytes of a message, without a frame header.
///
/// # Errors
/// [`FrameError::TooLarge`] when the payload passes [`MAX_FRAME`].
pub fn encode<T: Encode<Config, Src = T>>(value: &T) -> Result<Vec<u8>, FrameError> {
    let bytes =
        wincode::config::serialize(value, CONFIG).map_err(|e| FrameError::Unencodable(e.to_string()))?;
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// The message in `bytes`; every byte must belong to it.
///
/// # Errors
/// [`FrameError`] when the bytes are too many or are not exactly one message of this type.
pub fn decode<T: for<'de> Decode<'de, Config, Dst = T>>(bytes: &[u8]) -> Result<T, FrameError> {
    if bytes.len() > MAX_FRAME {
        return Err(FrameError::TooLarge(bytes.len()));
    }
    wincode::config::deserialize_exact(bytes, CONFIG).map_err(|e| FrameError::Malformed(e.to_string()))
}

/// Header and payload of a message, ready for a stream.
///
/// # Errors
/// As [`encode`].
pub fn frame<T: Message>(value: &T) -> Result<Vec<u8>, FrameError> {
    let payload = encode(value)?;
    let length = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge(payload.len()))?;
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// The payload length that a frame header announces, checked against `limit` before anything is allocated.
///
/// # Errors
/// [`FrameError::TooLarge`] above `limit`.
pub fn payload_length(header: [u8; HEADER], limit: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes(header) as usize;
    if length > limit.min(MAX_FRAME) { Err(FrameError::TooLarge(length)) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_message_survives_its_own_bytes() {
        let value = (String::from("n1"), 300u64, vec![1u8, 2, 3], Some(true));
        assert_eq!(decode::<(String, u64, Vec<u8>, Option<bool>)>(&encode(&value).unwrap()).unwrap(), value);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u64).unwrap();
        bytes.push(0);
        assert!(decode::<u64>(&bytes).is_err());
    }

    #[test]
    fn a_hostile_length_is_refused_before_allocation() {
        assert!(payload_length(u32::MAX.to_le_bytes(), MAX_FRAME).is_err());
        assert!(payload_length(17u32.to_le_bytes(), 16).is_err());
        assert!(decode::<Vec<u64>>(&[253, 255, 255, 255, 255, 255, 255, 255, 127]).is_err());
    }

    #[test]
    fn integers_are_written_as_bincode_2_varints() {
        assert_eq!(encode(&250u64).unwrap(), [250]);
        assert_eq!(encode(&300u64).unwrap(), [251, 44, 1]);
    }
}
