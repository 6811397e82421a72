//! The bytes of messages never change once they are recorded.
//!
//! A line of a file below protocol/wire/tests/frozen is the frozen bytes of one message. The newest file may
//! get further lines while its version is being made; a line is never changed or removed, and a file is
//! closed for good as soon as a newer one exists.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::workspace::Workspace;

const FOLDER: &str = "protocol/wire/tests/frozen";

/// Every breach of the rule in the recorded history and in the working tree, one line each.
pub fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let git =
        |arguments: &[&str]| process::text(Command::new("git").current_dir(&workspace.root).args(arguments));
    if git(&["rev-parse", "--verify", "HEAD"]).is_err() {
        return Ok(Vec::new());
    }
    let plain = ["--no-color", "--no-ext-diff", "--no-renames", "-U0"];
    let patch =
        |words: &[&str]| git(&[words, &plain, &["--", FOLDER]].concat()).map(|text| text.replace('\r', ""));
    let mut rule = Rule::default();
    rule.read(&patch(&["log", "-p", "--reverse", "--format=commit %H"])?);
    rule.read(&format!("commit the working tree\n{}", patch(&["diff", "HEAD"])?));
    Ok(rule.faults)
}

/// Reads patches in the order in which they were made.
#[derive(Default)]
struct Rule {
    /// The newest frozen file so far.
    newest: String,
    faults: Vec<String>,
}

impl Rule {
    fn read(&mut self, patches: &str) {
        let (mut commit, mut file) = (String::new(), String::new());
        for line in patches.lines() {
            if let Some(id) = line.strip_prefix("commit ") {
                commit = if id.contains(' ') { id.to_owned() } else { id.chars().take(12).collect() };
            } else if line.starts_with("diff --git ") {
                file = line.rsplit('/').next().unwrap_or_default().to_owned();
                if file < self.newest {
                    self.faults
                        .push(format!("{file} is closed ({} exists), changed by {commit}", self.newest));
                }
                self.newest = self.newest.clone().max(file.clone());
            } else if line.starts_with('-') && !line.starts_with("--- ") {
                let name = line[1..].split(' ').next().unwrap_or_default();
                self.faults.push(format!("{file}: {name} was changed or removed by {commit}"));
            }
        }
        self.faults.dedup();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(patches: &str) -> Vec<String> {
        let mut rule = Rule::default();
        rule.read(patches);
        rule.faults
    }

    const ADDED: &str = "commit 1234567890abcdef\n\ndiff --git a/f/v01.txt b/f/v01.txt\nnew file mode 100644\n\
                         --- /dev/null\n+++ b/f/v01.txt\n@@ -0,0 +1,2 @@\n+a.b 01\n+c.d 02\n";

    #[test]
    fn a_new_file_and_further_lines_of_the_newest_one_are_fine() {
        let more = "commit 2234567890abcdef\ndiff --git a/f/v01.txt b/f/v01.txt\n--- a/f/v01.txt\n\
                    +++ b/f/v01.txt\n@@ -2,0 +3 @@\n+e.f 03\n";
        assert!(faults(&format!("{ADDED}{more}")).is_empty());
    }

    #[test]
    fn a_changed_line_is_named_with_its_commit() {
        let changed = "commit 2234567890abcdef\ndiff --git a/f/v01.txt b/f/v01.txt\n--- a/f/v01.txt\n\
                       +++ b/f/v01.txt\n@@ -1 +1 @@\n-a.b 01\n+a.b 09\n";
        assert_eq!(
            faults(&format!("{ADDED}{changed}")),
            ["v01.txt: a.b was changed or removed by 2234567890ab"]
        );
    }

    #[test]
    fn a_file_is_closed_when_a_newer_one_exists() {
        let newer = ADDED.replace("v01", "v02").replace("1234567890abcdef", "the working tree");
        let late = "commit 3234567890abcdef\ndiff --git a/f/v01.txt b/f/v01.txt\n@@ -2,0 +3 @@\n+e.f 03\n";
        assert_eq!(
            faults(&format!("{ADDED}{newer}{late}")),
            ["v01.txt is closed (v02.txt exists), changed by 3234567890ab"]
        );
    }
}
