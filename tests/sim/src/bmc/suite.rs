//! The two cipher suites the simulated BMCs speak, on `ring` and our own AES.

use ring::hmac;

use super::aes::Aes128;

/// Key material, authentication and encryption of one RMCP+ suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Suite 3: HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// Suite 17: HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

/// Keys of an established session.
#[derive(Clone)]
pub struct Keys {
    suite: Suite,
    integrity: Vec<u8>,
    aes: Aes128,
}

impl Suite {
    /// The suite with these three algorithm numbers, if the simulator speaks it.
    pub fn from_algorithms(authentication: u8, integrity: u8, confidentiality: u8) -> Option<Self> {
        match (authentication, integrity, confidentiality) {
            (1, 1, 1) => Some(Self::Three),
            (3, 4, 1) => Some(Self::Seventeen),
            _ => None,
        }
    }

    /// The suite's number in Get Channel Cipher Suites.
    pub fn number(self) -> u8 {
        match self {
            Self::Three => 3,
            Self::Seventeen => 17,
        }
    }

    /// Authentication, integrity and confidentiality algorithm numbers.
    pub fn algorithms(self) -> [u8; 3] {
        match self {
            Self::Three => [1, 1, 1],
            Self::Seventeen => [3, 4, 1],
        }
    }

    /// The full keyed hash used by the RAKP messages.
    pub fn hash(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Three => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Seventeen => hmac::HMAC_SHA256,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), data).as_ref().to_vec()
    }

    /// Bytes of the (truncated) code behind each packet and in RAKP message 4.
    pub fn code_length(self) -> usize {
        match self {
            Self::Three => 12,
            Self::Seventeen => 16,
        }
    }
}

impl Keys {
    /// Derives K1 and K2 from the session integrity key.
    pub fn new(suite: Suite, sik: &[u8]) -> Self {
        let integrity = suite.hash(sik, &[1; 20]);
        let k2 = suite.hash(sik, &[2; 20]);
        let mut key = [0u8; 16];
        key.copy_from_slice(&k2[..16]);
        Self { suite, integrity, aes: Aes128::new(&key) }
    }

    /// The authentication code of a packet.
    pub fn code(&self, packet: &[u8]) -> Vec<u8> {
        let mut code = self.suite.hash(&self.integrity, packet);
        code.truncate(self.suite.code_length());
        code
    }

    /// The suite of these keys.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// IV and ciphertext of a payload.
    pub fn encrypt(&self, payload: &[u8], iv: [u8; 16]) -> Vec<u8> {
        let mut plain = payload.to_vec();
        let padding = (16 - (plain.len() + 1) % 16) % 16;
        plain.extend((1u8..).take(padding));
        plain.push(u8::try_from(padding).expect("below 16"));
        self.aes.cbc_encrypt(&iv, &mut plain);
        let mut out = iv.to_vec();
        out.extend(plain);
        out
    }

    /// The payload inside IV and ciphertext; `None` when padding or length are wrong.
    pub fn decrypt(&self, data: &[u8]) -> Option<Vec<u8>> {
        if data.len() < 32 || !data.len().is_multiple_of(16) {
            return None;
        }
        let mut iv = [0u8; 16];
        iv.copy_from_slice(&data[..16]);
        let mut plain = data[16..].to_vec();
        self.aes.cbc_decrypt(&iv, &mut plain);
        let padding = usize::from(plain.pop()?);
        let keep = plain.len().checked_sub(padding)?;
        let expected: Vec<u8> = (1u8..).take(padding).collect();
        if padding > 15 || plain[keep..] != expected[..] {
            return None;
        }
        plain.truncate(keep);
        Some(plain)
    }
}
