//! The service node's counters as a file (`state_dir/counters`, one `name value` a line): readable when no
//! master is there to ask.

use std::path::PathBuf;
use std::time::Duration;

use service::{Drain, Health};
use tracing::warn;

/// How often the file is made current.
const BEAT: Duration = Duration::from_secs(1);

/// Keeps the file current until the drain stops; the last numbers are written at the end.
pub async fn keep(path: PathBuf, health: Health, drain: Drain) {
    let mut written = None;
    let mut complained = false;
    loop {
        let text: String = health.all().iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        if written.as_ref() != Some(&text) {
            match replace(&path, &text).await {
                Ok(()) => written = Some(text),
                Err(error) if !complained => {
                    complained = true;
                    warn!(file = %path.display(), %error, "the counters cannot be written");
                }
                Err(_) => {}
            }
        }
        if drain.is_stopping() {
            return;
        }
        tokio::select! {
            biased;
            () = drain.stopping() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

/// Readers see the old numbers or the new ones.
async fn replace(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    tokio::fs::write(&fresh, text).await?;
    tokio::fs::rename(&fresh, path).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn the_file_holds_every_counter_when_the_daemon_has_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("counters");
        let (health, drain) = (Health::new(), Drain::new());
        health.counter("b").add(2);
        health.counter("a").one();
        drain.stop();
        keep(path.clone(), health, drain).await;
        assert_eq!(std::fs::read_to_string(path).unwrap(), "a 1\nb 2\n");
    }
}
