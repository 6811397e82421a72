//! One-time boot tokens: made when a known node fetches its overlay, checked when a machine enrols.
//!
//! The service node only proves that a machine holds a token it made for a node; that a token is used
//! once is decided by the masters, who keep its digest. Tokens outlive a restart of the daemon: a file
//! to which each new one is appended.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ring::{digest, hmac};
use wire::rack::TokenProof;

/// Seconds that a token lives: from the overlay to the enrolment.
pub const LIFETIME: u64 = 15 * 60;
/// Tokens kept for one node: a boot loader may fetch the overlay more than once.
const PER_NODE: usize = 4;
/// The file is written anew when it has this many lines.
const MAX_LINES: usize = 20_000;

/// The tokens of a rack. Clones are the same tokens.
#[derive(Debug, Clone, Default)]
pub struct Tokens(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    nodes: HashMap<String, Vec<Token>>,
    file: Option<File>,
    lines: usize,
}

#[derive(Clone)]
struct Token {
    secret: String,
    generation: u64,
    expires: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "tokens of {} nodes", self.nodes.len())
    }
}

impl Tokens {
    /// Tokens that are forgotten with the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// Tokens kept in the file `path`, which is made if need be.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path, now: u64) -> io::Result<Self> {
        let mut store = Store::default();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        for line in text.lines() {
            if let Some((node, token)) = parse(line).filter(|(_, token)| token.expires > now) {
                store.keep(&node, token, now);
            }
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        for (node, tokens) in &store.nodes {
            for token in tokens {
                writeln!(file, "{} {} {} {node}", token.expires, token.generation, token.secret)?;
                store.lines += 1;
            }
        }
        fs::rename(&fresh, path)?;
        store.file = Some(file);
        Ok(Self(Arc::new(Mutex::new(store))))
    }

    /// A fresh token for a node's boot, as the text to put into `/etc/margay/token`.
    ///
    /// # Errors
    /// When it could not be kept: a token that a restart would forget is not handed out.
    pub fn mint(&self, node: &str, generation: u64, now: u64) -> io::Result<String> {
        let secret = hex(&service::random::bytes::<32>());
        let token = Token { secret: secret.clone(), generation, expires: now + LIFETIME };
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = store.lines < MAX_LINES;
        if let (true, Some(file)) = (room, &mut store.file) {
            writeln!(file, "{} {generation} {secret} {node}", token.expires)?;
            store.lines += 1;
        }
        store.keep(node, token, now);
        Ok(secret)
    }

    /// Whose token was used for `proof`, the HMAC-SHA256 over `message`; the candidates' tokens are
    /// tried first, then all others.
    #[must_use]
    pub fn check(&self, candidates: &[String], message: &[u8], proof: &[u8], now: u64) -> Option<TokenProof> {
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = candidates.iter().filter_map(|name| store.nodes.get_key_value(name));
        for (node, tokens) in listed.chain(store.nodes.iter()) {
            for token in tokens.iter().filter(|token| token.expires > now) {
                let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
                if hmac::verify(&key, message, proof).is_ok() {
                    return Some(TokenProof {
                        node: node.clone(),
                        generation: token.generation,
                        digest: hex(digest::digest(&digest::SHA256, token.secret.as_bytes()).as_ref()),
                        expires: token.expires,
                    });
                }
            }
        }
        None
    }
}

impl Store {
    fn keep(&mut self, node: &str, token: Token, now: u64) {
        let tokens = self.nodes.entry(node.to_owned()).or_default();
        tokens.retain(|token| token.expires > now);
        if tokens.len() >= PER_NODE {
            tokens.remove(0);
        }
        tokens.push(token);
        if self.nodes.len() > MAX_LINES {
            self.nodes.retain(|_, tokens| tokens.iter().any(|token| token.expires > now));
        }
    }
}

fn parse(line: &str) -> Option<(String, Token)> {
    let mut words = line.split(' ');
    let expires = words.next()?.parse().ok()?;
    let generation = words.next()?.parse().ok()?;
    let secret = words.next().filter(|secret| secret.len() == 64)?.to_owned();
    let node = words.next()?.to_owned();
    Some((node, Token { secret, generation, expires }))
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn proof(token: &str, message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        hmac::sign(&key, message).as_ref().to_vec()
    }

    #[test]
    fn a_token_names_its_node_also_after_a_restart_and_not_after_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let token = Tokens::open(&path, 100).unwrap().mint("n1", 7, 100).unwrap();
        let again = Tokens::open(&path, 200).unwrap();
        let found = again.check(&[], b"channel", &proof(&token, b"channel"), 200).unwrap();
        assert_eq!((found.node.as_str(), found.generation), ("n1", 7));
        assert_eq!(found.digest.len(), 64);
        assert!(again.check(&[], b"channel", &proof(&token, b"channel"), 100 + LIFETIME).is_none());
    }

    #[test]
    fn a_proof_of_another_channel_or_with_another_token_names_nobody() {
        let tokens = Tokens::in_memory();
        let token = tokens.mint("n1", 1, 0).unwrap();
        assert!(tokens.check(&["n1".to_owned()], b"other", &proof(&token, b"channel"), 1).is_none());
        assert!(tokens.check(&[], b"channel", &proof("guess", b"channel"), 1).is_none());
        assert!(tokens.check(&[], b"channel", &[], 1).is_none());
    }

    #[test]
    fn a_boot_loader_that_fetches_twice_may_use_either_token() {
        let tokens = Tokens::in_memory();
        let first = tokens.mint("n1", 1, 0).unwrap();
        let second = tokens.mint("n1", 1, 1).unwrap();
        for token in [first, second] {
            assert!(tokens.check(&[], b"m", &proof(&token, b"m"), 2).is_some());
        }
    }
}
