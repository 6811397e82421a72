//! The set-up below a temporary root.
#![allow(clippy::unwrap_used)]

use std::fs;

use wire::secret::Secret;
use wire::view::{AccountConfig, GroupConfig, MountConfig, StartCommand};

use super::*;

fn account(name: &str, uid: u32) -> AccountConfig {
    let own = rustix::process::getuid().as_raw();
    AccountConfig {
        name: name.to_owned(),
        // Without root, homes can only belong to ourselves.
        uid: if own == 0 { uid } else { own },
        gid: uid,
        groups: vec!["lab".to_owned()],
        home: format!("/home/{name}"),
        shell: "/bin/bash".to_owned(),
        password: Secret::new("$6$x$y"),
        keys: vec![format!("ssh-ed25519 AAAA {name}")],
        ..AccountConfig::default()
    }
}

fn config(generation: u64) -> NodeConfig {
    NodeConfig {
        generation,
        hostname: "n1".to_owned(),
        domain: "cluster.test".to_owned(),
        hosts: vec![("10.0.0.2".to_owned(), vec!["n2".to_owned(), "n2.cluster.test".to_owned()])],
        groups: vec![GroupConfig { name: "lab".to_owned(), gid: 5000 }],
        accounts: vec![account("ada", 5001)],
        mounts: vec![MountConfig {
            source: "fs:/scratch".to_owned(),
            target: "/scratch space".to_owned(),
            kind: "nfs".to_owned(),
            options: "ro".to_owned(),
        }],
        nameservers: vec!["10.0.0.1".to_owned()],
        ..NodeConfig::default()
    }
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

#[tokio::test]
async fn every_item_of_a_configuration_is_below_the_root_afterwards() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let mut setup = Setup::new(root.path(), None, false);
    let booted = setup.apply(&config(7)).await;
    assert_eq!(booted, Booted { generation: 7, ..Booted::default() });
    assert_eq!(read(root.path(), "etc/hostname"), "n1\n");
    assert!(read(root.path(), "etc/hosts").contains("10.0.0.2 n2 n2.cluster.test\n"));
    assert!(read(root.path(), "etc/fstab").contains("fs:/scratch /scratch\\040space nfs ro 0 0\n"));
    assert!(root.path().join("scratch space").is_dir());
    let passwd = read(root.path(), "etc/passwd");
    assert!(passwd.starts_with("root:x:0:0:") && passwd.contains("\nada:x:"), "{passwd}");
    assert!(read(root.path(), "etc/group").contains("lab:x:5000:ada\n"));
    assert!(read(root.path(), "etc/group").contains("ada:x:5001:\n"));
    assert!(read(root.path(), "etc/shadow").starts_with("ada:$6$x$y:"));
    assert!(read(root.path(), "home/ada/.ssh/authorized_keys").contains("ssh-ed25519 AAAA ada\n"));
    assert_eq!(read(root.path(), "etc/margay/generation"), "7\n");
    assert!(read(root.path(), "etc/resolv.conf").contains("nameserver 10.0.0.1\n"));
}

#[tokio::test]
async fn what_the_next_generation_does_not_have_is_taken_away_also_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    Setup::new(root.path(), Some(state.path()), false).apply(&config(1)).await;
    let mut next = config(2);
    next.accounts = vec![account("bob", 5002)];
    next.groups.clear();
    next.accounts[0].groups.clear();
    next.mounts.clear();
    next.hosts.clear();
    let booted = Setup::new(root.path(), Some(state.path()), false).apply(&next).await;
    assert_eq!(booted.failed_steps, []);
    let passwd = read(root.path(), "etc/passwd");
    assert!(!passwd.contains("ada:") && passwd.contains("bob:"), "{passwd}");
    assert_eq!(read(root.path(), "etc/group"), "bob:x:5002:\n");
    assert!(!read(root.path(), "etc/shadow").contains("ada:"));
    assert!(!read(root.path(), "home/ada/.ssh/authorized_keys").contains("AAAA"));
    assert_eq!(read(root.path(), "etc/fstab"), "");
    assert_eq!(read(root.path(), "etc/hosts"), "");
}

#[tokio::test]
async fn a_bad_item_is_named_and_does_not_stop_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut bad = config(3);
    bad.accounts.push(AccountConfig { name: "e:ve".to_owned(), ..AccountConfig::default() });
    bad.accounts.push(AccountConfig { groups: vec!["none".to_owned()], ..account("carl", 5003) });
    bad.mounts.push(MountConfig { target: "/a/../../etc".to_owned(), ..bad.mounts[0].clone() });
    bad.hosts.push(("10.0.0.3; rm".to_owned(), vec!["x".to_owned()]));
    let booted = Setup::new(root.path(), None, false).apply(&bad).await;
    let names: Vec<_> = booted.failed_steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hosts", "account e:ve", "account carl", "mount /a/../../etc"]);
    assert!(read(root.path(), "etc/passwd").contains("ada:"));
}

#[tokio::test]
async fn the_start_command_runs_once_a_boot_and_its_status_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut config = config(4);
    let command = "echo started >> \"$MARGAY_ROOT/count\"; echo to the log; exit 3".to_owned();
    config.start_command = Some(StartCommand { command, ..StartCommand::default() });
    let mut setup = Setup::new(root.path(), None, false);
    assert_eq!(setup.apply(&config).await.start_status, Some(3));
    config.generation = 5;
    assert_eq!(setup.apply(&config).await.start_status, Some(3));
    assert_eq!(read(root.path(), "count"), "started\n");
    assert_eq!(read(root.path(), "var/log/margay-start.log"), "to the log\n");
}

#[tokio::test]
async fn a_link_in_a_home_folder_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("home/ada/.ssh")).unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/target"), "mine").unwrap();
    std::os::unix::fs::symlink("../../../etc/target", root.path().join("home/ada/.ssh/authorized_keys"))
        .unwrap();
    let booted = Setup::new(root.path(), None, false).apply(&config(1)).await;
    assert_eq!(booted.failed_steps.len(), 1);
    assert_eq!(read(root.path(), "etc/target"), "mine");
}
