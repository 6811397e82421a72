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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn makentp_writes_the_settings_tells_the_time_service_and_says_what_does_not_work() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("margay.conf");
    let told = folder.path().join("told");
    let cluster = Cluster::start_with(1, |config| {
        config.time.file.clone_from(&file);
        config.time.reload = ["mkdir", told.to_str().unwrap()].map(str::to_owned).to_vec();
    })
    .await;
    let admin = cluster.admin();
    admin.ok("chtab key=extntpservers site.value=ntp1.example").await;
    admin.ok("chtab net=10.1.0.0,mask=255.255.0.0 networks.netname=a").await;
    assert_eq!(admin.ok("makentp").await, "configuring management node: mn01.\n");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("server ntp1.example iburst\nallow 10.1.0.0/16\n"), "{written}");
    assert!(told.exists());
    // The folder is there already: the program fails.
    let said = admin.run("makentp -V").await;
    assert!(said.out.contains("ntp servers are: ntp1.example\nwriting "), "{said:?}");
    assert!(said.err.contains("ended with exit status: 1; the settings are written") && said.status == 1);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let said = admin.run("makentp").await;
    assert!(said.err.contains("cannot write") && said.err.contains("is chrony installed?"), "{said:?}");
    assert_eq!(said.status, 1);
}
