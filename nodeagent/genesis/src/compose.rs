//! Puts the image together: kernel, modules, busybox, agent, first program.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};

use crate::cpio::Archive;
use crate::kernel::{Kernel, run};
use crate::modules;

/// The initramfs may not grow beyond this: every booting machine pulls it through its service node.
pub const INITRAMFS_LIMIT: u64 = 24 * 1024 * 1024;
/// The agent's own limit.
pub const AGENT_LIMIT: u64 = 4 * 1024 * 1024;
/// File name of the kernel in the output folder.
pub const KERNEL_NAME: &str = "vmlinuz";
/// File name of the initramfs in the output folder.
pub const INITRAMFS_NAME: &str = "initrd";

const INIT: &[u8] = include_bytes!("../files/init");
/// What the agent loads when it is the first process.
const MODULE_LIST: &str = "etc/margay/modules";
const FOLDERS: &[&str] =
    &["bin", "dev", "etc/margay", "proc", "root", "run", "sbin", "sys", "tmp", "var/log"];
/// Files of the kernel package that `depmod` needs beside the modules.
const INDEX_SOURCES: &[&str] = &["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// What goes into one image.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The unpacked kernel.
    pub kernel: Kernel,
    /// The static agent; without it the image lists its devices and powers off.
    pub agent: Option<PathBuf>,
    /// A statically linked busybox.
    pub busybox: PathBuf,
}

/// What was built.
#[derive(Debug)]
pub struct Image {
    /// The kernel's path.
    pub kernel: PathBuf,
    /// Its size.
    pub kernel_bytes: u64,
    /// The initramfs' path.
    pub initramfs: PathBuf,
    /// Its compressed size.
    pub initramfs_bytes: u64,
    /// How many kernel modules it holds.
    pub modules: usize,
}

impl Recipe {
    /// Builds the image into `out`; files that are already there are replaced at once, never half.
    pub fn build(&self, out: &Path) -> Result<Image> {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        let mut archive = Archive::new();
        for folder in FOLDERS {
            archive.folder(folder);
        }
        archive.device("dev/console", 5, 1);
        archive.device("dev/null", 1, 3);
        archive.file(MODULE_LIST, (modules::LOADED.join("\n") + "\n").into_bytes());
        archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n".to_vec());
        archive.file("etc/group", b"root:x:0:\n".to_vec());
        let modules = self.add_modules(&mut archive, out)?;
        self.add_agent(&mut archive)?;
        self.add_busybox(&mut archive)?;

        let initramfs = out.join(INITRAMFS_NAME);
        replace(&initramfs, |file| {
            let mut packed = GzEncoder::new(file, Compression::new(9));
            archive.write(&mut packed)?;
            packed.finish()?.flush()?;
            Ok(())
        })?;
        let kernel = out.join(KERNEL_NAME);
        replace(&kernel, |mut file| {
            std::io::copy(&mut File::open(&self.kernel.image)?, &mut file)?;
            file.flush()?;
            Ok(())
        })?;
        let (kernel_bytes, initramfs_bytes) = (size_of(&kernel)?, size_of(&initramfs)?);
        if initramfs_bytes > INITRAMFS_LIMIT {
            bail!("the initramfs has {initramfs_bytes} bytes, more than its limit of {INITRAMFS_LIMIT}");
        }
        Ok(Image { kernel, kernel_bytes, initramfs, initramfs_bytes, modules })
    }

