//! mknb runs the builder of the discovery image on the master.

use std::os::unix::fs::PermissionsExt;

use crate::cluster::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mknb_shows_what_the_builder_says_and_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("builder");
    let out = folder.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let script = "#!/bin/sh\nwhile [ $# -gt 1 ]; do [ $1 = --out ] && o=$2; shift; done\n\
                  echo kernel found; echo image >$o/genesis.fs.x86_64.gz; [ ! -e $o/fail ] || { echo no space >&2; exit 3; }\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let cluster = Cluster::start_with(1, |config| {
        config.genesis.program.clone_from(&program);
        config.genesis.out.clone_from(&out);
    })
    .await;
    let admin = cluster.admin();
    let said = admin.ok("mknb x86_64").await;
    assert_eq!(said, format!("Creating genesis.fs.x86_64.gz in {}\nkernel found\n", out.display()));
    assert!(out.join("genesis.fs.x86_64.gz").exists());
    std::fs::write(out.join("fail"), "").unwrap();
    let said = admin.run("mknb x86_64").await;
    assert!(said.err.contains("no space\n") && said.err.contains("exit status: 3"), "{said:?}");
    assert_eq!(said.status, 1);
    assert_eq!(admin.run("mknb ppc64").await.status, 1);
    assert_eq!(admin.run("mknb").await.status, 1);
}
