//! The distribution's kernel: resolved through its meta package, downloaded, unpacked beside the cache.
//!
//! Nothing is installed on the build machine. What was unpacked once is used again, also without network.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The meta package that always depends on the newest generic kernel of the release.
pub const META_PACKAGE: &str = "linux-image-amd64";

/// A kernel package unpacked in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says once it runs, for example `6.1.0-56-amd64`.
    pub version: String,
    /// The compressed kernel itself.
    pub image: PathBuf,
    /// The folder that holds `lib/modules/<version>`.
    pub root: PathBuf,
}

impl Kernel {
    /// The folder of this kernel's modules.
    pub fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.version)
    }
}

/// Finds the kernel in `cache`, downloading and unpacking it first where it is missing.
///
/// Without a package list or network the newest kernel already in the cache is taken.
pub fn fetch(cache: &Path, meta: &str) -> Result<Kernel> {
    let folder = cache.join("kernel");
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let package = match resolve(meta) {
        Ok(package) => package,
        Err(reason) => {
            return newest_unpacked(&folder)?.with_context(|| {
                format!("no kernel in {} and none to be had: {reason:#}", folder.display())
            });
        }
    };
    let root = folder.join(&package);
    if let Some(kernel) = unpacked(&root)? {
        return Ok(kernel);
    }
    let archive = download(&folder, &package)?;
    unpack(&archive, &root)?;
    std::fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
    unpacked(&root)?.with_context(|| format!("{package} holds no kernel image"))
}

/// Asks the package lists which real package the meta package stands for.
fn resolve(meta: &str) -> Result<String> {
    let answer = run(Command::new("apt-cache").args(["depends", "--important", meta]))?;
    parse_depends(&answer).with_context(|| format!("{meta} is not in the package lists (apt-get update?)"))
}

/// The first real package in the answer of `apt-cache depends`.
fn parse_depends(answer: &str) -> Option<String> {
    answer
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends:"))
        .map(str::trim)
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

fn download(folder: &Path, package: &str) -> Result<PathBuf> {
    // The sandboxed download user cannot write below a private cache folder; the signature is checked all
    // the same, so the download itself may run as the caller.
    run(Command::new("apt-get").current_dir(folder).args([
        "download",
        "-q",
        "-o",
        "APT::Sandbox::User=root",
        package,
    ]))
    .with_context(|| format!("downloading {package}"))?;
    entries(folder)?
        .into_iter()
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
        })
        .with_context(|| format!("apt-get wrote no archive of {package} into {}", folder.display()))
}

/// Unpacks beside the final place and renames, so that an interrupted run leaves nothing half done.
fn unpack(archive: &Path, root: &Path) -> Result<()> {
    let partial = root.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("removing {}", partial.display()))?;
    }
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&partial))
        .with_context(|| format!("unpacking {}", archive.display()))?;
    if root.exists() {
        std::fs::remove_dir_all(root).with_context(|| format!("removing {}", root.display()))?;
    }
    std::fs::rename(&partial, root).with_context(|| format!("naming {}", root.display()))
}

/// The kernel below `root`, where there is a complete one.
fn unpacked(root: &Path) -> Result<Option<Kernel>> {
    let boot = root.join("boot");
    if !boot.is_dir() {
        return Ok(None);
    }
    for image in entries(&boot)? {
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(version) = name.strip_prefix("vmlinuz-") {
            let kernel = Kernel { version: version.to_owned(), image, root: root.to_owned() };
            if kernel.modules().is_dir() {
                return Ok(Some(kernel));
            }
        }
    }
    Ok(None)
}

fn newest_unpacked(folder: &Path) -> Result<Option<Kernel>> {
    let mut found = Vec::new();
    for root in entries(folder)? {
        if root.extension().is_none_or(|extension| extension != "partial")
            && let Some(kernel) = unpacked(&root)?
        {
            let made = std::fs::metadata(&root)?.modified()?;
            found.push((made, kernel));
        }
    }
    found.sort_by_key(|(made, _)| *made);
    Ok(found.pop().map(|(_, kernel)| kernel))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// Runs a program and returns its standard output; its standard error becomes part of the fault.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_meta_package_leads_to_the_real_kernel_package() {
        let answer = "linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n";
        assert_eq!(parse_depends(answer).as_deref(), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(parse_depends("linux-image-amd64\n"), None);
    }

    #[test]
    fn a_kernel_without_its_modules_is_not_taken_for_complete() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("linux-image-1");
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(root.join("boot/vmlinuz-1"), b"kernel").unwrap();
        assert_eq!(unpacked(&root).unwrap(), None);
        std::fs::create_dir_all(root.join("lib/modules/1")).unwrap();
        assert_eq!(unpacked(&root).unwrap().unwrap().version, "1");
        assert_eq!(newest_unpacked(folder.path()).unwrap().unwrap().version, "1");
    }
}
