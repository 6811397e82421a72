//! All tables as files: dumpxCATdb, restorexCATdb, margay export and import, and the import of other databases.

use std::collections::BTreeMap;

use crate::world::{Ran, World, golden};

fn run(world: &mut World, line: &str) -> Ran {
    let words: Vec<&str> = line.split(' ').collect();
    world.run(&words, "").unwrap_or_else(|| panic!("{line} is no command"))
}

/// Runs a command that must succeed; gives its standard output.
fn good(world: &mut World, line: &str) -> String {
    let ran = run(world, line);
    assert_eq!((ran.rc, ran.err.as_str()), (0, ""), "{line}: {}", ran.out);
    ran.out
}

/// The files of a folder by name.
fn folder(world: &World, path: &str) -> BTreeMap<String, String> {
    let files = world.disk.iter();
    files.filter_map(|(name, text)| Some((name.strip_prefix(path)?.to_owned(), text.clone()))).collect()
}

/// An empty cluster with these files of its client.
fn elsewhere(files: &BTreeMap<String, String>, path: &str) -> World {
    let mut world = World::empty();
    world.disk = files.iter().map(|(name, text)| (format!("{path}{name}"), text.clone())).collect();
    world
}

/// The observed database as a directory of dumpxCATdb.
fn observed() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(golden("db")).unwrap().map(|entry| entry.unwrap());
    let text = |entry: &std::fs::DirEntry| std::fs::read_to_string(entry.path()).unwrap();
    files.map(|entry| (entry.file_name().into_string().unwrap(), text(&entry))).collect()
}

#[test]
fn a_dump_has_xcat_s_bytes_and_its_restore_dumps_the_same() {
    let mut world = World::observed("transcript_files.json");
    world.set("auditlog", &[""], &[("userid", "root")]);
    world.set("taskstate", &["n1", "getadapter"], &[("state", "waiting")]);
    assert_eq!(good(&mut world, "dumpxCATdb -p /d/"), "Backup Complete.\n");
    let dumped = folder(&world, "/d/");
    for (name, text) in observed() {
        assert_eq!(dumped[&name], text, "{name}");
    }
    assert_eq!(dumped["deps.csv"], "#node,nodedep,msdelay,cmd,comments,disable\n");
    assert!(!dumped.contains_key("auditlog.csv") && !dumped.contains_key("taskstate.csv"));
    world.set("site", &["skiptables"], &[("value", "mac, switch")]);
    let said = good(&mut world, "dumpxCATdb -V --all --path=/all");
    assert!(
        said.contains("Dumping table: auditlog\n")
            && said.contains("Skipping table: mac (site.skiptables)\n")
    );
    let all = folder(&world, "/all/");
    assert!(
        all.contains_key("auditlog.csv") && !all.contains_key("mac.csv") && !all.contains_key("switch.csv")
    );

    let mut other = elsewhere(&dumped, "/d/");
    other.set("nodelist", &["gone"], &[("groups", "all")]);
    other.set("auditlog", &[""], &[("userid", "ann")]);
    assert_eq!(good(&mut other, "restorexCATdb -p /d"), "Restore of Database Complete.\n");
    let restored = other.state.revision();
    good(&mut other, "dumpxCATdb -p /e");
    assert_eq!(folder(&other, "/e/"), dumped);
    assert_eq!(other.state.named("auditlog").unwrap().len(), 1);
    good(&mut other, "restorexCATdb -p /d");
    assert_eq!(other.state.revision(), restored, "a second time nothing is different");
    other.disk.extend(all.into_iter().map(|(name, text)| (format!("/all/{name}"), text)));
    let said = good(&mut other, "restorexCATdb -V -a -p /all");
    assert!(said.contains("Restoring table: auditlog\n"), "{said}");
}

