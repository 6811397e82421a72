//! What a transaction changed: by the numbers of rows for the store, by their keys for those who watch.
//!
//! Numbers of removed rows are used again, also within one transaction. The store and the past go by numbers;
//! a watcher must not take the new row of a number for the renamed old one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Event;
use crate::row::Row;
use crate::schema::{TableId, schema};

/// Rows that a transaction touched so far.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Each row's first old form, by table and number.
    pub(crate) first: BTreeMap<(TableId, u64), Option<Row>>,
    /// Numbers whose row was removed, whatever has them now.
    pub(crate) removed: BTreeSet<(TableId, u64)>,
}

/// What is different after a transaction.
#[derive(Debug)]
pub(crate) struct Settled {
    /// By table and number.
    pub(crate) moves: Vec<Event>,
    pub(super) removed: BTreeSet<(TableId, u64)>,
}

impl Settled {
    /// Each key that is different, once: a row that was removed and made again is a changed row, a number that
    /// was used again is a removed row and a new one. When only the order of rows is different, each row that
    /// has another place is told, equal before and after: there is no revision without events.
    pub(crate) fn events(self) -> Vec<Event> {
        let reused = |event: &Event| {
            event.old.is_some() && event.new.is_some() && self.removed.contains(&(event.table, event.id))
        };
        let gone = self.moves.iter().any(|event| event.new.is_none());
        let made = self.moves.iter().any(|event| event.old.is_none());
        let plain = !(gone && made || self.moves.iter().any(reused));
        if plain {
            return self.moves;
        }
        let mut events = Vec::with_capacity(self.moves.len());
        let mut gone = HashMap::new();
        for mut event in self.moves {
            let old = match self.removed.contains(&(event.table, event.id)) || event.new.is_none() {
                true => event.old.take(),
                false => None,
            };
            if let Some(old) = old {
                gone.insert((event.table, key(event.table, &old)), (event.id, old));
            }
            if event.new.is_some() {
                events.push(event);
            }
        }
        for event in &mut events {
            if let (None, Some(new)) = (&event.old, &event.new)
                && let Some((_, old)) = gone.remove(&(event.table, key(event.table, new)))
            {
                event.old = Some(old);
            }
        }
        let differs = |event: &Event| match (&event.old, &event.new) {
            (Some(old), Some(new)) => !old.values().eq(new.values()),
            _ => true,
        };
        if !gone.is_empty() || events.iter().any(differs) {
            events.retain(differs);
        }
        let gone =
            gone.into_iter().map(|((table, _), (id, old))| Event { table, id, old: Some(old), new: None });
        events.extend(gone);
        events.sort_unstable_by_key(|event| (event.table, event.new.is_some(), event.id));
        events
    }
}

fn key(table: TableId, row: &Row) -> Vec<Box<str>> {
    schema().def(table).keys.iter().map(|&column| row.text(column).into()).collect()
}
