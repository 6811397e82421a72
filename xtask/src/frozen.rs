//! The bytes of old messages never change: files below protocol/wire/tests/frozen are only added.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

const FOLDER: &str = "protocol/wire/tests/frozen";

/// Every frozen file that differs from the commit that first recorded it, one line each.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let git =
        |arguments: &[&str]| process::text(Command::new("git").current_dir(&workspace.root).args(arguments));
    if git(&["rev-parse", "--verify", "HEAD"]).is_err() {
        return Ok(Vec::new());
    }
    // One line per commit and file, newest first, so that the last one seen for a path is its first.
    let history = git(&["log", "--diff-filter=AMD", "--format=commit %H", "--name-status", "--", FOLDER])?;
    let now = git(&["status", "--porcelain", "--", FOLDER])?;
    Ok(faults(&history, &now))
}

/// Judges the history (`git log --name-status`) and the working tree (`git status --porcelain`).
fn faults(history: &str, now: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut commit = "";
    for line in history.lines() {
        if let Some(id) = line.strip_prefix("commit ") {
            commit = id;
        } else if let Some((kind, path)) = line.split_once('\t')
            && kind != "A"
        {
            let what = if kind == "D" { "removed" } else { "changed" };
            found.push(format!("{path} was {what} in {}", &commit[..commit.len().min(12)]));
        }
    }
    for line in now.lines() {
        let (state, path) = line.split_at(line.len().min(3));
        if !state.contains('?') && !state.contains('A') {
            found.push(format!("{path} is changed or removed in the working tree"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_files_are_fine_and_changed_ones_are_named() {
        let added = "commit 1234567890abcdef\n\nA\tprotocol/wire/tests/frozen/v01.rs\n";
        assert!(faults(added, "?? protocol/wire/tests/frozen/v02.rs\n").is_empty());
        assert!(faults(added, "A  protocol/wire/tests/frozen/v02.rs\n").is_empty());
        let changed = "commit 1234567890abcdef\n\nM\tprotocol/wire/tests/frozen/v01.rs\n";
        assert_eq!(faults(changed, ""), ["protocol/wire/tests/frozen/v01.rs was changed in 1234567890ab"]);
        assert_eq!(faults("", " M protocol/wire/tests/frozen/v01.rs\n").len(), 1);
        assert_eq!(faults("", " D protocol/wire/tests/frozen/v01.rs\n").len(), 1);
    }
}