#[test]
fn a_restore_is_whole_or_nothing_and_names_every_file_that_is_wrong() {
    let mut files = observed();
    files.insert("mac.csv".into(), "#node,colour\n\"n1\",\"red\"\n".into());
    files.insert("hosts.csv".into(), "#node,ip\n\"n1\",\"10.0.0.1\n".into());
    files.insert("frobs.csv".into(), "#node\n\"n1\"\n".into());
    files.insert("kits.csv".into(), "#node\n".into());
    let mut world = elsewhere(&files, "/d/");
    world.set("nodelist", &["n1"], &[("groups", "all")]);
    let before = world.state.digest();
    let ran = run(&mut world, "restorexCATdb -p /d");
    assert_eq!((ran.rc, ran.out.as_str()), (1, ""));
    for part in ["/d/mac.csv: ", "'colour'", "/d/hosts.csv: ", "line 2", "no table frobs", "Nothing was"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert!(!ran.err.contains("kits"), "a table without rows is no loss: {}", ran.err);
    assert_eq!(world.state.digest(), before);
    let ran = run(&mut world, "restorexCATdb -p /none");
    assert_eq!((ran.rc, ran.err.as_str()), (1, "Error: [mn01]: The directory /none cannot be read\n"));
    for line in ["restorexCATdb", "dumpxCATdb", "dumpxCATdb /d", "dumpxCATdb -p /d more"] {
        let ran = run(&mut world, line);
        assert!(ran.rc == 1 && ran.out.starts_with("Usage: "), "{line}: {ran:?}");
    }
    assert!(good(&mut world, "dumpxCATdb -h").starts_with("Usage: dumpxCATdb "));
}

#[test]
fn the_observed_database_comes_in_goes_out_and_comes_in_elsewhere_with_an_equal_digest() {
    let mut first = elsewhere(&observed(), "/xcat/");
    let told = good(&mut first, "margay import xcat /xcat/");
    let rows: usize = observed().values().map(|text| text.lines().count() - 1).sum();
    let sum = format!("19 files, {rows} rows: {rows} new, 0 changed, 0 as here, 0 left out\n");
    assert!(told.ends_with(&sum), "{told}");
    let direct = World::observed("transcript_files.json").state.digest();
    assert_eq!(first.state.digest(), direct);
    let imported = first.state.revision();
    let again = good(&mut first, "margay import xcat /xcat");
    assert!(
        again.contains(&format!("{rows} rows: 0 new, 0 changed, {rows} as here, 0 left out\n")),
        "{again}"
    );
    assert!(again.ends_with("nothing was changed\n") && first.state.revision() == imported, "{again}");

    good(&mut first, "margay export /out");
    let exported = folder(&first, "/out/");
    let mut second = elsewhere(&exported, "/in/");
    second.set("nodelist", &["stale"], &[("groups", "all")]);
    second.set("site", &["stale"], &[("value", "x")]);
    good(&mut second, "margay import /in");
    assert_eq!(second.state.digest(), direct);
    assert_eq!(good(&mut second, "margay digest -l"), good(&mut first, "margay digest -l"));
    good(&mut second, "margay export /out");
    assert_eq!(folder(&second, "/out/"), exported);

    // One cell: one line of one file.
    good(&mut second, "nodech n3 nodepos.room=r2");
    good(&mut second, "margay export /out");
    let changed = folder(&second, "/out/");
    let mut lines = Vec::new();
    for (name, text) in &exported {
        assert_eq!(text.lines().count(), changed[name].lines().count(), "{name}");
        let pairs = text.lines().zip(changed[name].lines());
        lines.extend(pairs.filter(|(old, new)| old != new).map(|_| name.as_str()));
    }
    assert_eq!(lines, ["nodepos.csv"]);
    assert_ne!(second.state.digest(), direct);
}

#[test]
fn every_row_of_another_version_s_database_is_accounted_for() {
    let files = [
        ("auditlog.csv", "#recid,userid\n\"1\",\"root\"\n\"2\",\"root\"\n"),
        ("frobs.csv", "#node,frob\n\"n1\",\"x\"\n"),
        ("hosts.csv", "#node,ip\n\"g1\",\"|n(\\d+|10.0.0.($1)|\"\n\"n1\",\"10.0.0.1\"\n"),
        ("hmc.csv", "#hcp,username,password\n\"h1\",\"hscroot\",\"abc\"\n\"h2\",\"hscroot\",\n"),
        ("ivm.csv", "#hcp,username,password\n\"h2\",\"padmin\",\n"),
        ("kits.csv", "#kit\n"),
        ("nodehm.csv", "#node,power,serialport\n\"n1\",\"ipmi\",\n\"n2\",,\"1\"\n"),
        (
            "nodelist.csv",
            "#node,group,status,shade\n\"n1\",\"all,a\",\"booted\",\n\"n2\",\"all\",,\"red\"\n\"n1\",\"all,a\",\"booted\",\n\
             \"n2\",\"b\",,\n,\"all\",,\n\"n 3\",\"all\",,\n\"n4\",\"all\",,,\"x\"\n\"n5\",\"all\",,\n\"n6\",\"all\",,\n",
        ),
        ("noderes.csv", "#node,serialport,kernel\n\"n1\",\"0\",\"k\"\n\"n2\",\"0\",\n"),
        ("readme.txt", "not a table"),
    ];
    let files: BTreeMap<String, String> =
        files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let mut world = elsewhere(&files, "/old/");
    world.set("nodelist", &["n5"], &[("groups", "all"), ("comments", "kept")]);
    world.set("nodelist", &["n6"], &[("groups", "x")]);
    world.set("nodelist", &["n7"], &[("groups", "x")]);
    let told = good(&mut world, "margay import xcat /old");
    let expected = "\
auditlog: 2 rows: 0 new, 0 changed, 0 as here, 2 left out
    left out, a record of what was done with the old master; keep the file: row 1, row 2
frobs: 1 row: 0 new, 0 changed, 0 as here, 1 left out
    left out, there is no such table here: row 1
hmc: 2 rows: 2 new, 0 changed, 0 as here, 0 left out
    goes to table ppchcp: h1, h2
hosts: 2 rows: 2 new, 0 changed, 0 as here, 0 left out
    the value of 'ip' is left out, the expression 'n(\\d+' does not compile: unclosed group: g1
ivm: 1 row: 0 new, 0 changed, 0 as here, 1 left out
    left out, an earlier row of hmc has its key and other values: h2
nodehm: 2 rows: 2 new, 0 changed, 0 as here, 0 left out
nodelist: 9 rows: 2 new, 1 changed, 1 as here, 5 left out
    column 'shade' is not known here, its value is left out: n2 (\"red\")
    left out, \"n 3\" cannot be the name of a node or group: n 3
    left out, an earlier row of nodelist has its key and other values: n2
    left out, it has more values than the header has columns: n4
    left out, it has no key: row 5
    left out, it repeats an earlier row of nodelist: n1
noderes: 2 rows: 2 new, 0 changed, 0 as here, 0 left out
    noderes.kernel goes to bootparams.kernel: n1
    noderes.serialport goes to nodehm.serialport: n1
    noderes.serialport is left out, nodehm.serialport has another value: n2 (\"0\")
9 files, 21 rows: 10 new, 1 changed, 1 as here, 9 left out
";
    assert_eq!(told, expected);
    for (node, column, value) in [
        ("n1", "nodelist.groups", "all,a"),
        ("n1", "nodehm.serialport", "0"),
        ("n2", "nodehm.serialport", "1"),
        ("n1", "bootparams.kernel", "k"),
        ("h1", "ppchcp.password", "abc"),
        ("n5", "nodelist.comments", "kept"),
        ("n6", "nodelist.groups", "all"),
        ("n7", "nodelist.groups", "x"),
    ] {
        assert_eq!(world.state.text(node, column), value, "{node} {column}");
    }
    let revision = world.state.revision();
    assert!(good(&mut world, "margay import xcat /old").ends_with("nothing was changed\n"));
    assert_eq!(world.state.revision(), revision);

    world.disk.insert("/old/mac.csv".into(), "#node,mac\n\"n1\",\"x\n".into());
    let ran = run(&mut world, "margay import xcat /old");
    assert!(
        ran.rc == 1 && ran.err.contains("/old/mac.csv: line 2") && ran.err.contains("Nothing was imported")
    );
    assert!(run(&mut world, "margay import xcat /none").err.contains("The directory /none cannot be read"));
}
