//! The state of a cluster: all tables, who is in which group, which request was done, and the past.
//!
//! [`State::apply`] turns a log entry into a new state, into events for watchers and into key/value writes for
//! the store; it is deterministic, cannot fail and cannot panic. What can be refused is refused by its
//! preconditions, as an answer.
//!
//! The crate knows nothing of disks, networks, clocks and randomness. Invariant: the state is a function of the
//! key/value pairs it has written; [`State::load`] of them gives an equal state.

pub mod actions;
mod apply;
pub mod calendar;
pub mod change;
pub mod digest;
pub mod discovery;
#[cfg(test)]
mod effort;
mod groups;
pub mod history;
pub mod initial;
pub mod notify;
mod object;
mod pattern;
pub mod policy;
mod resolve;
mod row;
pub mod schema;
mod table;
mod tree;
pub mod view;
pub mod waiting;

pub use apply::{Applied, Event, Past, PastRow, REQUESTS, STAGE_LIFE, STAGED, State, history_key};
pub use change::{Content, Entry, Outcome, Part, Precondition, Refusal, RowChange, Transaction, Whole};
pub use groups::{Files, Selection};
pub use history::{HISTORY, HISTORY_BYTES};
pub use pattern::fault as pattern_fault;
pub use resolve::{Column, Found};
pub use row::Row;
pub use schema::{TableDef, TableId, schema};
pub use table::Table;
pub use tree::Tree;
