//! Random numbers of the operating system. The pure crates get them as arguments from here.

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes fit for keys and tokens.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the operating system gives random bytes");
    out
}

/// One random number, for back-off and ids.
#[must_use]
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_numbers_differ() {
        assert_ne!(super::bytes::<32>(), super::bytes::<32>());
        assert_ne!(super::number(), super::number());
    }
}
