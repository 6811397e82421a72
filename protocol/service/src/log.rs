//! The log of a daemon: `tracing` to standard error, filtered by `MARGAY_LOG`
//! (for example `MARGAY_LOG=info,link=debug`).

use tracing_subscriber::EnvFilter;

/// The environment variable with the filter.
pub const VARIABLE: &str = "MARGAY_LOG";

/// Starts logging with `default` as the filter where the environment names none.
///
/// Returns a complaint to print when the filter in the environment cannot be read; the default is used
/// then. A second call in one process (tests) changes nothing.
pub fn init(default: &str) -> Option<String> {
    let (filter, complaint) = match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => match EnvFilter::try_new(&text) {
            Ok(filter) => (filter, None),
            Err(error) => (EnvFilter::new(default), Some(format!("{VARIABLE}={text}: {error}"))),
        },
        _ => (EnvFilter::new(default), None),
    };
    // Under systemd the journal adds the time; on a terminal the colors help.
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let terminal = !plain && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        .try_init();
    complaint
}
