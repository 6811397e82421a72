//! The cipher suites a session may use: 17 first, then 3. Suite 0 and the others do not exist here.

use aes::Aes128;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

const BLOCK: usize = 16;

/// An RMCP+ cipher suite (IPMI 2.0 table 22-20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
    /// HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
}

/// Keys of one session.
#[derive(Clone)]
pub struct Keys {
    suite: Suite,
    integrity: Vec<u8>,
    confidentiality: [u8; BLOCK],
}

impl Suite {
    /// In the order they are tried.
    pub const PREFERRED: [Self; 2] = [Self::Seventeen, Self::Three];

    /// Authentication, integrity and confidentiality algorithm.
    #[must_use]
    pub fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Seventeen => [3, 4, 1],
            Self::Three => [1, 1, 1],
        }
    }

    /// Length of the RAKP message 2 and 3 codes.
    #[must_use]
    pub fn hash_length(self) -> usize {
        match self {
            Self::Seventeen => 32,
            Self::Three => 20,
        }
    }

    /// Length of the code in RAKP message 4 and behind each packet.
    #[must_use]
    pub fn code_length(self) -> usize {
        match self {
            Self::Seventeen => 16,
            Self::Three => 12,
        }
    }

    /// The keyed hash over `parts`.
    #[must_use]
    pub fn hash(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        match self {
            Self::Seventeen => keyed::<Hmac<Sha256>>(key, parts).finalize().into_bytes().to_vec(),
            Self::Three => keyed::<Hmac<Sha1>>(key, parts).finalize().into_bytes().to_vec(),
        }
    }

    /// Whether `code` is the keyed hash over `parts`, cut to the length of `code`; in constant time.
    #[must_use]
    pub fn verify(self, key: &[u8], parts: &[&[u8]], code: &[u8]) -> bool {
        match self {
            Self::Seventeen => keyed::<Hmac<Sha256>>(key, parts).verify_truncated_left(code).is_ok(),
            Self::Three => keyed::<Hmac<Sha1>>(key, parts).verify_truncated_left(code).is_ok(),
        }
    }
}

fn keyed<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as Mac>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac
}

impl Keys {
    /// Derives the working keys from the session integrity key (IPMI 2.0 §13.32).
    #[must_use]
    pub fn new(suite: Suite, sik: &[u8]) -> Self {
        let integrity = suite.hash(sik, &[&[1; 20]]);
        let second = suite.hash(sik, &[&[2; 20]]);
        let mut confidentiality = [0; BLOCK];
        confidentiality.copy_from_slice(&second[..BLOCK]);
        Self { suite, integrity, confidentiality }
    }

    /// Length of the code behind a packet.
    #[must_use]
    pub fn code_length(&self) -> usize {
        self.suite.code_length()
    }

    /// The code behind a packet.
    #[must_use]
    pub fn code(&self, packet: &[u8]) -> Vec<u8> {
        let mut code = self.suite.hash(&self.integrity, &[packet]);
        code.truncate(self.suite.code_length());
        code
    }

    /// Whether `code` is the code of `packet`.
    #[must_use]
    pub fn authentic(&self, packet: &[u8], code: &[u8]) -> bool {
        code.len() == self.suite.code_length() && self.suite.verify(&self.integrity, &[packet], code)
    }

    /// IV and ciphertext of `payload`, padded as IPMI 2.0 §13.29 wants it.
    #[must_use]
    pub fn encrypt(&self, iv: [u8; BLOCK], payload: &[u8]) -> Vec<u8> {
        let padding = BLOCK - 1 - payload.len() % BLOCK;
        let mut plain = payload.to_vec();
        plain.extend((1u8..).take(padding));
        plain.push(u8::try_from(padding).expect("less than a block"));
        let length = plain.len();
        cbc::Encryptor::<Aes128>::new(&self.confidentiality.into(), &iv.into())
            .encrypt_padded_mut::<NoPadding>(&mut plain, length)
            .expect("whole blocks");
        let mut out = iv.to_vec();
        out.extend(plain);
        out
    }

    /// The payload in IV and ciphertext, when length and padding are right.
    #[must_use]
    pub fn decrypt(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (iv, cipher) = sealed.split_first_chunk::<BLOCK>()?;
        if cipher.is_empty() || cipher.len() % BLOCK != 0 {
            return None;
        }
        let mut plain = cipher.to_vec();
        cbc::Decryptor::<Aes128>::new(&self.confidentiality.into(), &(*iv).into())
            .decrypt_padded_mut::<NoPadding>(&mut plain)
            .ok()?;
        let padding = usize::from(plain.pop()?);
        let keep = plain.len().checked_sub(padding)?;
        let right = plain[keep..].iter().zip(1u8..).all(|(byte, expected)| *byte == expected);
        if padding >= BLOCK || !right {
            return None;
        }
        plain.truncate(keep);
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_encrypted_is_decrypted_at_every_length() {
        let keys = Keys::new(Suite::Seventeen, &[3; 32]);
        for length in 0..70 {
            let payload = vec![0xa5; length];
            let sealed = keys.encrypt([7; BLOCK], &payload);
            assert_eq!(sealed.len() % BLOCK, 0);
            assert_eq!(keys.decrypt(&sealed).unwrap(), payload, "length {length}");
        }
    }

    #[test]
    fn a_cut_or_empty_code_is_not_authentic() {
        let keys = Keys::new(Suite::Three, &[3; 20]);
        let code = keys.code(b"packet");
        assert!(keys.authentic(b"packet", &code));
        assert!(!keys.authentic(b"packet", &code[..11]));
        assert!(!keys.authentic(b"packet", &[]));
        assert!(!keys.authentic(b"packes", &code));
    }

    #[test]
    fn hmac_agrees_with_the_published_example() {
        // RFC 4231 test case 2 and RFC 2202 test case 2
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        let long = Suite::Seventeen.hash(b"Jefe", &parts);
        assert_eq!(long[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        let short = Suite::Three.hash(b"Jefe", &parts);
        assert_eq!(short[..4], [0xef, 0xfc, 0xdf, 0x6a]);
        assert_eq!((long.len(), short.len()), (32, 20));
    }
}
