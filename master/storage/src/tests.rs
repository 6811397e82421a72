//! Groups of one and of three in one process.
#![allow(clippy::unwrap_used)]

mod single;
mod three;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use service::Drain;

use crate::*;

/// Longest wait for anything; never reached when all is well.
const LONG: Duration = Duration::from_secs(60);

/// A map from words to words; the answer is how many words there are.
#[derive(Debug, Default)]
struct Words {
    map: BTreeMap<String, String>,
    panics: bool,
}

/// Set to make every machine of this test process panic on the entry `panic=now`.
static ARMED: AtomicBool = AtomicBool::new(false);

impl Machine for Words {
    type Answer = usize;

    fn apply(&mut self, _index: u64, entry: &[u8], writes: &mut Writes) -> usize {
        let text = std::str::from_utf8(entry).unwrap();
        let (key, value) = text.split_once('=').unwrap();
        assert!(!(self.panics && ARMED.load(Ordering::Relaxed) && key == "panic"), "on purpose");
        if value.is_empty() {
            writes.delete(key);
            self.map.remove(key);
        } else {
            writes.put(key, value);
            self.map.insert(key.to_owned(), value.to_owned());
        }
        self.map.len()
    }

    fn load(&mut self, rows: &mut dyn Iterator<Item = (Vec<u8>, Vec<u8>)>) {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        self.map = rows.map(|(key, value)| (text(key), text(value))).collect();
    }
}

fn single(directory: &Path) -> Options {
    Options { on_fault: OnFault::Report, min_free: 0, ..Options::single(directory, "c1", "m1") }
}

fn open(options: Options, drain: &Drain) -> Group<Words> {
    Group::open(options, Words::default(), None, drain).unwrap()
}

async fn leading(group: &Group<Words>) {
    let mut status = group.status();
    tokio::time::timeout(LONG, status.wait_for(|status| status.role == Role::Leader)).await.unwrap().unwrap();
}

async fn put(group: &Group<Words>, key: &str, value: &str) -> Result<(u64, usize), ProposeError> {
    group.propose(format!("{key}={value}").into_bytes()).await
}
