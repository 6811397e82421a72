//! How the state takes what racks tell: each event is decided against what the events before it left.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Applied, State, Touched};
use crate::change::{RowChange, Transaction};
use crate::discovery::{self, RackEntry, Times, Write, calendar};
use crate::tree::Tree;
use crate::view;

const KEY_CLOCK: &[u8] = b"s/clock";
const KEY_CONFIG: &[u8] = b"c/";
/// Author of these changes in the history.
const AUTHOR: &str = "servicenodes";

/// Until when cluster time has run, and which change touched whose configuration last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    /// Milliseconds of cluster time.
    pub(crate) time: u64,
    /// The revision of the last change that touched every node's configuration.
    everybody: u64,
    /// The same by node or group.
    owners: Tree<Arc<str>, u64>,
}

impl super::Event {
    /// Whether it is a changed row of which no view shows a changed column.
    pub fn is_unseen(&self) -> bool {
        let (Some(old), Some(new)) = (&self.old, &self.new) else { return false };
        let def = crate::schema::schema().def(self.table);
        let mut columns = def.columns.iter().enumerate();
        columns.all(|(at, column)| view::is_unseen(def.name, column.name) || old.get(at) == new.get(at))
    }

    /// The row before and after, by column names.
    pub fn rows(&self) -> (Option<view::Row>, Option<view::Row>) {
        let named = |row: &crate::row::Row| view::row_of(self.table, row);
        (self.old.as_ref().map(named), self.new.as_ref().map(named))
    }
}

impl State {
    /// Cluster time in milliseconds: how long the cluster was led. It never goes back.
    pub fn cluster_time(&self) -> u64 {
        self.clocks.time
    }

    /// The revision of the last change that touched the node's own configuration.
    pub fn config_revision(&self, node: &str) -> u64 {
        let of = |owner: &str| self.clocks.owners.get(owner).copied().unwrap_or(0);
        let groups = self.groups_of(node).map(of).max().unwrap_or(0);
        self.clocks.everybody.max(of(node)).max(groups)
    }

    pub(super) fn rack(&mut self, entry: &RackEntry) -> Applied {
        let mut applied = Applied::default();
        if entry.cluster_time > self.clocks.time {
            self.clocks.time = entry.cluster_time;
            applied.writes.push((KEY_CLOCK.to_vec(), Some(entry.cluster_time.to_be_bytes().to_vec())));
        }
        let times = Times { wall: entry.time, cluster: self.clocks.time, revision: self.revision + 1 };
        let mut touched = Touched::default();
        for event in &entry.events {
            let verdict = discovery::decide(self, event, times);
            for write in &verdict.writes {
                self.change(&row_change(write, times), times.revision, &mut touched);
            }
            applied.rack.push(verdict.outcome);
            applied.notices.extend(verdict.notices);
        }
        let transaction = Transaction {
            author: AUTHOR.to_owned(),
            command: String::new(),
            time: entry.time,
            ..Transaction::default()
        };
        let settled = self.settle(touched);
        self.keep(settled, &transaction, &mut applied);
        applied
    }

    /// Reads a pair that [`State::rack`] or [`State::note_config`] wrote; false when it is another's.
    pub(super) fn load_clocks(&mut self, key: &[u8], value: &[u8]) -> bool {
        let Some(number) = super::number(value) else { return false };
        if key == KEY_CLOCK {
            self.clocks.time = number;
        } else if key == KEY_CONFIG {
            self.clocks.everybody = number;
        } else if let Some(owner) =
            key.strip_prefix(KEY_CONFIG).and_then(|name| std::str::from_utf8(name).ok())
        {
            self.clocks.owners.insert(owner.into(), number);
        } else {
            return false;
        }
        true
    }

    /// Keeps the generations of the nodes' configurations in step with changed rows.
    pub(super) fn note_config(&mut self, applied: &mut Applied) {
        let revision = self.revision;
        let mut everybody = false;
        let mut owners: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        for event in &applied.events {
            let table = event.table_name();
            if !view::shows_config(table) || event.is_unseen() {
                continue;
            }
            let (old, new) = event.rows();
            let touch = view::Touch { table, old: old.as_ref(), new: new.as_ref() };
            if !view::touches_config(touch) {
                continue;
            }
            match event.node() {
                // A node that is gone needs no generation.
                Some(owner) => {
                    owners.insert(owner.into(), !(table == "nodelist" && event.new.is_none()));
                }
                None => everybody = true,
            }
        }
        if everybody {
            self.clocks.everybody = revision;
            applied.writes.push((KEY_CONFIG.to_vec(), Some(revision.to_be_bytes().to_vec())));
        }
        for (owner, keep) in owners {
            let key = [KEY_CONFIG, owner.as_bytes()].concat();
            applied.writes.push((key, keep.then(|| revision.to_be_bytes().to_vec())));
            match keep {
                true => self.clocks.owners.insert(owner, revision),
                false => self.clocks.owners.remove(&*owner),
            };
        }
    }
}

fn row_change(write: &Write, times: Times) -> RowChange {
    match write {
        Write::Set { table, key, values } => RowChange::Set {
            table: (*table).to_owned(),
            key: key.iter().map(|(_, value)| value.clone()).collect(),
            cells: values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        },
        Write::Delete { table, key } => RowChange::Delete {
            table: (*table).to_owned(),
            key: key.iter().map(|(_, value)| value.clone()).collect(),
        },
        Write::Audit { who, what, allowed } => RowChange::set(
            "auditlog",
            &[""],
            &[
                ("audittime", &calendar::stamp(times.wall)),
                ("userid", who),
                ("clienttype", "servicenode"),
                ("command", "discovery"),
                ("args", what),
                ("status", if *allowed { "allowed" } else { "denied" }),
            ],
        ),
    }
}

#[cfg(test)]
mod tests;
