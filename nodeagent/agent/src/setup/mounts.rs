//! Mounts: lines of fstab, folders to mount on, and on a real machine the mounts themselves.

use std::fs;
use std::path::Path;

use tokio::process::Command;
use wire::view::{MountConfig, NodeConfig};

use super::{Failures, HELPER_TIMEOUT, files, step};

/// Brings the mounts from the last configuration to the new one.
pub async fn apply(root: &Path, last: &NodeConfig, config: &NodeConfig, failed: &mut Failures) {
    let real = root == Path::new("/");
    let mut lines = String::new();
    let mut wanted = Vec::new();
    for mount in &config.mounts {
        match prepare(root, mount) {
            Ok(line) => {
                lines += &line;
                wanted.push(mount);
            }
            Err(reason) => failed.push((name(mount), reason)),
        }
    }
    if !(lines.is_empty() && last.mounts.is_empty()) {
        step(failed, "fstab", files::block(&root.join("etc/fstab"), &lines));
    }
    if !real {
        return;
    }
    for old in last.mounts.iter().filter(|old| !config.mounts.contains(old)) {
        if is_mounted(&old.target) {
            step(failed, &name(old), helper("umount", &["--", &old.target]).await);
        }
    }
    for mount in wanted {
        if !is_mounted(&mount.target) {
            let options = if mount.options.is_empty() { "defaults" } else { &mount.options };
            let arguments = ["-t", &mount.kind, "-o", options, "--", &mount.source, &mount.target];
            step(failed, &name(mount), helper("mount", &arguments).await);
        }
    }
}

fn name(mount: &MountConfig) -> String {
    format!("mount {}", mount.target.escape_debug())
}

/// Makes the folder and gives the line of fstab.
fn prepare(root: &Path, mount: &MountConfig) -> Result<String, String> {
    let fields = [&mount.source, &mount.target, &mount.kind, &mount.options];
    if fields.iter().any(|field| field.contains(char::is_control)) {
        return Err("a field contains a control character".to_owned());
    }
    if mount.source.is_empty() || mount.kind.is_empty() {
        return Err("source or type of file system is missing".to_owned());
    }
    if mount.options.contains(char::is_whitespace) || mount.kind.contains(char::is_whitespace) {
        return Err("type or options contain white space".to_owned());
    }
    let folder = files::below(root, &mount.target)?;
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let options = if mount.options.is_empty() { "defaults" } else { &mount.options };
    let escape = |text: &str| text.replace('\\', "\\134").replace(' ', "\\040").replace('#', "\\043");
    Ok(format!("{} {} {} {options} 0 0\n", escape(&mount.source), escape(&mount.target), mount.kind))
}

fn is_mounted(target: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let target = target.trim_end_matches('/').replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(&target))
}

async fn helper(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    match tokio::time::timeout(HELPER_TIMEOUT, command.output()).await {
        Ok(Ok(done)) if done.status.success() => Ok(()),
        Ok(Ok(done)) => Err(String::from_utf8_lossy(&done.stderr).trim().chars().take(500).collect()),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Err(_) => Err(format!("{program} did not end within {} s", HELPER_TIMEOUT.as_secs())),
    }
}
