//! Measures instants of the past: `cargo run --release -p state --example past [nodes] [revisions]`.
//!
//! The rows of the past are decoded from their stored form, as a master does it; reading them from the disk is
//! not in the numbers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use state::history::Rewind;
use state::{Entry, Past, RowChange, State, Transaction, history_key};

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let nodes = numbers.next().unwrap_or(10_000);
    let revisions = numbers.next().unwrap_or(10_000);
    let mut state = State::new();
    let mut store = BTreeMap::new();
    let mut apply = |changes: Vec<RowChange>, state: &mut State, index: u64| {
        let transaction = Transaction { changes, ..Transaction::default() };
        for (key, value) in state.apply(index, &Entry::Transaction(transaction)).writes {
            if let Some(value) = value.filter(|_| key.starts_with(b"h/")) {
                store.insert(key, value);
            }
        }
    };
    let set = |node: u64, groups: String| {
        RowChange::set("nodelist", &[&format!("n{node}")], &[("groups", &groups), ("status", "booted")])
    };
    apply((0..nodes).map(|node| set(node, "all".to_owned())).collect(), &mut state, 1);
    for index in 2..revisions {
        // Every hundredth change touches a tenth of the nodes, the others one.
        let count = if index % 100 == 0 { nodes / 10 } else { 1 };
        let first = index.wrapping_mul(7919) % nodes;
        let changes =
            (0..count).map(|at| set((first + at) % nodes, format!("all,g{}", index % 50))).collect();
        apply(changes, &mut state, index);
    }
    let bytes: usize = store.values().map(Vec::len).sum();
    println!("{nodes} nodes, {} revisions, history of {bytes} bytes", state.revision());
    let mut times = Vec::new();
    for at in 0..40 {
        let revision = 1 + (state.revision() - 1) * at / 40;
        let begun = Instant::now();
        let mut rewind = Rewind::default();
        for (key, value) in store.range(history_key(revision + 1, 0)..) {
            let number = key.get(2..10).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
            if let Ok(past) = wire::frame::decode::<Past>(value) {
                rewind.add(number, past);
            }
        }
        let then = state.derived().rewound(rewind, revision);
        times.push(begun.elapsed());
        assert_eq!(then.revision(), revision);
    }
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or(Duration::ZERO);
    println!(
        "an instant: half within {middle:?}, all within {:?}",
        times.last().copied().unwrap_or_default()
    );
}
