//! RocksDB compiled once per version, outside the clone: it costs more than everything else together.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::workspace::Workspace;

const LIBRARY: &str = "librocksdb.a";

/// The folder that holds (or will hold) the static library for the version in Cargo.lock.
pub fn folder(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.cache.join("rocksdb").join(locked_version(workspace, "librocksdb-sys")?).join("lib"))
}

/// Whether the library is there.
pub fn ready(workspace: &Workspace) -> Result<bool> {
    Ok(folder(workspace)?.join(LIBRARY).exists())
}

/// Builds the library where it is missing; says nothing when there is nothing to do.
pub fn ensure(workspace: &Workspace) -> Result<()> {
    if ready(workspace)? {
        return Ok(());
    }
    let lib = folder(workspace)?;
    let base = lib.parent().context("no folder above the library")?;
    let scratch = base.join(format!("build-{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("src")).with_context(|| format!("making {}", scratch.display()))?;
    let result = build(workspace, &scratch, &lib);
    // The scratch folder is hundreds of megabytes; the library is all that is kept.
    let _ = std::fs::remove_dir_all(&scratch);
    result
}

fn build(workspace: &Workspace, scratch: &Path, lib: &Path) -> Result<()> {
    let version = locked_version(workspace, "librocksdb-sys")?;
    let version = version.split('+').next().unwrap_or(&version);
    let manifest = format!(
        "[package]\nname = \"rocksdb-library\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nlibrocksdb-sys = {{ version = \"={version}\", default-features = false, \
         features = [\"lz4\", \"static\", \"bindgen-runtime\"] }}\n\n[profile.release]\ndebug = false\n"
    );
    std::fs::write(scratch.join("Cargo.toml"), manifest).context("writing the manifest")?;
    std::fs::write(scratch.join("src/lib.rs"), "").context("writing the library")?;
    std::fs::copy(workspace.root.join("Cargo.lock"), scratch.join("Cargo.lock"))
        .context("copying the lock")?;
    let log = workspace.target.join("xtask/rocksdb.log");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(scratch)
        .args(["build", "--release"])
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .env_remove("ROCKSDB_LIB_DIR")
        .env_remove("ROCKSDB_STATIC");
    process::logged(&mut cargo, &log).context("building RocksDB")?;
    let built = find(&scratch.join("target/release/build"))?.context("cargo built no librocksdb.a")?;
    std::fs::create_dir_all(lib).with_context(|| format!("making {}", lib.display()))?;
    let partial = lib.join(format!("{LIBRARY}.{}", std::process::id()));
    std::fs::copy(&built, &partial).with_context(|| format!("copying {}", built.display()))?;
    std::fs::rename(&partial, lib.join(LIBRARY)).context("naming the library")
}

fn find(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let candidate = entry?.path().join("out").join(LIBRARY);
        if candidate.exists() {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

fn locked_version(workspace: &Workspace, package: &str) -> Result<String> {
    let path = workspace.root.join("Cargo.lock");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    version_in_lock(&text, package).with_context(|| format!("Cargo.lock names no {package}"))
}

fn version_in_lock(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_lock_file() {
        let lock = "[[package]]\nname = \"librocksdb-sys\"\nversion = \"0.19.0+11.8.1\"\nsource = \"x\"\n";
        assert_eq!(version_in_lock(lock, "librocksdb-sys").as_deref(), Some("0.19.0+11.8.1"));
        assert_eq!(version_in_lock(lock, "other"), None);
    }
}
