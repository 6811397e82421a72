//! A folder with one link to the client for every name that it answers to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Asks the client for its names and makes the links; links that are there already are replaced.
pub fn make(client: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let names = process::text(Command::new(client).arg("--list-names"))?;
    for name in names.split_whitespace().chain(["margay"]) {
        let link = folder.join(name);
        match std::fs::remove_file(&link) {
            Err(fault) if fault.kind() != std::io::ErrorKind::NotFound => {
                return Err(fault).with_context(|| format!("replacing {}", link.display()));
            }
            _ => {}
        }
        std::os::unix::fs::symlink(client, &link).with_context(|| format!("making {}", link.display()))?;
    }
    Ok(())
}
