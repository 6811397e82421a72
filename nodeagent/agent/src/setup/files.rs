//! Files of the set-up: written whole beside the old one and put in its place, or as a marked block
//! inside a file that belongs to others too.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

const BEGIN: &str = "# margay: begin (changes here are lost)";
const END: &str = "# margay: end";

/// Replaces a file's text; mode and owner of an existing one stay.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    write_bytes(path, text.as_bytes(), mode)
}

/// Replaces a file's bytes; mode and owner of an existing one stay. An equal file is not touched.
pub fn write_bytes(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let old = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
    if old.is_some() && fs::read(path).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let folder = path.parent().ok_or_else(|| format!("{}: no folder", path.display()))?;
    fs::create_dir_all(folder).map_err(failed)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = folder.join(format!(".{name}.margay"));
    let put = || -> std::io::Result<()> {
        let _ = fs::remove_file(&fresh);
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&fresh)?;
        if let Some(old) = &old {
            file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
            if (old.uid(), old.gid()) != (file.metadata()?.uid(), file.metadata()?.gid()) {
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    put().map_err(failed)
}

/// Puts our lines into a file of others, replacing those we put there before.
pub fn block(path: &Path, lines: &str) -> Result<(), String> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let mut text = without_block(&old);
    if !lines.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text += &format!("{BEGIN}\n{lines}{END}\n");
    }
    if text == old { Ok(()) } else { write(path, &text, 0o644) }
}

fn without_block(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            BEGIN => inside = true,
            END => inside = false,
            _ if !inside => kept += line,
            _ => {}
        }
    }
    kept
}

/// A path below the root, from an absolute path of the configuration.
pub fn below(root: &Path, path: &str) -> Result<PathBuf, String> {
    let refuse = || format!("'{}' is not an absolute path without '..'", path.escape_debug());
    let parts = Path::new(path).strip_prefix("/").map_err(|_| refuse())?;
    let plain = parts.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.contains(['\n', '\0']) { Err(refuse()) } else { Ok(root.join(parts)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_block_replaces_itself_and_leaves_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "127.0.0.1 localhost").unwrap();
        block(&path, "10.0.0.1 n1\n").unwrap();
        block(&path, "10.0.0.2 n2\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("127.0.0.1 localhost\n{BEGIN}\n10.0.0.2 n2\n{END}\n"));
        block(&path, "").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "127.0.0.1 localhost\n");
    }

    #[test]
    fn mode_and_owner_of_a_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shadow");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(&path, "new", 0o644).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        assert_eq!(below(Path::new("/r"), "/home/ada").unwrap(), Path::new("/r/home/ada"));
        for path in ["home", "/a/../b", "", "/a\nb"] {
            assert!(below(Path::new("/r"), path).is_err(), "{path}");
        }
    }
}
