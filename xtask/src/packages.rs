//! What the lab and the tests need from the distribution, installed without starting any of its services.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// A package and what it is for.
struct Package {
    name: &'static str,
    /// A file that shows that the package is there, also when it came from elsewhere.
    proof: &'static [&'static str],
    why: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "build-essential",
        proof: &["/usr/bin/cc", "/usr/bin/c++"],
        why: "compiling RocksDB and ring",
    },
    Package { name: "libclang-dev", proof: &["/usr/lib/llvm-*/lib/libclang.so"], why: "RocksDB's bindings" },
    Package { name: "protobuf-compiler", proof: &["/usr/bin/protoc"], why: "Raft's messages" },
    Package { name: "musl-tools", proof: &["/usr/bin/musl-gcc"], why: "the static agent" },
    Package { name: "busybox-static", proof: &["/bin/busybox"], why: "the discovery image's shell" },
    Package { name: "kmod", proof: &["/sbin/depmod"], why: "the discovery image's modules" },
    Package { name: "iproute2", proof: &["/sbin/ip", "/sbin/bridge"], why: "the lab's networks" },
    Package { name: "qemu-system-x86", proof: &["/usr/bin/qemu-system-x86_64"], why: "virtual machines" },
    Package { name: "ipxe-qemu", proof: &["/usr/lib/ipxe/qemu/pxe-virtio.rom"], why: "their network boot" },
    Package { name: "ovmf", proof: &["/usr/share/OVMF/OVMF_CODE_4M.fd"], why: "their UEFI firmware" },
    Package { name: "ipxe", proof: &["/usr/lib/ipxe/undionly.kpxe"], why: "boot loaders served to nodes" },
    Package { name: "openipmi", proof: &["/usr/bin/ipmi_sim"], why: "an independent BMC" },
    Package { name: "ipmitool", proof: &["/usr/bin/ipmitool"], why: "an independent IPMI client" },
    Package { name: "snmpd", proof: &["/usr/sbin/snmpd"], why: "the rack switches" },
    Package { name: "snmp", proof: &["/usr/bin/snmpwalk"], why: "an independent SNMP client" },
    Package { name: "kea-admin", proof: &["/usr/sbin/perfdhcp"], why: "an independent DHCP client" },
    Package { name: "tftp-hpa", proof: &["/usr/bin/tftp"], why: "an independent TFTP client" },
    Package { name: "atftp", proof: &["/usr/bin/atftp"], why: "a TFTP client with windows" },
    Package { name: "iputils-ping", proof: &["/bin/ping"], why: "machines that make themselves heard" },
    Package { name: "curl", proof: &["/usr/bin/curl"], why: "an independent HTTP client" },
    Package { name: "strace", proof: &["/usr/bin/strace"], why: "counting fsyncs" },
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing: asks on a terminal, obeys `yes`, and lists the packages when not root.
pub fn install(workspace: &Workspace, yes: bool) -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !present(package)).collect();
    if !missing.is_empty() {
        println!("Packages of the distribution that are missing here:");
        for package in &missing {
            println!("  {:<20} {}", package.name, package.why);
        }
        let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
        if !rustix::process::geteuid().is_root() {
            bail!(
                "not root; ask an administrator for: apt-get install --no-install-recommends {}",
                names.join(" ")
            );
        }
        if !yes && !agreed()? {
            bail!("not installed; call again with --yes, or install them yourself");
        }
        apt(workspace, &names)?;
        let still: Vec<&str> =
            missing.iter().filter(|package| !present(package)).map(|package| package.name).collect();
        if !still.is_empty() {
            bail!("installed, yet their files are not there: {}", still.join(", "));
        }
    }
    musl_target()
}

fn present(package: &Package) -> bool {
    package.proof.iter().all(|path| exists(path))
}

/// Whether a path exists; one `*` stands for the rest of a folder's name.
fn exists(path: &str) -> bool {
    let Some((before, after)) = path.split_once('*') else { return Path::new(path).exists() };
    let Some((folder, start)) = before.rsplit_once('/') else { return false };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        entry.file_name().to_string_lossy().starts_with(start)
            && Path::new(&format!("{}{after}", entry.path().display())).exists()
    })
}

fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("Install them now with apt-get? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "" | "y" | "Y" | "yes"))
}

fn apt(workspace: &Workspace, names: &[&str]) -> Result<()> {
    let _guard = NoServices::raise()?;
    let log = workspace.target.join("xtask/packages.log");
    let get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]).args(arguments);
        process::logged(&mut command, &log)
    };
    // Stale lists name packages that the mirror no longer has; a failed update is told by the install.
    let updated = get(&["update"]);
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(names);
    let Err(first) = get(&install) else { return Ok(()) };
    if names.contains(&"qemu-system-x86") {
        // A newer qemu-utils from backports blocks the release's qemu; both in one version go together.
        let version = release_version("qemu-system-x86")?;
        let pinned: Vec<String> = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "qemu-utils"]
            .iter()
            .map(|name| format!("{name}={version}"))
            .collect();
        let data = release_version("qemu-system-data")?;
        let pinned: Vec<String> = pinned
            .into_iter()
            .map(|name| {
                if name.starts_with("qemu-system-data=") { format!("qemu-system-data={data}") } else { name }
            })
            .collect();
        let mut install = vec!["install", "--no-install-recommends", "--allow-downgrades"];
        install.extend(names.iter().filter(|name| **name != "qemu-system-x86"));
        install.extend(pinned.iter().map(String::as_str));
        return get(&install).context(first);
    }
    updated.and(Err(first))
}

/// The first version that the package lists offer.
fn release_version(package: &str) -> Result<String> {
    let table = process::text(Command::new("apt-cache").args(["madison", package]))?;
    table
        .lines()
        .next()
        .and_then(|line| line.split('|').nth(1))
        .map(|version| version.trim().to_owned())
        .with_context(|| format!("no version of {package} in the package lists"))
}

/// While this lives, no package that is installed may start its service.
struct NoServices {
    before: Option<PathBuf>,
}

impl NoServices {
    fn raise() -> Result<Self> {
        let before = if Path::new(POLICY).exists() {
            let kept = PathBuf::from(format!("{POLICY}.margay-kept"));
            std::fs::rename(POLICY, &kept).with_context(|| format!("keeping {POLICY}"))?;
            Some(kept)
        } else {
            None
        };
        let guard = Self { before };
        std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("writing {POLICY}"))?;
        std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let restored = match &self.before {
            Some(kept) => std::fs::rename(kept, POLICY),
            None => std::fs::remove_file(POLICY),
        };
        if let Err(fault) = restored {
            eprintln!("Warning: {POLICY} could not be put back: {fault}");
        }
    }
}

/// The compiler's part for static programs.
fn musl_target() -> Result<()> {
    const TARGET: &str = "x86_64-unknown-linux-musl";
    let sysroot = process::text(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(TARGET).join("lib").is_dir() {
        return Ok(());
    }
    process::text(Command::new("rustup").args(["target", "add", TARGET]))
        .map(drop)
        .with_context(|| format!("the compiler lacks the target {TARGET}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_matches_the_rest_of_a_folder_name() {
        assert!(exists("/proc/sel*/status"));
        assert!(!exists("/proc/nothing-like-this*/status"));
        assert!(exists("/proc/self/status"));
    }
}
