//! Reading commands as rows: the fields are the same in every release, the values those of the lines.

use crate::world::World;

#[test]
fn reading_commands_name_their_fields() {
    let world = World::observed("transcript_files.json");
    for (command, fields) in [
        ("nodels", "node"),
        ("nodels all mac.mac groups", "node mac.mac nodelist.groups"),
        ("lsdef", "name type"),
        ("lsdef -t node -i ip,groups", "name type groups ip"),
        ("lsdef -t network -l", "name type"),
        ("tabdump", "table description"),
        ("tabdump -d hosts", "column description"),
        ("tabdump hosts", "node ip hostnames otherinterfaces comments disable"),
        ("tabdump -n 3 auditlog", "recid audittime"),
        ("gettab key=domain site.value", "attribute value"),
        ("lsxcatd -a", "name value"),
        ("margay status", "name value"),
        ("margay noderange all", "node"),
        ("margay sn list", "name state address"),
        ("margay action list", "id state status user started ended nodes command master detached text"),
        ("tabgrep n1", "table"),
        ("margay notification", "handler text"),
        ("margay log", "revision time user command changes"),
        ("margay log -c", "revision time user command table key column old new"),
        ("margay diff 1", "table key column old new"),
        ("nodediscoverls", "uuid node method mtm serial"),
        ("nodediscoverls -l", "uuid node method mtm serial"),
    ] {
        let rows = world.rows(&command.split(' ').collect::<Vec<_>>());
        let found = rows.fields.join(" ");
        assert!(found.starts_with(fields), "{command}: {found}");
        assert!(rows.rows.iter().all(|row| row.len() == rows.fields.len()), "{command}: {rows:?}");
    }
}

#[test]
fn rows_have_the_values_of_the_lines() {
    let mut world = World::observed("transcript_files.json");
    let lines = world.run(&["nodels", "all", "hosts.ip"], "").unwrap().out;
    let rows = world.rows(&["nodels", "all", "hosts.ip"]).rows;
    let joined: String = rows
        .iter()
        .map(|row| format!("{}: {}\n", row[0].as_deref().unwrap(), row[1].as_deref().unwrap_or("")))
        .collect();
    assert!(rows.len() > 10 && joined == lines, "{joined}");
    let dumped = world.rows(&["tabdump", "hosts"]).rows.len();
    assert_eq!(dumped, world.run(&["tabdump", "hosts"], "").unwrap().out.lines().count() - 1);
    let listed = world.rows(&["lsdef", "-t", "node"]).rows;
    assert_eq!(listed.len(), world.run(&["lsdef", "-t", "node"], "").unwrap().out.lines().count());
}
