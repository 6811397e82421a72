//! The user's side of a request: files, standard input and the terminal, all only when the master asks.

use std::fs::{File, Permissions};
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use wire::client::Input;

/// Bytes of a file or of standard input in one message.
const PIECE: usize = 64 * 1024;
/// Pieces of standard input that are read ahead; the reader waits when the master is slower.
const AHEAD: usize = 4;
/// Standard input up to this size can be sent a second time to another master.
const REPLAY: usize = 4 * 1024 * 1024;

/// Standard input of this process, read by its own thread from the first time it is wanted.
#[derive(Debug, Default)]
pub struct Stdin {
    source: Option<mpsc::Receiver<Input>>,
    kept: Option<Vec<Input>>,
    size: usize,
}

impl Stdin {
    /// Starts to read, unless it was started before.
    pub fn start(&mut self) {
        if self.source.is_some() {
            return;
        }
        let (sender, receiver) = mpsc::channel(AHEAD);
        self.source = Some(receiver);
        self.kept = Some(Vec::new());
        // A thread: reading a terminal cannot be given up, and the process must be able to end meanwhile.
        std::thread::spawn(move || {
            let mut input = std::io::stdin().lock();
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match input.read(&mut buffer) {
                    Ok(0) => Input::StdinEnd,
                    Ok(count) => Input::Stdin(buffer[..count].to_vec()),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(_) => Input::StdinEnd,
                };
                let last = piece == Input::StdinEnd;
                if sender.blocking_send(piece).is_err() || last {
                    return;
                }
            }
        });
    }

    /// The next piece; for ever pending before [`Stdin::start`] and after the end. May be dropped anywhere.
    pub async fn next(&mut self) -> Input {
        let piece = match &mut self.source {
            Some(source) => source.recv().await,
            None => None,
        };
        let Some(piece) = piece else { return std::future::pending().await };
        if let Input::Stdin(bytes) = &piece {
            self.size += bytes.len();
        }
        if self.size > REPLAY {
            self.kept = None;
        } else if let Some(kept) = &mut self.kept {
            kept.push(piece.clone());
        }
        piece
    }

    /// What has been read so far, for a master that asks again; none when it was too much to keep.
    #[must_use]
    pub fn replay(&self) -> Option<&[Input]> {
        if self.source.is_none() { Some(&[]) } else { self.kept.as_deref() }
    }
}

/// The pieces of the file that the master asked for, or why there are none.
#[must_use]
pub fn read_file(path: &str, limit: u64) -> Vec<Input> {
    let refuse = |reason: String| vec![Input::FileError { path: path.to_owned(), reason }];
    let content = std::fs::File::open(at_home(path)).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(std::io::Error::other("Is a directory"));
        }
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        Ok(content)
    });
    let content = match content {
        Ok(content) => content,
        Err(error) => return refuse(words(&error)),
    };
    if content.len() as u64 > limit {
        return refuse(format!("it is larger than {limit} bytes"));
    }
    in_pieces(path, &content)
}

/// The names of the files in the folder that the master asked for, one a line, or why there are none.
#[must_use]
pub fn read_folder(path: &str, limit: u64) -> Vec<Input> {
    let refuse = |reason: String| vec![Input::FileError { path: path.to_owned(), reason }];
    let names = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut size = 0;
        for entry in std::fs::read_dir(at_home(path))? {
            let entry = entry?;
            if !std::fs::metadata(entry.path()).is_ok_and(|about| about.is_file()) {
                continue;
            }
            let name = entry.file_name().to_string_lossy().replace('\n', "?");
            size += name.len() as u64 + 1;
            if size > limit {
                return Err(std::io::Error::other(format!("its names are longer than {limit} bytes")));
            }
            names.push(name);
        }
        names.sort_unstable();
        Ok(names)
    };
    match names() {
        Ok(names) => in_pieces(path, names.join("\n").as_bytes()),
        Err(error) => refuse(words(&error)),
    }
}

/// A content in pieces, under this name.
#[must_use]
pub fn in_pieces(path: &str, content: &[u8]) -> Vec<Input> {
    let mut pieces: Vec<Input> = content
        .chunks(PIECE)
        .map(|piece| Input::File { path: path.to_owned(), bytes: piece.to_vec(), last: false })
        .collect();
    match pieces.last_mut() {
        Some(Input::File { last, .. }) => *last = true,
        _ => pieces.push(Input::File { path: path.to_owned(), bytes: Vec::new(), last: true }),
    }
    pieces
}

