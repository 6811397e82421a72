//! Values of every kind, all object types there and back, and the tables for a first cluster.

use std::path::Path;

use state::schema;

use crate::world::World;

fn good(world: &mut World, words: &[&str]) -> String {
    let ran = world.run(words, "").unwrap();
    assert_eq!((ran.err.as_str(), ran.rc), ("", 0), "{words:?}: {}", ran.out);
    ran.out
}

/// Values that somebody could take for something else.
fn strange() -> Vec<String> {
    let mut values: Vec<String> = [
        "a \"quoted\" word",
        "one,two,,three",
        "two\nlines",
        "\r\n",
        "$(reboot) `reboot` ; rm -rf / & | > < * ? [a-z] {b} ~ ! # % ^ \\",
        "'single'",
        " blanks around ",
        "tab\there",
        "ünïcödé ☃",
        "=",
        "#first",
        "-x",
    ]
    .map(str::to_owned)
    .to_vec();
    values.push("64 KiB ".repeat(9363));
    values
}

#[test]
fn a_value_is_stored_and_given_back_exactly_by_every_way_in_and_out() {
    for value in strange() {
        let mut world = World::observed("transcript_files.json");
        let shown: String = value.chars().take(40).collect();
        good(&mut world, &["chtab", "node=n1", &format!("nodelist.comments={value}")]);
        assert_eq!(
            good(&mut world, &["gettab", "node=n1", "nodelist.comments"]),
            format!("{value}\n"),
            "{shown}"
        );
        good(&mut world, &["nodech", "n2", &format!("nodelist.comments=@{value}")]);
        assert_eq!(
            good(&mut world, &["nodels", "n2", "nodelist.comments"]),
            format!("n2: {value}\n"),
            "{shown}"
        );
        good(&mut world, &["chdef", "n3", &format!("usercomment={value}")]);
        assert_eq!(
            good(&mut world, &["lsdef", "n3", "-i", "usercomment"]),
            format!("Object name: n3\n    usercomment={value}\n"),
            "{shown}"
        );
        let dump = good(&mut world, &["tabdump", "nodelist"]);
        let digest = world.state.named("nodelist").unwrap().len();
        world.disk.insert("/nodelist.csv".to_owned(), dump.clone());
        good(&mut world, &["tabrestore", "/nodelist.csv"]);
        assert_eq!(good(&mut world, &["tabdump", "nodelist"]), dump, "{shown}");
        assert_eq!(world.state.named("nodelist").unwrap().len(), digest);
    }
}

#[test]
fn a_pattern_that_does_not_compile_or_blows_up_is_refused_at_every_way_in_with_the_reason() {
    let bad = [
        (r"|n(\d+|10.0.0.($1)|", "unclosed group"),
        ("|((a{1000}){1000}){100}|x|", "bytes when it is compiled"),
        (r"|n(\d+)|10.0.0.($1+)|", "cannot be computed"),
        (r"|n(\d+)|(system($1))|", "cannot be computed"),
    ];
    for (pattern, reason) in bad {
        let mut world = World::observed("transcript_files.json");
        let before = world.state.revision();
        let csv = format!("#node,ip\n\"compute\",\"{pattern}\"\n");
        world.disk.insert("/hosts.csv".to_owned(), csv);
        let stanza = format!("n1:\n    objtype=node\n    ip={pattern}\n");
        let value = format!("hosts.ip={pattern}");
        for (words, stdin) in [
            (vec!["chtab", "node=compute", value.as_str()], ""),
            (vec!["nodech", "n1", &value], ""),
            (vec!["nodegrpch", "compute", &value], ""),
            (vec!["nodeadd", "z1", "groups=all", &value], ""),
            (vec!["chdef", "n1", &value.replace("hosts.ip", "ip")], ""),
            (vec!["chdef", "-z"], stanza.as_str()),
            (vec!["tabrestore", "/hosts.csv"], ""),
        ] {
            let ran = world.run(&words, stdin).unwrap();
            assert_eq!(ran.rc, 1, "{words:?}: {ran:?}");
            assert!(ran.err.contains(reason) && ran.err.contains("hosts.ip of '"), "{words:?}: {ran:?}");
            assert_eq!(world.state.revision(), before, "{words:?}");
        }
    }
}

