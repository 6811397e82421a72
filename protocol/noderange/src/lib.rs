//! Noderange: the small language in which an admin names nodes.
//!
//! `rack1,-n3`, `n[1-72]@gpu`, `/sn\d`, `nodetype.os=~rhel`, `^file`: text becomes an expression
//! ([`parse`]), an expression becomes a sorted list of names ([`expand`]), and a list of names becomes the
//! shortest text again ([`fold`]).
//!
//! The crate knows nothing of tables: what nodes and groups exist, it asks through [`Groups`]. It reads no
//! file: the content of `^file` comes through the same trait. Every amount is bounded: the number of names one
//! expression may make, the depth of its parentheses, the size of a regular expression.

mod ast;
mod expand;
mod fold;
mod lexer;
mod parse;
mod select;

pub use ast::{Expr, Factor, Item, Term};
pub use expand::{Expansion, File, Groups, MAX_NAMES, Missing, Options, expand, generic};
pub use fold::fold;
pub use parse::{MAX_DEPTH, MAX_TEXT, parse};
pub use select::{Comparison, Matcher, Selector};

/// Why a noderange has no answer. A name that does not exist is not one of these; see [`Expansion::missing`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parenthesis was opened and not closed.
    #[error("Unbalanced parentheses in noderange at position {position}")]
    Unbalanced {
        /// Character position of the parenthesis, counted from 1.
        position: usize,
    },
    /// Parentheses nested deeper than [`MAX_DEPTH`], or files that name each other.
    #[error("noderange is nested deeper than {limit} at position {position}")]
    TooDeep {
        /// Character position, counted from 1.
        position: usize,
        /// The limit.
        limit: usize,
    },
    /// The text is longer than [`MAX_TEXT`].
    #[error("noderange of {length} bytes is longer than {limit}")]
    TooLong {
        /// Length of the text in bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The expression stands for more names than [`MAX_NAMES`].
    #[error("noderange stands for more than {limit} names at position {position}")]
    TooMany {
        /// Character position, counted from 1.
        position: usize,
        /// The limit.
        limit: usize,
    },
    /// A regular expression cannot be understood.
    #[error("regular expression '{text}' at position {position} of the noderange: {reason}")]
    Regex {
        /// The expression as written.
        text: String,
        /// Character position, counted from 1.
        position: usize,
        /// What is wrong with it, on one line.
        reason: String,
    },
    /// The content of this file is needed and was not given; ask the client for it and expand again.
    #[error("the content of file {0} is needed")]
    NeedFile(String),
}
