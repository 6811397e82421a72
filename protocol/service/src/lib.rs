//! What every daemon needs to be a good process: an orderly end, a log, a configuration, a clock,
//! patience that grows, and numbers about itself.
//!
//! Knows nothing of nodes, commands, roles or the wire.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod drain;
pub mod health;
pub mod log;
pub mod random;

pub use backoff::Backoff;
pub use clock::Clock;
pub use config::{Config, ConfigError};
pub use drain::Drain;
pub use health::{Counter, Health};
