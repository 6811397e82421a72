//! AES-128 in CBC mode, written out plainly (FIPS 197).
//!
//! The simulator must not share cryptography with the client it tests, so this is its own
//! implementation. It is neither fast nor constant-time, and needs to be neither.

use std::sync::OnceLock;

/// The S-box, computed once from its definition instead of being copied from a table.
struct Boxes {
    forward: [u8; 256],
    inverse: [u8; 256],
}

/// An expanded AES-128 key.
#[derive(Clone)]
pub struct Aes128 {
    round_keys: [[u8; 16]; 11],
    boxes: &'static Boxes,
}

impl Aes128 {
    /// Expands `key`.
    pub fn new(key: &[u8; 16]) -> Self {
        static BOXES: OnceLock<Boxes> = OnceLock::new();
        let boxes = BOXES.get_or_init(Boxes::new);
        let mut words = [[0u8; 4]; 44];
        for (word, chunk) in words.iter_mut().zip(key.chunks_exact(4)) {
            word.copy_from_slice(chunk);
        }
        let mut rcon = 1u8;
        for i in 4..44 {
            let mut temp = words[i - 1];
            if i % 4 == 0 {
                temp.rotate_left(1);
                for byte in &mut temp {
                    *byte = boxes.forward[usize::from(*byte)];
                }
                temp[0] ^= rcon;
                rcon = double(rcon);
            }
            for (k, byte) in temp.iter().enumerate() {
                words[i][k] = words[i - 4][k] ^ byte;
            }
        }
        let mut round_keys = [[0u8; 16]; 11];
        for (i, word) in words.iter().enumerate() {
            round_keys[i / 4][(i % 4) * 4..][..4].copy_from_slice(word);
        }
        Self { round_keys, boxes }
    }

    /// Encrypts one block.
    pub fn encrypt_block(&self, block: &mut [u8; 16]) {
        xor(block, &self.round_keys[0]);
        for round in 1..=10 {
            for byte in block.iter_mut() {
                *byte = self.boxes.forward[usize::from(*byte)];
            }
            shift_rows(block);
            if round < 10 {
                mix_columns(block, [2, 3, 1, 1]);
            }
            xor(block, &self.round_keys[round]);
        }
    }

    /// Decrypts one block.
    pub fn decrypt_block(&self, block: &mut [u8; 16]) {
        for round in (1..=10).rev() {
            xor(block, &self.round_keys[round]);
            if round < 10 {
                mix_columns(block, [14, 11, 13, 9]);
            }
            for _ in 0..3 {
                shift_rows(block);
            }
            for byte in block.iter_mut() {
                *byte = self.boxes.inverse[usize::from(*byte)];
            }
        }
        xor(block, &self.round_keys[0]);
    }

    /// Encrypts `data` (a whole number of blocks) in CBC mode.
    pub fn cbc_encrypt(&self, iv: &[u8; 16], data: &mut [u8]) {
        let mut previous = *iv;
        for chunk in data.chunks_exact_mut(16) {
            let mut block = previous;
            for (b, c) in block.iter_mut().zip(chunk.iter()) {
                *b ^= c;
            }
            self.encrypt_block(&mut block);
            chunk.copy_from_slice(&block);
            previous = block;
        }
    }

    /// Decrypts `data` (a whole number of blocks) in CBC mode.
    pub fn cbc_decrypt(&self, iv: &[u8; 16], data: &mut [u8]) {
        let mut previous = *iv;
        for chunk in data.chunks_exact_mut(16) {
            let mut block = [0u8; 16];
            block.copy_from_slice(chunk);
            let cipher = block;
            self.decrypt_block(&mut block);
            xor(&mut block, &previous);
            chunk.copy_from_slice(&block);
            previous = cipher;
        }
    }
}

impl Boxes {
    fn new() -> Self {
        let mut boxes = Self { forward: [0; 256], inverse: [0; 256] };
        for value in 0..=255u8 {
            let inverse = (0..=255u8).find(|candidate| multiply(value, *candidate) == 1).unwrap_or(0);
            let mut substituted = 0x63;
            for shift in 0..5 {
                substituted ^= inverse.rotate_left(shift);
            }
            boxes.forward[usize::from(value)] = substituted;
            boxes.inverse[usize::from(substituted)] = value;
        }
        boxes
    }
}

fn double(value: u8) -> u8 {
    (value << 1) ^ if value & 0x80 == 0 { 0 } else { 0x1b }
}

fn multiply(mut left: u8, mut right: u8) -> u8 {
    let mut product = 0;
    while right != 0 {
        if right & 1 == 1 {
            product ^= left;
        }
        left = double(left);
        right >>= 1;
    }
    product
}

fn xor(block: &mut [u8; 16], key: &[u8; 16]) {
    for (b, k) in block.iter_mut().zip(key) {
        *b ^= k;
    }
}

/// Row r of the column-major state moves left by r; three applications more undo it.
fn shift_rows(block: &mut [u8; 16]) {
    let old = *block;
    for column in 0..4 {
        for row in 1..4 {
            block[column * 4 + row] = old[((column + row) % 4) * 4 + row];
        }
    }
}

fn mix_columns(block: &mut [u8; 16], factors: [u8; 4]) {
    for column in block.chunks_exact_mut(4) {
        let mut mixed = [0u8; 4];
        for (row, out) in mixed.iter_mut().enumerate() {
            for (i, byte) in column.iter().enumerate() {
                *out ^= multiply(*byte, factors[(i + 4 - row) % 4]);
            }
        }
        column.copy_from_slice(&mixed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_example_block_is_encrypted_and_decrypted() {
        // FIPS 197, appendix C.1
        let mut key = [0u8; 16];
        let mut block = [0u8; 16];
        for (i, (k, b)) in (0u8..).zip(key.iter_mut().zip(block.iter_mut())) {
            *k = i;
            *b = i * 0x11;
        }
        let plain = block;
        let aes = Aes128::new(&key);
        aes.encrypt_block(&mut block);
        assert_eq!(
            block,
            [0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a]
        );
        aes.decrypt_block(&mut block);
        assert_eq!(block, plain);
    }

    #[test]
    fn cbc_decryption_undoes_encryption_over_several_blocks() {
        let aes = Aes128::new(&[7; 16]);
        let mut data = [0x5au8; 64];
        aes.cbc_encrypt(&[9; 16], &mut data);
        assert_ne!(data[..16], data[16..32]);
        aes.cbc_decrypt(&[9; 16], &mut data);
        assert_eq!(data, [0x5a; 64]);
    }
}
