//! Wrong input is named, and changes nothing.

use crate::world::World;

/// Runs a command that must fail with a text, and changes nothing.
fn refused(command: &[&str], stdin: &str, rc: i64, text: &str) {
    let mut world = World::observed("transcript_files.json");
    let before = world.state.revision();
    let ran = world.run(command, stdin).unwrap();
    assert_eq!(ran.rc, rc, "{command:?}: {ran:?}");
    assert!(ran.err.contains(text) || ran.out.contains(text), "{command:?}: {ran:?}");
    assert_eq!(world.state.revision(), before, "{command:?} changed something");
}

#[test]
fn unknown_names_are_named() {
    refused(&["nodels", "n99"], "", 1, "noderange: n99");
    refused(&["nodech", "n1,nosuch", "nodepos.u=1"], "", 1, "noderange: nosuch");
    refused(&["noderm", "nosuchgroup"], "", 1, "noderange: nosuchgroup");
    refused(&["tabdump", "nosuch"], "", 1, "No such table: nosuch");
    refused(&["nodech", "n1", "nosuch.col=1"], "", 1, "nosuch.col not a valid table.column description");
    refused(&["nodeadd", "x1", "groups=all", "nodehm.nosuch=1"], "", 1, "nodehm.nosuch not a valid");
    refused(&["chtab", "node=n1", "nosuch.col=1"], "", 1, "Table nosuch does not exist.");
    refused(&["chtab", "nosuch=n1", "nodepos.u=1"], "", 1, "no such column: nosuch in the table nodepos");
    refused(&["chdef", "n1", "nosuch=1"], "", 1, "'nosuch' is not a valid attribute name");
    refused(&["mkdef", "-t", "nosuch", "x"], "", 1, "Type 'nosuch' is not a valid xCAT object type.");
    refused(&["lsdef", "-t", "network", "nosuch"], "", 1, "Could not find an object named 'nosuch'");
    refused(&["nodech", "--nosuch", "n1", "nodepos.u=1"], "", 1, "Usage:");
    refused(&["tabdump", "-Q", "site"], "", 1, "Usage:");
    refused(&["nodech", "-d", "n1", "nosuch"], "", 1, "table nosuch does not exist.");
}

#[test]
fn a_malformed_noderange_is_shown_with_its_position() {
    refused(&["nodels", "n1,(n2"], "", 1, "Unbalanced parentheses in noderange at position 4");
    refused(&["nodels", "n1,n[2-"], "", 1, "'[' is not closed at position 5");
    refused(&["nodels", "n1,/n["], "", 1, "at position 4");
    refused(&["nodels", "n[1-99999999]"], "", 1, "more than");
    refused(&["noderange", "n1,zz"], "", 1, "   ^ not found");
}

#[test]
fn a_file_with_a_wrong_header_changes_nothing() {
    for (name, rc) in [("badcols", 1), ("noheader", 1)] {
        let mut world = World::observed("transcript_files.json");
        let before = world.run(&["tabdump", "nodepos"], "").unwrap();
        world.run(&["cp", &format!("/golden/{name}.csv"), "/golden/nodepos.csv"], "").unwrap();
        let ran = world.run(&["tabrestore", "/golden/nodepos.csv"], "").unwrap();
        assert_eq!(ran.rc, rc, "{ran:?}");
        assert_eq!(world.run(&["tabdump", "nodepos"], "").unwrap(), before);
    }
}

#[test]
fn a_group_is_not_overwritten_by_a_node_of_its_name() {
    refused(&["nodeadd", "compute", "groups=all"], "", 1, "'compute' is the name of a group");
    refused(&["nodeadd", "a/b", "groups=all"], "", 1, "cannot be the name of a node");
}

#[test]
fn stanzas_that_are_not_understood_change_nothing() {
    refused(&["mkdef", "-z"], "m1:\n    objtype=node\n    groups=all\n    nonsense\n", 1, "line 4");
    refused(&["mkdef", "-z"], "m1:\n    objtype=nosuch\n", 1, "Type 'nosuch'");
}

#[test]
fn every_dump_restores_to_itself() {
    let mut world = World::observed("transcript_files.json");
    for table in ["nodelist", "hosts", "networks", "policy", "site", "switch"] {
        let dump = world.run(&["tabdump", table], "").unwrap().out;
        world.disk.insert(format!("/{table}.csv"), dump.clone());
        let ran = world.run(&["tabrestore", &format!("/{table}.csv")], "").unwrap();
        assert_eq!((ran.rc, ran.err.as_str()), (0, ""));
        assert_eq!(world.run(&["tabdump", table], "").unwrap().out, dump);
    }
}

#[test]
fn a_renamed_node_keeps_its_rows_and_its_groups_their_patterns() {
    let mut world = World::observed("transcript_files.json");
    let ran = world.run(&["chdef", "-t", "node", "-o", "n3", "-n", "n40"], "").unwrap();
    assert_eq!(ran.rc, 0, "{ran:?}");
    assert_eq!(world.run(&["nodels", "n40", "nodepos.u"], "").unwrap().out, "n40: 17\n");
    assert_eq!(world.run(&["nodels", "n40", "hosts.ip"], "").unwrap().out, "n40: 10.1.0.50\n");
    assert_eq!(world.run(&["nodels", "n3"], "").unwrap().rc, 1);
}

#[test]
fn an_emptied_inherited_value_is_masked_and_an_own_one_is_cleared() {
    let mut world = World::observed("transcript_files.json");
    world.run(&["nodech", "n3", "nodehm.mgt=", "nodepos.u="], "").unwrap();
    assert_eq!(world.run(&["nodels", "n3", "nodehm.mgt"], "").unwrap().out, "n3: \n");
    assert!(world.run(&["tabdump", "nodehm"], "").unwrap().out.contains("\"n3\",,\"|^.*$||\","));
    assert!(world.run(&["tabdump", "nodepos"], "").unwrap().out.contains("\"n3\",,,,,,,\"odd\","));
}
