#![allow(clippy::unwrap_used)]
use super::fake::Fake;
use super::*;

fn cluster() -> Fake {
    let mut tables = Fake::default();
    tables.add("site", &["key=domain", "value=example.org"]);
    tables.add("site", &["key=nameservers", "value=10.0.0.1,<xcatmaster>"]);
    tables.add("site", &["key=dhcpinterfaces", "value=other|eth9;sn1|eth1,eth2;service|bond0"]);
    tables.add("site", &["key=ipmiretries", "value=5"]);
    tables.add("site", &["key=secretthing", "value=x"]);
    tables.add("networks", &["netname=mgt", "net=10.0.0.0", "mask=255.255.0.0", "gateway=<xcatmaster>"]);
    tables.add(
        "networks",
        &["netname=fast", "net=10.1.0.0", "mask=/24", "gateway=10.1.0.254", "mtu=9000", "domain=fast.org"],
    );
    tables.add("nodelist", &["node=n1", "groups=compute,all", "status=booted"]);
    tables.add("nodelist", &["node=n2", "groups=all"]);
    tables.add("nodelist", &["node=sn1", "groups=service"]);
    tables.add("nodelist", &["node=switch1", "groups=switch"]);
    tables.add("noderes", &["node=compute", "servicenode=sn1,sn2", "netboot=xnba"]);
    tables.add(
        "hosts",
        &["node=n1", "ip=10.0.0.7", "hostnames=one,uno", "otherinterfaces=-ib0:10.9.0.7,n1-bmc:10.8.0.7"],
    );
    tables.add("hosts", &["node=switch1", "ip=10.0.0.99"]);
    tables.add("ipmi", &["node=compute", "bmc=|$|-bmc|"]);
    tables.add("passwd", &["key=ipmi", "username=ADMIN", "password=secret"]);
    tables
        .add("mac", &["node=n1", "mac=02:00:00:00:00:0A|02:00:00:00:00:0B!n1-ib0|02:00:00:00:00:0C!*NOIP*"]);
    tables.add("switch", &["node=n1", "switch=switch1", "port=swp3"]);
    tables.add("switch", &["node=n2", "switch=switch2", "port=4"]);
    tables.add("switches", &["switch=switch1", "snmpversion=2", "password=community"]);
    tables.add("nics", &["node=n1", "nicips=eth1!10.1.0.7,eth2!dhcp"]);
    tables.add("chain", &["node=n1", "currstate=standby"]);
    tables.add("identity", &["node=n1", "fingerprint=abc", "generation=4"]);
    tables
}

#[test]
fn a_node_view_holds_what_the_tables_say_with_groups_and_patterns_resolved() {
    let mut tables = cluster();
    tables.config.insert("n1".into(), 17);
    let view = node_view(&tables, "n1");
    assert_eq!(
        (view.netboot.as_str(), view.ip.as_str(), view.status.as_str()),
        ("xnba", "10.0.0.7", "booted")
    );
    let macs: Vec<_> = view.macs.iter().map(|mac| (mac.mac.as_str(), mac.ip.as_str())).collect();
    assert_eq!(
        macs,
        [("02:00:00:00:00:0a", "10.0.0.7"), ("02:00:00:00:00:0b", "10.9.0.7"), ("02:00:00:00:00:0c", "")]
    );
    let bmc = view.bmc.unwrap();
    assert_eq!(
        (bmc.address.as_str(), bmc.port, bmc.user.reveal(), bmc.password.reveal()),
        ("10.8.0.7", 623, "ADMIN", "secret")
    );
    assert!(view.claimed && view.key_fingerprint == "abc" && view.boot_generation == 4);
    assert_eq!(view.ports[0].port, "swp3");
    assert_eq!((view.destiny.as_str(), view.config.generation), ("standby", 17));
}

#[test]
fn a_bmc_may_carry_a_port_and_an_unknown_name_is_left_to_the_service_node() {
    let mut tables = cluster();
    tables.add("ipmi", &["node=n2", "bmc=127.0.0.1:6230", "username=other"]);
    let bmc = node_view(&tables, "n2").bmc.unwrap();
    assert_eq!((bmc.address.as_str(), bmc.port, bmc.user.reveal()), ("127.0.0.1", 6230, "other"));
    assert!(bmc.password.is_empty(), "the default password belongs to another user");
    tables.add("nodelist", &["node=n3", "groups=compute"]);
    assert_eq!(node_view(&tables, "n3").bmc.unwrap().address, "n3-bmc");
}

