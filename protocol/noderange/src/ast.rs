//! The expression a noderange stands for. Every value of these types can be expanded.
//!
//! A comma list of items; an item is a chain of factors joined by `@` (intersection), added or taken away as a
//! whole; a factor is a word, a search, a file or a list in parentheses.

use crate::select::Selector;

/// A comma list. What is taken away is taken away last, wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expr {
    /// In the order written.
    pub items: Vec<Item>,
}

/// One element of the comma list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Preceded by `-`.
    pub exclude: bool,
    /// What is added or taken away.
    pub term: Term,
}

/// Factors joined by `@`: the names that are in all of them. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// In the order written.
    pub factors: Vec<Factor>,
}

/// The smallest part that stands for a set of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Factor {
    /// A node, a group, a number or a range; which of them is decided when it is expanded.
    Word {
        /// As written, without quotes.
        text: String,
        /// Character position, counted from 1.
        position: usize,
    },
    /// `/regex`: all nodes whose name matches.
    Pattern {
        /// Without the slash.
        regex: String,
        /// Character position, counted from 1.
        position: usize,
    },
    /// `table.column==value` and its relatives.
    Select {
        /// What is compared.
        selector: Selector,
        /// Character position, counted from 1.
        position: usize,
    },
    /// `^path`: one noderange a line.
    File {
        /// Path on the side of the client.
        path: String,
    },
    /// `( ... )`
    List(Expr),
    /// Text and parentheses grown together, such as `/(a|b)`: the part in parentheses is looked up on its own,
    /// as xCAT does, so this names nothing.
    Broken {
        /// What stood in parentheses.
        inner: Expr,
        /// The whole text.
        text: String,
        /// Character position, counted from 1.
        position: usize,
    },
    /// Something that names nothing, on purpose and without an error (`@` with nothing before it, `~x`).
    Nothing,
    /// Something that has no effect at all (`@^file`, a trailing `@`).
    Skip,
}