/// For each type its attributes with a value, those without a condition first.
#[test]
fn every_type_is_made_shown_changed_written_as_a_stanza_and_removed_with_every_attribute() {
    for kind in &schema().types {
        // zvmivp has no attributes at all, its table is reached by chtab only.
        if kind.name == "site" || kind.attributes.is_empty() {
            continue;
        }
        let mut world = World::founded();
        let name = match kind.name {
            "auditlog" | "eventlog" => "7",
            _ => "obj1",
        };
        if kind.name == "group" {
            good(&mut world, &["mkdef", "-t", "node", "-o", "m1", "groups=all"]);
        }
        if kind.name == "pdu" || kind.name == "taskstate" {
            good(&mut world, &["mkdef", "-t", "node", "-o", "obj1", "groups=all"]);
        }
        // One value for each attribute whose condition is met by the others.
        let mut pairs: Vec<(String, String)> = Vec::new();
        for attribute in kind.names() {
            let plain = kind.defs(attribute).any(|def| def.only_if.is_none());
            if attribute == kind.key || !plain && kind.name != "pdu" {
                continue;
            }
            let value = match (kind.name, attribute) {
                (_, "groups") => "all,compute".to_owned(),
                (_, "members") => "m1".to_owned(),
                (_, "grouptype") => "static".to_owned(),
                ("pdu", "nodetype") => "pdu".to_owned(),
                ("policy", "time") => "Mon-Fri".to_owned(),
                (_, "disable") => continue,
                (_, "wherevals") => continue,
                ("node" | "group", name) if name.starts_with("nic") => format!("eth0!v{attribute}"),
                _ => format!("v{attribute}"),
            };
            pairs.push((attribute.to_owned(), value));
        }
        let assignments: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut words = vec!["mkdef", "-t", kind.name, "-o", name];
        words.extend(assignments.iter().map(String::as_str));
        let ran = world.run(&words, "").unwrap();
        assert_eq!((ran.err.as_str(), ran.rc), ("", 0), "{}: {}", kind.name, ran.out);
        let shown = good(&mut world, &["lsdef", "-t", kind.name, "-o", name, "-z"]);
        for (attribute, value) in &pairs {
            let line = match value.strip_prefix("eth0!") {
                Some(value) => format!("    {attribute}.eth0={value}\n"),
                None => format!("    {attribute}={value}\n"),
            };
            assert!(shown.contains(&line), "{} {line}: {shown}", kind.name);
        }
        assert!(
            good(&mut world, &["lsdef", "-t", kind.name]).contains(&format!("{name}  ({})\n", kind.name))
        );
        // The stanza makes the same object again.
        let stanza = good(&mut world, &["lsdef", "-t", kind.name, "-o", name, "-z"]);
        let removed = good(&mut world, &["rmdef", "-t", kind.name, "-o", name]);
        assert_eq!(removed, "1 object definitions have been removed.\n");
        let gone = world.run(&["lsdef", "-t", kind.name, "-o", name], "").unwrap();
        assert_eq!(gone.rc, 1, "{}: {gone:?}", kind.name);
        if kind.name == "pdu" || kind.name == "taskstate" {
            let _ = world.run(&["mkdef", "-t", "node", "-o", "obj1", "groups=all"], "");
        }
        let ran = world.run(&["mkdef", "-z"], &stanza).unwrap();
        assert_eq!((ran.err.as_str(), ran.rc), ("", 0), "{}: {stanza}", kind.name);
        assert_eq!(good(&mut world, &["lsdef", "-t", kind.name, "-o", name, "-z"]), stanza);
        // Every attribute is changed and cleared by chdef.
        let own = |name: &str| {
            !matches!((kind.name, name), (_, "groups" | "members") | ("pdu", "nodetype") | ("policy", "time"))
        };
        for (attribute, _) in pairs.iter().filter(|(name, _)| own(name)) {
            let value = if attribute.starts_with("nic") { "eth0!w".to_owned() } else { "w".to_owned() };
            good(&mut world, &["chdef", "-t", kind.name, "-o", name, &format!("{attribute}={value}")]);
            let shown = good(&mut world, &["lsdef", "-t", kind.name, "-o", name, "-i", attribute]);
            assert!(
                shown.trim_end().ends_with("=w") || shown.ends_with(",w\n"),
                "{} {attribute}: {shown}",
                kind.name
            );
        }
    }
}