    /// Copies the wanted modules into a stage, indexes exactly those, and adds stage and index.
    fn add_modules(&self, archive: &mut Archive, out: &Path) -> Result<usize> {
        let source = self.kernel.modules();
        if !source.join("modules.dep").exists() {
            modules::index(&self.kernel.root, &self.kernel.version)?;
        }
        let read = |name: &str| {
            let path = source.join(name);
            std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let wanted = modules::closure(&read("modules.dep")?, &read("modules.builtin")?, modules::WANTED)?;
        let stage = Stage::new(out)?;
        let folder = stage.path.join("lib/modules").join(&self.kernel.version);
        let files = wanted.iter().map(String::as_str).chain(INDEX_SOURCES.iter().copied());
        for name in files {
            let target = folder.join(name);
            std::fs::create_dir_all(target.parent().context("a module without folder")?)?;
            std::fs::copy(source.join(name), &target).with_context(|| format!("copying {name}"))?;
        }
        modules::index(&stage.path, &self.kernel.version)?;
        let prefix = format!("lib/modules/{}", self.kernel.version);
        for name in
            wanted.iter().map(String::as_str).chain(["modules.dep", "modules.alias", "modules.symbols"])
        {
            let path = folder.join(name);
            archive.file(
                &format!("{prefix}/{name}"),
                std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?,
            );
        }
        Ok(wanted.len())
    }

    fn add_agent(&self, archive: &mut Archive) -> Result<()> {
        let Some(agent) = &self.agent else {
            archive.program("init", INIT.to_vec());
            return Ok(());
        };
        let bytes = program(agent)?;
        if bytes.len() as u64 > AGENT_LIMIT {
            bail!("{} has {} bytes, more than its limit of {AGENT_LIMIT}", agent.display(), bytes.len());
        }
        archive.program("init", bytes);
        archive.link("bin/margay-agent", "../init");
        Ok(())
    }

    fn add_busybox(&self, archive: &mut Archive) -> Result<()> {
        archive.program("bin/busybox", program(&self.busybox)?);
        for applet in run(Command::new(&self.busybox).arg("--list"))?.lines() {
            if applet != "busybox" && !applet.contains('/') {
                archive.link(&format!("bin/{applet}"), "busybox");
            }
        }
        // The kernel asks for this path when it wants a module itself.
        archive.link("sbin/modprobe", "../bin/busybox");
        Ok(())
    }
}

/// Reads a program and makes sure that it needs no loader: there are no libraries in the image.
fn program(path: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    if !bytes.starts_with(b"\x7fELF") {
        bail!("{} is not a program", path.display());
    }
    if has_interpreter(&bytes) {
        bail!("{} is not statically linked", path.display());
    }
    Ok(bytes)
}

/// Whether an x86-64 ELF file asks for a dynamic loader (program header PT_INTERP).
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, size: usize| {
        elf.get(at..at + size)
            .map(|bytes| bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (Some(start), Some(size), Some(count)) = (word(32, 8), word(54, 2), word(56, 2)) else {
        return false;
    };
    (0..count).any(|index| {
        usize::try_from(start + index * size).is_ok_and(|at| word(at, 4) == Some(u64::from(PT_INTERP)))
    })
}

fn size_of(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("reading {}", path.display()))?.len())
}

/// Writes a file beside its final name and renames it.
fn replace(path: &Path, write: impl FnOnce(BufWriter<File>) -> Result<()>) -> Result<()> {
    let partial = path.with_extension("partial");
    let file = File::create(&partial).with_context(|| format!("writing {}", partial.display()))?;
    write(BufWriter::new(file)).with_context(|| format!("writing {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("naming {}", path.display()))
}

/// A scratch folder that is gone when the build is over, whatever its end.
struct Stage {
    path: PathBuf,
}

impl Stage {
    fn new(out: &Path) -> Result<Self> {
        let path = out.join(format!(".stage-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Nothing depends on it any more; a leftover is only untidy.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_program_that_needs_a_loader_is_refused_and_a_static_one_taken() {
        let own = std::env::current_exe().unwrap();
        assert!(program(&own).unwrap_err().to_string().contains("not statically linked"));
        assert!(program(Path::new("/bin/busybox")).is_ok());
        assert!(program(Path::new("/etc/passwd")).unwrap_err().to_string().contains("not a program"));
    }

    #[test]
    fn cut_headers_never_panic() {
        let bytes = std::fs::read("/bin/busybox").unwrap();
        for length in 0..200 {
            let _ = has_interpreter(&bytes[..length]);
        }
    }
}
