//! Where things are: the clone, the target folder, the cache; and cargo called with the right settings.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::rocksdb;

/// The clone that this program was built from, and its folders outside.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Root of the clone.
    pub root: PathBuf,
    /// What is costly to make and the same for every clone: kernel, RocksDB, tools.
    pub cache: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// The profile of the daemons that are run: `dev` for trying and testing, because the tests are built with
    /// it anyway; `release` for measuring. `MARGAY_PROFILE` decides for both.
    pub profile: String,
}

impl Workspace {
    /// The workspace of the running program.
    pub fn find() -> Result<Self> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let root = manifest.parent().context("xtask has no folder above it")?.to_owned();
        if !root.join("Cargo.lock").exists() {
            bail!("{} is not the root of the project", root.display());
        }
        let cache = match std::env::var_os("MARGAY_CACHE") {
            Some(folder) => PathBuf::from(folder),
            None => home()?.join(".cache/margay"),
        };
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => std::path::absolute(folder).context("CARGO_TARGET_DIR")?,
            None => cache.join("target"),
        };
        let profile = std::env::var("MARGAY_PROFILE").unwrap_or_else(|_| "dev".into());
        Ok(Self { root, cache, target, profile })
    }

    /// The same workspace with daemons that are measured.
    pub fn for_measuring(&self) -> Self {
        let profile = std::env::var("MARGAY_PROFILE").unwrap_or_else(|_| "release".into());
        Self { profile, ..self.clone() }
    }

    /// Environment of every cargo call.
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        let text = |path: &Path| path.display().to_string();
        Ok(vec![
            ("CARGO_TARGET_DIR".into(), text(&self.target)),
            ("ROCKSDB_LIB_DIR".into(), text(&rocksdb::folder(self)?)),
            ("ROCKSDB_STATIC".into(), "1".into()),
            ("CC_x86_64_unknown_linux_musl".into(), "musl-gcc".into()),
        ])
    }

    /// A cargo command in the clone with [`settings`](Self::settings).
    pub fn cargo(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.current_dir(&self.root).args(arguments).envs(self.settings()?);
        // Inside `cargo run` these describe xtask itself and would mislead an inner cargo.
        command.env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_PKG_NAME");
        Ok(command)
    }

    /// Builds the programs of these packages, with the compiler's output on the terminal.
    pub fn cargo_build(&self, packages: &[&str], profile: &str) -> Result<()> {
        rocksdb::ensure(self)?;
        let mut command = self.cargo(&["build", "--locked", "--profile", profile])?;
        for package in packages {
            command.args(["-p", package]);
        }
        let status = command.status().context("starting cargo")?;
        if !status.success() {
            bail!("cargo build of {} failed", packages.join(", "));
        }
        Ok(())
    }

    /// Path of a built program.
    pub fn program(&self, name: &str, profile: &str) -> PathBuf {
        let folder = if profile == "dev" { "debug" } else { profile };
        self.target.join(folder).join(name)
    }

    /// Eight hexadecimal digits that differ between two clones on one machine.
    pub fn fingerprint(&self) -> String {
        // FNV-1a: stable across runs and compilers, which the standard hasher does not promise.
        let mut hash: u32 = 0x811c_9dc5;
        for byte in self.root.as_os_str().as_encoded_bytes() {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
        format!("{hash:08x}")
    }
}

fn home() -> Result<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set")
}
