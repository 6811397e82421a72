//! What the observations show only in part: templates, renamed nodes, images from four words.

use crate::world::World;

fn world() -> World {
    World::observed("transcript_files.json")
}

fn good(world: &mut World, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let ran = world.run(&words, "").unwrap();
    assert_eq!((ran.err.as_str(), ran.rc), ("", 0), "{line}");
    ran.out
}

fn bad(world: &mut World, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let ran = world.run(&words, "").unwrap();
    assert_eq!(ran.rc, 1, "{line}");
    ran.err
}

#[test]
fn a_renamed_node_keeps_its_address_when_the_pattern_of_its_group_means_another_form_of_names() {
    let mut world = world();
    let before = good(&mut world, "nodels node05 hosts.ip").replace("node05", "new");
    good(&mut world, "chdef -t node -o node05 -n new");
    assert_eq!(good(&mut world, "nodels new hosts.ip"), before);
    // The same form: the pattern goes on to compute.
    let ten = good(&mut world, "nodels node10 hosts.ip");
    good(&mut world, "chdef -t node -o node10 -n node55");
    let moved = good(&mut world, "nodels node55 hosts.ip");
    assert_eq!(moved, ten.replace("node10", "node55").replace(".10\n", ".55\n"));
    assert_ne!(moved, ten.replace("node10", "node55"));
}

#[test]
fn an_object_as_template_gives_its_own_values_but_not_what_belongs_to_one_machine() {
    let mut world = world();
    good(&mut world, "chdef n1 mac=52:54:00:00:00:01 serial=S1 mgt=ipmi bmc=10.9.0.1 room=cellar");
    good(&mut world, "mkdef -t node -o t1 --template n1 bmc=10.9.0.2");
    let shown = good(&mut world, "lsdef t1 -i bmc,groups,mac,mgt,room,serial");
    for line in ["bmc=10.9.0.2", "mac=", "mgt=ipmi", "room=cellar", "serial="] {
        assert!(shown.contains(&format!("    {line}\n")), "{line}: {shown}");
    }
    let groups =
        |world: &mut World, node: &str| good(world, &format!("nodels {node} groups")).replace(node, "");
    assert_eq!(groups(&mut world, "t1"), groups(&mut world, "n1"));
    // What groups give is not copied: it comes with the groups.
    assert!(!good(&mut world, "tabdump nodepos").contains("\"t1\",\"R1\""));
}

#[test]
fn a_template_that_does_not_exist_is_named() {
    let text = bad(&mut world(), "mkdef -t node -o t1 --template nosuch groups=all");
    assert_eq!(text, "Error: [mn01]: Could not find the template object named 'nosuch' of type 'node'.\n");
}

#[test]
fn an_image_is_made_of_four_words_and_has_their_name() {
    let mut world = world();
    let line = "mkdef -t osimage -u profile=p1 provmethod=netboot osvers=rocky9 osarch=x86_64";
    assert_eq!(good(&mut world, line), "1 object definitions have been created or modified.\n");
    let shown =
        good(&mut world, "lsdef -t osimage -o rocky9-x86_64-netboot-p1 -i imagetype,pkgdir,rootimgdir");
    assert!(shown.contains("rootimgdir=/install/netboot/rocky9/x86_64/p1\n"), "{shown}");
    assert!(shown.contains("imagetype=linux\n") && shown.contains("pkgdir=/install/rocky9/x86_64\n"));
    assert!(bad(&mut world, "mkdef -t osimage -u profile=p1 osvers=rocky9").contains("provmethod"));
    assert!(bad(&mut world, "mkdef -t node -u n77 groups=all").contains("osimage"));
}

#[test]
fn a_registration_replaces_the_earlier_one_and_is_taken_back_once() {
    let mut world = world();
    for line in ["regnotif /x nodelist -o u", "regnotif /x mac,hosts -o d", "unregnotif /y"] {
        good(&mut world, line);
    }
    assert!(good(&mut world, "tabdump notification").ends_with("\"/x\",\"mac,hosts\",\"d\",,\n"));
    good(&mut world, "unregnotif /x");
    assert!(!good(&mut world, "tabdump notification").contains("/x"));
}

#[test]
fn members_that_are_taken_out_of_a_group_are_no_error() {
    let mut world = world();
    good(&mut world, "chdef -t group -o rack1 -m members=n1");
    let shown = good(&mut world, "nodels rack1");
    assert!(!shown.lines().any(|node| node == "n1") && !shown.is_empty());
}
