//! One sample of every variant of every message.

mod client;
mod node;
mod rack;

use wire::Message;
use wire::frame::{decode, encode};

/// A message's name, its bytes and a function that decodes bytes of its type.
pub struct Sample {
    pub name: String,
    pub bytes: Vec<u8>,
    pub decodes: fn(&[u8]) -> Result<(), String>,
}

fn decodes<T: Message>(bytes: &[u8]) -> Result<(), String> {
    decode::<T>(bytes).map(drop).map_err(|e| e.to_string())
}

/// Makes a sample after proving that the value survives its own bytes.
pub fn sample<T: Message + PartialEq + std::fmt::Debug>(name: &str, value: T) -> Sample {
    let bytes = encode(&value).unwrap();
    assert_eq!(decode::<T>(&bytes).unwrap(), value, "{name}");
    Sample { name: name.to_owned(), bytes, decodes: decodes::<T> }
}

/// Short text.
pub fn s(text: &str) -> String {
    text.to_owned()
}

/// All samples.
pub fn all() -> Vec<Sample> {
    [client::samples(), rack::samples(), node::samples()].into_iter().flatten().collect()
}