#[test]
fn an_attribute_with_a_condition_is_kept_where_the_condition_says() {
    let mut world = World::founded();
    let mut count = 0;
    for kind in schema().types.iter().filter(|kind| matches!(kind.name, "node" | "group" | "osimage")) {
        for def in &kind.attributes {
            let Some((other, word)) = def.only_if else { continue };
            count += 1;
            let name = format!("{}{count}", kind.name);
            let (condition, value) = (format!("{other}={word}"), format!("{}=v", def.name));
            let mut words = vec!["mkdef", "-t", kind.name, "-o", &name, &condition];
            words.extend((kind.name == "node").then_some("groups=all"));
            if def.name != other {
                words.push(&value);
            }
            good(&mut world, &words);
            let shown = good(&mut world, &["lsdef", "-t", kind.name, "-o", &name, "-i", def.name]);
            let expected = if def.name == other { condition.clone() } else { value.clone() };
            assert!(shown.ends_with(&format!("    {expected}\n")), "{condition} {value}: {shown}");
            if def.name != other {
                let mut words = vec!["mkdef", "-t", kind.name, "-o", "without", value.as_str()];
                words.extend((kind.name == "node").then_some("groups=all"));
                let plain = kind.defs(def.name).any(|def| def.only_if.is_none());
                let ran = world.run(&words, "").unwrap();
                assert_eq!(ran.rc, i64::from(!plain), "{words:?}: {ran:?}");
                let _ = world.run(&["rmdef", "-t", kind.name, "-o", "without"], "");
            }
        }
    }
    assert!(count > 200, "{count}");
}

#[test]
fn the_tables_for_a_first_cluster_give_a_node_all_it_needs() {
    let mut world = World::founded();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tables/first-cluster");
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".csv") {
            world.disk.insert(format!("/first/{name}"), std::fs::read_to_string(&path).unwrap());
            names.push(name);
        }
    }
    assert!(names.len() >= 10, "{names:?}");
    for name in &names {
        good(&mut world, &["tabrestore", "-a", &format!("/first/{name}")]);
    }
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    for name in names {
        assert!(readme.contains(&format!("`{name}`")), "README.md does not explain {name}");
    }
    // As the README says.
    let line = readme.lines().find(|line| line.trim_start().starts_with("nodeadd r[")).unwrap();
    good(&mut world, &line.split_whitespace().collect::<Vec<_>>());
    let shown = good(&mut world, &["lsdef", "r2n07"]);
    for expected in [
        "arch=x86_64",
        "bmc=10.2.2.7",
        "cons=ipmi",
        "groups=compute,all",
        "ip=10.1.2.7",
        "mgt=ipmi",
        "netboot=xnba",
        "power=ipmi",
        "rack=rack2",
        "servicenode=sn2",
        "switch=sw2",
        "switchport=7",
        "unit=7",
        "xcatmaster=sn2",
    ] {
        assert!(shown.contains(&format!("    {expected}\n")), "{expected}: {shown}");
    }
    assert_eq!(good(&mut world, &["nodels", "rack2@r[1-2]n[07-08]"]), "r2n07\nr2n08\n");
    let ran = world.run(&["makehosts", "r1n01"], "").unwrap();
    assert_eq!(ran.rc, 0, "{ran:?}");
    assert!(world.hosts.contains("10.1.1.1 r1n01 r1n01.cluster.test \n"), "{}", world.hosts);
    assert!(world.hosts.contains("10.2.1.1 r1n01-bmc r1n01-bmc.cluster.test \n"), "{}", world.hosts);
}
