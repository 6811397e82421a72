//! Accounts and groups: passwd, group, shadow, home folders and authorized keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use wire::view::{AccountConfig, GroupConfig, NodeConfig};

use super::{Failures, files, step};

/// Accounts below this number belong to the system: they may be changed, they are not removed.
const FIRST_PERSON: u32 = 1_000;

/// Brings the account files from the last configuration to the new one.
pub fn apply(root: &Path, last: &NodeConfig, config: &NodeConfig, failed: &mut Failures) {
    let mut accounts = Vec::new();
    for account in &config.accounts {
        match check(account) {
            Ok(()) => accounts.push(account),
            Err(reason) => failed.push((format!("account {}", account.name.escape_debug()), reason)),
        }
    }
    if accounts.is_empty() && config.groups.is_empty() && last.accounts.is_empty() && last.groups.is_empty() {
        return;
    }
    let kept: BTreeSet<_> = accounts.iter().map(|account| account.name.as_str()).collect();
    let gone: Vec<_> = last
        .accounts
        .iter()
        .filter(|old| !kept.contains(old.name.as_str()) && old.uid >= FIRST_PERSON && check(old).is_ok())
        .collect();
    let etc = root.join("etc");
    let result = groups(&etc.join("group"), last, config, &accounts, failed);
    step(failed, "groups", result);
    step(failed, "accounts", passwd(&etc.join("passwd"), &gone, &accounts));
    step(failed, "passwords", shadow(&etc.join("shadow"), &gone, &accounts));
    for account in accounts {
        step(failed, &format!("home of {}", account.name), home(root, account));
    }
    for old in gone {
        let keys = files::below(root, &old.home).map(|home| home.join(".ssh/authorized_keys"));
        if let Some(keys) = keys.ok().filter(|keys| keys.exists()) {
            step(failed, &format!("keys of {}", old.name), files::block(&keys, ""));
        }
    }
}

fn check(account: &AccountConfig) -> Result<(), String> {
    wire::names::check_name("account name", &account.name).map_err(|error| error.to_string())?;
    let fields = [&account.gecos, &account.home, &account.shell];
    let secret = account.password.reveal();
    if fields.iter().any(|field| field.contains([':', '\n', '\0'])) || secret.contains([':', '\n', '\0']) {
        return Err("a field contains a colon or a line end".to_owned());
    }
    if account.keys.iter().any(|key| key.contains(['\n', '\0'])) {
        return Err("a key contains a line end".to_owned());
    }
    Ok(())
}

/// Lines of an account file by their first field, in the order of the file.
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let split = |line: &str| (line.split(':').next().unwrap_or_default().to_owned(), line.to_owned());
    text.lines().filter(|line| !line.is_empty()).map(split).collect()
}

fn put(all: &mut Vec<(String, String)>, name: &str, line: String) {
    match all.iter_mut().find(|(present, _)| present == name) {
        Some(entry) => entry.1 = line,
        None => all.push((name.to_owned(), line)),
    }
}

fn save(path: &Path, all: &[(String, String)], mode: u32) -> Result<(), String> {
    let text: String = all.iter().map(|(_, line)| format!("{line}\n")).collect();
    files::write(path, &text, mode)
}

fn passwd(path: &Path, gone: &[&AccountConfig], accounts: &[&AccountConfig]) -> Result<(), String> {
    let mut all = lines(path);
    all.retain(|(name, _)| !gone.iter().any(|old| old.name == *name));
    for a in accounts {
        let shell = if a.shell.is_empty() { "/bin/sh" } else { &a.shell };
        let line = format!("{}:x:{}:{}:{}:{}:{shell}", a.name, a.uid, a.gid, a.gecos, home_of(a));
        put(&mut all, &a.name, line);
    }
    save(path, &all, 0o644)
}

fn shadow(path: &Path, gone: &[&AccountConfig], accounts: &[&AccountConfig]) -> Result<(), String> {
    let mut all = lines(path);
    all.retain(|(name, _)| !gone.iter().any(|old| old.name == *name));
    for account in accounts {
        // A star locks the password and leaves keys alone.
        let hash = if account.password.is_empty() { "*" } else { account.password.reveal() };
        put(&mut all, &account.name, format!("{}:{hash}:19000:0:99999:7:::", account.name));
    }
    save(path, &all, 0o600)
}