#[test]
fn the_configuration_is_made_of_the_nodes_rows_and_its_groups() {
    let mut tables = cluster();
    tables.add("selfconf", &["node=compute", "startcommand=/bin/work --now", "startuser=alice"]);
    tables.add("nodemounts", &["node=compute", "target=/home", "source=nfs:/home", "kind=nfs"]);
    tables.add("useraccounts", &["node=n1", "name=@science", "gid=500"]);
    tables.add(
        "useraccounts",
        &["node=n1", "name=alice", "uid=1000", "groups=science", "keys=ssh-ed25519 AAAA a|ssh-rsa BBBB b"],
    );
    tables.add("useraccounts", &["node=n1", "name=nobody-here"]);
    tables.add("noderoutes", &["node=n1", "destination=192.168.0.0/16", "gateway=10.0.0.1"]);
    let config = node_view(&tables, "n1").config;
    assert_eq!((config.hostname.as_str(), config.domain.as_str()), ("n1", "example.org"));
    assert_eq!(config.nameservers, ["10.0.0.1"]);
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!((config.interfaces[0].address.as_str(), config.interfaces[0].mtu), ("10.1.0.7/24", 9000));
    assert_eq!(config.interfaces[0].gateway, "10.1.0.254");
    assert!(config.interfaces[1].address.is_empty(), "dhcp");
    assert_eq!(
        config.hosts[0],
        ("10.0.0.7".into(), vec!["n1".into(), "n1.example.org".into(), "one".into(), "uno".into()])
    );
    assert!(
        config.hosts.contains(&("10.1.0.7".into(), vec!["n1-eth1".into(), "n1-eth1.example.org".into()]))
    );
    assert_eq!((config.mounts[0].target.as_str(), config.routes[0].gateway.as_str()), ("/home", "10.0.0.1"));
    assert_eq!((config.groups[0].name.as_str(), config.groups[0].gid), ("science", 500));
    let alice = &config.accounts[0];
    assert_eq!(
        (config.accounts.len(), alice.gid, alice.home.as_str(), alice.keys.len()),
        (1, 1000, "/home/alice", 2)
    );
    assert_eq!(config.start_command.unwrap().user, "alice");
}

#[test]
fn a_service_node_gets_its_own_switches_interfaces_and_settings() {
    let tables = cluster();
    let site = site_view(&tables, "c", "sn1");
    assert_eq!(site.dhcp_interfaces, ["eth1", "eth2", "bond0"]);
    assert_eq!(site.settings, [("ipmiretries".to_owned(), "5".to_owned())]);
    let names: Vec<_> = site.switches.iter().map(|switch| switch.name.as_str()).collect();
    assert_eq!(names, ["switch1", "switch2"]);
    assert_eq!(
        (site.switches[0].address.as_str(), site.switches[0].snmp_version.as_str()),
        ("10.0.0.99", "2c")
    );
    assert_eq!(
        (site.switches[0].password.reveal(), site.switches[1].password.reveal()),
        ("community", "public")
    );
    assert_eq!((site.networks.len(), site.dhcp_lease), (2, 43_200));
    // n1 belongs to sn1 and sn2; n2 to every one.
    let names: Vec<_> =
        site_view(&tables, "c", "sn9").switches.into_iter().map(|switch| switch.name).collect();
    assert_eq!(names, ["switch2"]);
    assert!(
        in_scope(&tables, "n1", "sn2") && !in_scope(&tables, "n1", "sn9") && in_scope(&tables, "n2", "sn9")
    );
}

fn nodes(tables: &Fake, table: &str, old: Option<&Row>, new: Option<&Row>) -> Vec<String> {
    affected(tables, Touch { table, old, new }).nodes.into_iter().collect()
}

#[test]
fn one_row_touches_one_node_and_a_group_row_its_members() {
    let mut tables = cluster();
    let row = tables.add("chain", &["node=n2", "currstate=shell"]);
    assert_eq!(nodes(&tables, "chain", None, Some(&row)), ["n2"]);
    let row = tables.add("bootparams", &["node=all", "addkcmdline=quiet"]);
    assert_eq!(nodes(&tables, "bootparams", Some(&row), None), ["all", "n1", "n2"]);
    let row = tables.add("hosts", &["node=n1-bmc", "ip=10.8.0.8"]);
    assert_eq!(nodes(&tables, "hosts", None, Some(&row)), ["n1", "n1-bmc"], "the BMC's user is touched");
    let row = tables.add("policy", &["priority=5"]);
    assert!(affected(&tables, Touch { table: "policy", old: None, new: Some(&row) }).is_nothing());
}

#[test]
fn what_no_view_shows_touches_none() {
    let tables = cluster();
    let old: Row =
        [("node", "n1"), ("status", "booted"), ("statustime", "1")].map(|(a, b)| (a.into(), b.into())).into();
    let mut new = old.clone();
    new.insert("statustime".into(), "2".into());
    assert!(nodes(&tables, "nodelist", Some(&old), Some(&new)).is_empty());
    new.insert("status".into(), "alive".into());
    assert_eq!(nodes(&tables, "nodelist", Some(&old), Some(&new)), ["n1"]);
    let touch = Touch { table: "nodelist", old: Some(&old), new: Some(&new) };
    assert!(!touches_config(touch), "a status is no part of the node's own configuration");
    let mounts = tables.row("hosts", &["n1"]).unwrap();
    assert!(touches_config(Touch { table: "hosts", old: None, new: Some(&mounts) }));
    let site: Row = [("key", "snmpc"), ("value", "x")].map(|(a, b)| (a.into(), b.into())).into();
    let found = affected(&tables, Touch { table: "site", old: None, new: Some(&site) });
    assert!(found.site && !found.all);
}

#[test]
fn masks_are_read_in_every_usual_writing() {
    for (text, bits) in
        [("255.255.255.0", Some(24)), ("/16", Some(16)), ("64", Some(64)), ("255.0.255.0", None), ("", None)]
    {
        assert_eq!(prefix_length(text), bits, "{text}");
    }
    let tables = cluster();
    let networks = tables.rows("networks");
    assert_eq!(network_of(&networks, "10.1.0.3").map(|row| column(row, "netname")), Some("fast"));
    assert!(network_of(&networks, "10.2.0.3").is_none() && network_of(&networks, "x").is_none());
}