/// A file that comes from the master in pieces: it is there under its name when it is whole, or not at all.
#[derive(Debug, Default)]
pub struct Receiving {
    open: Option<Part>,
}

#[derive(Debug)]
struct Part {
    path: String,
    temporary: PathBuf,
    file: File,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Under its name there is nothing to remove any more.
        let _ = std::fs::remove_file(&self.temporary);
    }
}

impl Receiving {
    /// Takes a piece of the file of this path.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn piece(&mut self, path: &str, bytes: &[u8]) -> Result<(), String> {
        let part = match self.open.take().filter(|part| part.path == path) {
            Some(part) => part,
            None => Part::create(path)?,
        };
        let part = self.open.insert(part);
        part.file.write_all(bytes).map_err(|error| format!("{path}: {}", words(&error)))
    }

    /// Takes the last piece and gives the file its name; its folder is made when only that one is missing.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn end(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        self.piece(path, bytes)?;
        let Some(part) = self.open.take() else { return Ok(()) };
        part.file
            .set_permissions(Permissions::from_mode(mode & 0o777))
            .and_then(|()| part.file.sync_all())
            .and_then(|()| std::fs::rename(&part.temporary, at_home(path)))
            .map_err(|error| format!("{path}: {}", words(&error)))
    }
}

impl Part {
    fn create(path: &str) -> Result<Part, String> {
        let target = &at_home(path);
        let name = target.file_name().ok_or_else(|| format!("{path}: not a file name"))?;
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.exists() {
            // One level only: what is further up was named by mistake.
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(folder)
                .map_err(|error| format!("{}: {}", folder.display(), words(&error)))?;
        }
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".{}", std::process::id()));
        let temporary = folder.join(temporary);
        // Only the user's until the mode is known.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|error| format!("{path}: {}", words(&error)))?;
        Ok(Part { path: path.to_owned(), temporary, file })
    }
}

/// The path, where `~/` is this user's home.
fn at_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.into(),
    }
}

/// Whether there is a terminal to ask on.
#[must_use]
pub fn has_terminal() -> bool {
    std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").is_ok()
}

/// Asks the user on the terminal; the empty text when there is none.
#[must_use]
pub fn ask(question: &str) -> String {
    let tty = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty");
    let Ok(mut tty) = tty else { return String::new() };
    let mut answer = String::new();
    let _ = write!(tty, "{question}").and_then(|()| tty.flush());
    let _ = std::io::BufReader::new(tty).take(4096).read_line(&mut answer);
    answer.trim_end_matches(['\n', '\r']).to_owned()
}

/// The system's words without Rust's number behind them.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_goes_in_pieces_and_the_last_one_says_so() {
        let folder = std::env::temp_dir().join(format!("margay-cli-side-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("f").display().to_string();
        Receiving::default().end(&path, &vec![b'x'; PIECE + 1], 0o600).unwrap();
        let pieces = read_file(&path, 1 << 20);
        assert_eq!(pieces.len(), 2);
        assert!(matches!(&pieces[1], Input::File { bytes, last: true, .. } if bytes.len() == 1));
        assert!(
            matches!(&read_file(&path, 10)[..], [Input::FileError { reason, .. }] if reason.contains("larger"))
        );
        Receiving::default().end(&path, b"", 0o600).unwrap();
        assert!(matches!(&read_file(&path, 10)[..], [Input::File { last: true, .. }]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_tilde_is_the_user_s_home() {
        let home = std::env::var("HOME").unwrap();
        assert_eq!(at_home("~/.ssh/known_hosts"), Path::new(&home).join(".ssh/known_hosts"));
        assert_eq!(at_home("/~/x"), Path::new("/~/x"));
    }

    #[test]
    fn a_folder_is_told_by_the_names_of_its_files() {
        let folder = std::env::temp_dir().join(format!("margay-cli-folder-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for name in ["b.csv", "a.csv"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let path = folder.display().to_string();
        assert!(
            matches!(&read_folder(&path, 100)[..], [Input::File { bytes, last: true, .. }] if bytes == b"a.csv\nb.csv")
        );
        assert!(
            matches!(&read_folder(&path, 9)[..], [Input::FileError { reason, .. }] if reason.contains("longer"))
        );
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(
            matches!(&read_folder(&path, 9)[..], [Input::FileError { reason, .. }] if reason == "No such file or directory")
        );
    }

    #[test]
    fn a_missing_file_is_told_in_the_system_s_words() {
        let pieces = read_file("/nonexistent/file", 10);
        assert!(
            matches!(&pieces[..], [Input::FileError { reason, .. }] if reason == "No such file or directory")
        );
    }
}
