//! What may be asked of the state: transactions of row changes with preconditions.

use wire::ids::RequestId;
use wire::{Decode, Encode};

/// An entry of the replicated log. Variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Entry {
    /// Change rows.
    Transaction(Transaction),
    /// What racks told; the rows follow from it.
    Rack(crate::discovery::RackEntry),
    /// Keep a part of a transaction that is too large for one entry.
    Part(Part),
    /// Apply a transaction whose parts were kept before.
    Whole(Whole),
    /// Forget the parts of these transactions: nobody will complete them.
    Forget(Vec<u64>),
    /// Handlers of changes were called.
    Notify(Vec<crate::notify::Step>),
    /// Forget what revisions up to this one changed, some of them at a time.
    Compact(u64),
}

/// A part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// The transaction: a number that its proposer made by chance.
    pub stage: u64,
    /// Which part; they count from 0 and come in order, preconditions first.
    pub number: u32,
    /// Unix seconds at the proposer.
    pub time: u64,
    /// What it adds.
    pub content: Content,
}

/// What a part of a transaction holds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Content {
    /// More preconditions.
    Preconditions(Vec<Precondition>),
    /// More changes.
    Changes(Vec<RowChange>),
}

/// The end of a transaction in parts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Whole {
    /// Its own preconditions are checked before those of the parts, its own changes are made after theirs.
    pub transaction: Transaction,
    /// The number of the transaction.
    pub stage: u64,
    /// How many parts it has.
    pub parts: u32,
}

/// Row changes that happen together or not at all, at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Transaction {
    /// Who: the certificate's name, or `master`.
    pub author: String,
    /// Why: the command, with passwords masked.
    pub command: String,
    /// The request; applied once, however often it is proposed.
    pub request: Option<RequestId>,
    /// Unix seconds at the proposer, a label only.
    pub time: u64,
    /// Checked first; one that does not hold refuses the whole.
    pub preconditions: Vec<Precondition>,
    /// In this order.
    pub changes: Vec<RowChange>,
}

/// What must hold for a transaction to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Precondition {
    /// The row with this key was not changed, made or removed after this revision (the one it was read at).
    Unchanged {
        /// Table.
        table: String,
        /// Texts of its key columns.
        key: Vec<String>,
        /// Whether the row existed then.
        existed: bool,
        /// Revision at which it was read.
        at: u64,
    },
    /// The row does not exist.
    Absent {
        /// Table.
        table: String,
        /// Texts of its key columns.
        key: Vec<String>,
    },
    /// The row exists and this column has this text (empty: no value).
    Value {
        /// Table.
        table: String,
        /// Texts of its key columns.
        key: Vec<String>,
        /// Column.
        column: String,
        /// Text.
        value: String,
    },
    /// No row of the table was changed after this revision.
    TableUnchanged {
        /// Table.
        table: String,
        /// Revision at which it was read.
        at: u64,
    },
}

/// A change of rows. Variants are only appended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum RowChange {
    /// Set columns of the row with this key, which is made when there is none. An empty text clears a value.
    /// The key of an auto-numbered table is empty for a new row.
    Set {
        /// Table.
        table: String,
        /// Texts of its key columns, in the order of the schema.
        key: Vec<String>,
        /// Column and text.
        cells: Vec<(String, String)>,
    },
    /// Remove the row with this key, if there is one.
    Delete {
        /// Table.
        table: String,
        /// Texts of its key columns.
        key: Vec<String>,
    },
    /// Remove every row.
    Clear {
        /// Table.
        table: String,
    },
    /// Remove every row of every node table that belongs to this node.
    ForgetNode {
        /// Name.
        node: String,
    },
    /// Put a removed row back at its number, or at a new one when another row has it now.
    Restore {
        /// Table.
        table: String,
        /// Its number.
        id: u64,
        /// Column and text, keys included.
        cells: Vec<(String, String)>,
    },
}

impl Precondition {
    /// About how many bytes it takes in an entry.
    pub fn weight(&self) -> usize {
        match self {
            Precondition::Unchanged { table, key, .. } | Precondition::Absent { table, key } => {
                32 + table.len() + texts(key)
            }
            Precondition::Value { table, key, column, value } => {
                32 + table.len() + texts(key) + column.len() + value.len()
            }
            Precondition::TableUnchanged { table, .. } => 32 + table.len(),
        }
    }
}

fn texts(key: &[String]) -> usize {
    key.iter().map(|text| text.len() + 9).sum()
}

impl RowChange {
    /// About how many bytes it takes in an entry.
    pub fn weight(&self) -> usize {
        let pairs = |cells: &[(String, String)]| -> usize {
            cells.iter().map(|(column, text)| column.len() + text.len() + 18).sum()
        };
        match self {
            RowChange::Set { table, key, cells } => 32 + table.len() + texts(key) + pairs(cells),
            RowChange::Delete { table, key } => 32 + table.len() + texts(key),
            RowChange::Clear { table } => 32 + table.len(),
            RowChange::ForgetNode { node } => 32 + node.len(),
            RowChange::Restore { table, cells, .. } => 32 + table.len() + pairs(cells),
        }
    }

    /// [`RowChange::Set`] from borrowed text.
    pub fn set(table: &str, key: &[&str], cells: &[(&str, &str)]) -> RowChange {
        RowChange::Set {
            table: table.to_owned(),
            key: key.iter().map(|&k| k.to_owned()).collect(),
            cells: cells.iter().map(|&(c, v)| (c.to_owned(), v.to_owned())).collect(),
        }
    }

    /// [`RowChange::Delete`] from borrowed text.
    pub fn delete(table: &str, key: &[&str]) -> RowChange {
        RowChange::Delete { table: table.to_owned(), key: key.iter().map(|&k| k.to_owned()).collect() }
    }
}

/// What became of a transaction; kept for its request id when it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Outcome {
    /// The revision after it.
    pub revision: u64,
    /// Why nothing was changed.
    pub refused: Option<Refusal>,
    /// Nothing was done now: the request had been applied before, with this outcome.
    pub repeated: bool,
    /// How many rows were really changed.
    pub rows: u64,
}

/// Why a transaction changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// A row was changed by somebody else since it was read; plan again.
    Conflict {
        /// Table.
        table: String,
        /// Key texts joined by commas.
        key: String,
    },
    /// A row that should not exist does.
    Exists {
        /// Table.
        table: String,
        /// Key texts joined by commas.
        key: String,
    },
    /// A value is not what it should be.
    Differs {
        /// Table.
        table: String,
        /// Key texts joined by commas.
        key: String,
        /// Column.
        column: String,
    },
    /// Parts of the transaction are missing.
    Incomplete,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Conflict { table, key } => write!(f, "{table} {key} was changed by somebody else"),
            Refusal::Exists { table, key } => write!(f, "{table} {key} exists already"),
            Refusal::Differs { table, key, column } => {
                write!(f, "{table} {key}: {column} is not what it was expected to be")
            }
            Refusal::Incomplete => f.write_str("parts of the change were lost or did not fit; try again"),
        }
    }
}
