//! The mirror's copy on disk, with which a restarted service node serves its rack before it has found a
//! master. Passwords of BMCs are left out: they are needed only for what a master asks. Accounts of nodes
//! carry hashes and are kept, in a file that only root reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::digest::{SHA256, digest};
use wire::frame;
use wire::secret::Secret;
use wire::view::{NodeView, ViewUpdate};

use super::{Mirror, Rack};

const MAGIC: &[u8; 8] = b"MGMIRR01";
/// Bytes of magic and checksum before the pieces.
const HEADER: usize = 8 + 32;
/// No mirror is larger; a larger file is not ours.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// Nodes in a piece: far below the limit of a frame.
const PIECE: usize = 256;

/// Why the copy could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{path}: the mirror's copy cannot be {what}", path = path.display())]
    Io {
        /// `read` or `written`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Not a mirror, or damaged.
    #[error("{path}: is not a whole copy of a mirror; it is ignored and fetched again", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// Writes the copy: a new file beside the old one, synced, then put in its place.
///
/// # Errors
/// When the system refuses; the old copy is still there.
pub fn save(rack: &Rack, path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::Io { what: "written", path: path.to_owned(), source };
    let mut pieces = Vec::new();
    let nodes: Vec<_> = rack.nodes().collect();
    let mut site = Some(without_passwords_of_switches(rack.site().clone()));
    let mut rest = nodes.chunks(PIECE).peekable();
    loop {
        let chunk = rest.next().unwrap_or_default();
        let update = ViewUpdate {
            revision: rack.revision(),
            full: site.is_some(),
            more: rest.peek().is_some(),
            site: site.take(),
            nodes: chunk.iter().map(|node| without_passwords(node)).collect(),
            removed: Vec::new(),
        };
        let more = update.more;
        pieces.extend(frame::frame(&update).map_err(|error| failed(io::Error::other(error)))?);
        if !more {
            break;
        }
    }
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(MAGIC)?;
        file.write_all(digest(&SHA256, &pieces).as_ref())?;
        file.write_all(&pieces)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(failed)
}

/// Reads the copy into a mirror. False when there is none.
///
/// # Errors
/// When it cannot be read or is damaged; the mirror is unchanged then.
pub fn load(mirror: &Mirror, path: &Path) -> Result<bool, FileError> {
    let failed = |source| FileError::Io { what: "read", path: path.to_owned(), source };
    let damaged = || FileError::Damaged { path: path.to_owned() };
    let size = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if size > MAX_FILE {
        return Err(damaged());
    }
    let bytes = fs::read(path).map_err(failed)?;
    let (head, mut pieces) = bytes.split_at_checked(HEADER).ok_or_else(damaged)?;
    if !head.starts_with(MAGIC) || digest(&SHA256, pieces).as_ref() != &head[MAGIC.len()..] {
        return Err(damaged());
    }
    let mut updates = Vec::new();
    while !pieces.is_empty() {
        let (header, rest) = pieces.split_first_chunk().ok_or_else(damaged)?;
        let length = frame::payload_length(*header, frame::MAX_FRAME).map_err(|_| damaged())?;
        let (payload, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        updates.push(frame::decode::<ViewUpdate>(payload).map_err(|_| damaged())?);
        pieces = rest;
    }
    for update in updates {
        mirror.apply(update).map_err(|_| damaged())?;
    }
    Ok(true)
}

fn without_passwords(node: &NodeView) -> NodeView {
    let mut node = node.clone();
    if let Some(bmc) = &mut node.bmc {
        bmc.password = Secret::default();
    }
    node
}

fn without_passwords_of_switches(mut site: wire::view::SiteView) -> wire::view::SiteView {
    for switch in &mut site.switches {
        // The community of a v1 or v2c switch is needed to recognize machines while no master answers.
        if switch.snmp_version == "3" {
            switch.password = Secret::default();
        }
    }
    site
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use wire::ids::Revision;
    use wire::view::BmcView;

    use super::*;

    fn mirror_of(count: usize) -> Mirror {
        let mirror = Mirror::new();
        let bmc = BmcView {
            password: Secret::new("geheim-7"),
            address: "10.9.0.1".to_owned(),
            ..BmcView::default()
        };
        let nodes = (0..count)
            .map(|i| NodeView { name: format!("n{i}"), bmc: Some(bmc.clone()), ..NodeView::default() })
            .collect();
        let update = ViewUpdate { revision: Revision(9), full: true, nodes, ..ViewUpdate::default() };
        mirror.apply(update).unwrap();
        mirror
    }

    #[test]
    fn a_mirror_of_many_nodes_survives_a_restart_without_its_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror");
        save(&mirror_of(1_000).rack(), &path).unwrap();
        let again = Mirror::new();
        assert!(load(&again, &path).unwrap());
        assert_eq!(again.rack().len(), 1_000);
        assert_eq!(again.rack().revision(), Revision(9));
        assert!(!fs::read(&path).unwrap().windows(8).any(|part| part == b"geheim-7"));
    }

    #[test]
    fn an_empty_mirror_is_kept_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror");
        save(&mirror_of(0).rack(), &path).unwrap();
        assert!(load(&Mirror::new(), &path).unwrap());
    }

    #[test]
    fn a_copy_with_one_wrong_bit_or_a_missing_end_is_refused_and_a_missing_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mirror");
        assert!(!load(&Mirror::new(), &path).unwrap());
        save(&mirror_of(10).rack(), &path).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 5, HEADER, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(load(&Mirror::new(), &path), Err(FileError::Damaged { .. })), "{cut}");
        }
        let mut flipped = whole;
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(matches!(load(&Mirror::new(), &path), Err(FileError::Damaged { .. })));
    }
}
