//! The user's editor, started when the master wants a text edited.
//!
//! Invariant: what the user wrote is sent again, not asked for again, when the same text comes a second time from
//! another master.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wire::client::Input;

use crate::side::{ask, has_terminal, in_pieces};

/// Largest text that is edited, in bytes.
const LARGEST: usize = 256 << 20;
/// Lines of a difference that are shown.
const SHOWN: usize = 200;

/// A text on its way to the editor, and the last one that came out of it.
#[derive(Debug, Default)]
pub struct Editing {
    text: Vec<u8>,
    done: Option<(Vec<u8>, String, Vec<Input>)>,
}

impl Editing {
    /// The next piece belongs to a new text.
    pub fn begin(&mut self) {
        self.text.clear();
    }

    /// Takes a piece of the text.
    pub fn piece(&mut self, bytes: &[u8]) {
        if self.text.len() <= LARGEST {
            self.text.extend_from_slice(bytes);
        }
    }

    /// Has the text edited under this name and gives the answer.
    pub async fn edit(&mut self, name: &str, complaint: &str, limit: u64) -> Vec<Input> {
        let text = std::mem::take(&mut self.text);
        if let Some((known, of, answer)) = &self.done
            && *known == text
            && of == complaint
        {
            return answer.clone();
        }
        let edited = match text.len() > LARGEST {
            true => Err(format!("the text is larger than {LARGEST} bytes")),
            false => edited(name, &text, complaint).await,
        };
        let answer = match edited {
            Ok(text) if text.len() as u64 <= limit => in_pieces(name, &text),
            Ok(_) => refuse(name, &format!("the text is larger than {limit} bytes")),
            Err(reason) => refuse(name, &reason),
        };
        self.done = Some((text, complaint.to_owned(), answer.clone()));
        answer
    }
}

fn refuse(name: &str, reason: &str) -> Vec<Input> {
    vec![Input::FileError { path: name.to_owned(), reason: reason.to_owned() }]
}

/// What the user made of the text; the error is why there is nothing.
async fn edited(name: &str, text: &[u8], complaint: &str) -> Result<Vec<u8>, String> {
    let terminal = has_terminal();
    if !complaint.is_empty() {
        if !terminal {
            return Err(complaint.to_owned());
        }
        let question = format!("{complaint}\nEdit again? [Y/n] ");
        if ask(&question).eq_ignore_ascii_case("n") {
            return Err(complaint.to_owned());
        }
    }
    let sheet = Sheet::new(name, text)?;
    loop {
        let after = sheet.edit().await?;
        if after == text || !terminal || !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
            return Ok(after);
        }
        let question = format!("{}Save? [Y/n/e to edit again] ", difference(text, &after));
        match ask(&question).to_ascii_lowercase().as_str() {
            "n" | "no" => return Err("nothing was saved".to_owned()),
            "e" | "edit" => {}
            _ => return Ok(after),
        }
    }
}

/// The command that edits.
fn editor() -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    set("TABEDITOR").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned())
}

/// A file in a folder of its own that only this user can read; both go with it.
struct Sheet {
    folder: PathBuf,
    path: PathBuf,
}

impl Sheet {
    fn new(name: &str, text: &[u8]) -> Result<Self, String> {
        let file = Path::new(name).file_name().ok_or_else(|| format!("{name}: not a file name"))?;
        let folder = std::env::temp_dir().join(format!("margay-edit-{:016x}", service::random::number()));
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let sheet = Self { path: folder.join(file), folder: folder.clone() };
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&sheet.path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, text)).map_err(failed)?;
        Ok(sheet)
    }

    async fn edit(&self) -> Result<Vec<u8>, String> {
        let editor = editor();
        // As a shell would have it: $EDITOR may hold options.
        let status = tokio::process::Command::new("/bin/sh")
            .args(["-c", &format!("{editor} \"$1\""), "sh"])
            .arg(&self.path)
            .status()
            .await;
        match status {
            Ok(status) if status.success() => {}
            Ok(status) => {
                return Err(format!("the editor '{editor}' ended with {status}; nothing was saved"));
            }
            Err(error) => return Err(format!("cannot start the editor '{editor}': {error}")),
        }
        std::fs::read(&self.path).map_err(|error| format!("cannot read {}: {error}", self.path.display()))
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Lines that went and lines that came. Rows of a table have no place, so moved lines are no difference.
fn difference(before: &[u8], after: &[u8]) -> String {
    let (before, after) = (String::from_utf8_lossy(before), String::from_utf8_lossy(after));
    let mut count: std::collections::HashMap<&str, i64> = std::collections::HashMap::new();
    for line in before.lines() {
        *count.entry(line).or_default() += 1;
    }
    let mut came = Vec::new();
    for line in after.lines() {
        let left = count.entry(line).or_default();
        if *left <= 0 {
            came.push(line);
        }
        *left -= 1;
    }
    let mut lines = Vec::new();
    for line in before.lines() {
        if let Some(left) = count.get_mut(line).filter(|left| **left > 0) {
            *left -= 1;
            lines.push(format!("- {line}\n"));
        }
    }
    lines.extend(came.iter().map(|line| format!("+ {line}\n")));
    if lines.is_empty() {
        return "Only the order of the lines changed.\n".to_owned();
    }
    let more = lines.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!("... and {more} lines more\n") } else { String::new() };
    lines.into_iter().take(SHOWN).chain([rest]).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_difference_names_lines_that_went_and_came() {
        assert_eq!(difference(b"#a\n1\n2\n2\n", b"#a\n2\n3\n"), "- 1\n- 2\n+ 3\n");
        assert_eq!(difference(b"1\n2\n", b"2\n1\n"), "Only the order of the lines changed.\n");
    }

    #[tokio::test]
    async fn an_answer_is_given_again_when_the_same_text_comes_again() {
        let mut editing = Editing { text: b"x".to_vec(), ..Editing::default() };
        let kept = in_pieces("a.csv", b"y");
        editing.done = Some((b"x".to_vec(), String::new(), kept.clone()));
        assert_eq!(editing.edit("a.csv", "", 10).await, kept);
        editing.begin();
        for _ in 0..2 {
            editing.piece(b"1");
        }
        assert_eq!(editing.text, b"11");
    }

    #[test]
    fn the_file_has_the_table_s_name_and_goes_with_its_folder() {
        let sheet = Sheet::new("../nodepos.csv", b"#node\n").unwrap();
        assert!(sheet.path.ends_with("nodepos.csv") && sheet.path.starts_with(&sheet.folder));
        assert_eq!(std::fs::read(&sheet.path).unwrap(), b"#node\n");
        let folder = sheet.folder.clone();
        drop(sheet);
        assert!(!folder.exists());
    }
}