fn groups(
    path: &Path,
    last: &NodeConfig,
    config: &NodeConfig,
    accounts: &[&AccountConfig],
    failed: &mut Failures,
) -> Result<(), String> {
    let mut present: Vec<(String, String, u32, Vec<String>)> = Vec::new();
    for (name, line) in lines(path) {
        let fields: Vec<_> = line.split(':').collect();
        let [_, password, gid, members] = fields[..] else { continue };
        let Ok(gid) = gid.parse() else { continue };
        let members = members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect();
        present.push((name, password.to_owned(), gid, members));
    }
    let wanted = with_own_groups(&config.groups, &config.accounts, &present);
    let before: BTreeMap<_, _> = with_own_groups(&last.groups, &last.accounts, &[]).into_iter().collect();
    let ours: BTreeSet<_> = last.accounts.iter().map(|old| old.name.as_str()).collect();
    present.retain(|(name, _, gid, _)| {
        let dropped = before.get(name) == Some(gid) && !wanted.iter().any(|(kept, _)| kept == name);
        !(dropped && *gid >= FIRST_PERSON)
    });
    for (.., members) in &mut present {
        members.retain(|member| !ours.contains(member.as_str()));
    }
    for (name, gid) in wanted {
        match present.iter_mut().find(|(present, ..)| *present == name) {
            Some(group) => group.2 = gid,
            None => present.push((name, "x".to_owned(), gid, Vec::new())),
        }
    }
    for account in accounts {
        for name in &account.groups {
            match present.iter_mut().find(|(present, ..)| present == name) {
                Some((.., members)) if !members.contains(&account.name) => members.push(account.name.clone()),
                Some(_) => {}
                None => {
                    let reason = format!("group '{}' does not exist", name.escape_debug());
                    failed.push((format!("account {}", account.name), reason));
                }
            }
        }
    }
    let text: String = present
        .iter()
        .map(|(name, password, gid, members)| format!("{name}:{password}:{gid}:{}\n", members.join(",")))
        .collect();
    files::write(path, &text, 0o644)
}

/// The configured groups, and one named like the account for each primary group that nobody defines.
fn with_own_groups(
    groups: &[GroupConfig],
    accounts: &[AccountConfig],
    present: &[(String, String, u32, Vec<String>)],
) -> Vec<(String, u32)> {
    let usable = |name: &str| wire::names::check_name("group name", name).is_ok();
    let mut all: Vec<_> = groups
        .iter()
        .filter(|group| usable(&group.name))
        .map(|group| (group.name.clone(), group.gid))
        .collect();
    for account in accounts.iter().filter(|account| usable(&account.name)) {
        let elsewhere = present.iter().any(|(name, _, gid, _)| *gid == account.gid && *name != account.name);
        if !elsewhere && !all.iter().any(|(_, gid)| *gid == account.gid) {
            all.push((account.name.clone(), account.gid));
        }
    }
    all
}

fn home_of(account: &AccountConfig) -> String {
    if account.home.is_empty() { format!("/home/{}", account.name) } else { account.home.clone() }
}

fn home(root: &Path, account: &AccountConfig) -> Result<(), String> {
    let home = files::below(root, &home_of(account))?;
    let failed = |error: std::io::Error| format!("{}: {error}", home.display());
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let own = |path: &Path| chown(path, Some(account.uid), Some(account.gid)).map_err(failed);
    if !home.exists() {
        fs::DirBuilder::new().mode(0o700).create(&home).map_err(failed)?;
        own(&home)?;
    }
    let ssh = home.join(".ssh");
    if account.keys.is_empty() && !ssh.exists() {
        return Ok(());
    }
    // The folder belongs to the user, who could put a link there to have another file overwritten.
    match fs::symlink_metadata(&ssh) {
        Ok(present) if !present.is_dir() => return Err(format!("{} is not a folder", ssh.display())),
        Ok(_) => {}
        Err(_) => {
            fs::DirBuilder::new().mode(0o700).create(&ssh).map_err(failed)?;
            own(&ssh)?;
        }
    }
    let keys = ssh.join("authorized_keys");
    if fs::symlink_metadata(&keys).is_ok_and(|present| !present.is_file()) {
        return Err(format!("{} is not a file", keys.display()));
    }
    let lines: String = account.keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    files::block(&keys, &lines)?;
    if keys.exists() { own(&keys) } else { Ok(()) }
}
