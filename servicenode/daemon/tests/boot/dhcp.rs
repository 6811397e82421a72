//! perfdhcp and udhcpc.

use super::bench::{Services, node, text};
use wire::view::{NodeMac, NodeView};

/// Numbers of a perfdhcp report, by their words, for both halves of the exchange.
fn numbers(report: &str, words: &str) -> Vec<u64> {
    let lines = report.lines().filter_map(|line| line.trim().strip_prefix(words));
    lines.filter_map(|rest| rest.trim_start_matches(':').trim().parse().ok()).collect()
}

fn hundred(services: &Services) -> String {
    services.dhcp_listens();
    let output = services.cable.client(&[
        "perfdhcp",
        "-4",
        "-l",
        "vc",
        "-r",
        "100",
        "-R",
        "100",
        "-n",
        "100",
        "-W",
        "1000000",
        "10.78.0.1",
    ]);
    text(&output)
}

#[test]
fn hundred_unknown_clients_of_perfdhcp_get_addresses_and_none_is_dropped() {
    let services = Services::start(vec![node("")]);
    let report = hundred(&services);
    assert_eq!(numbers(&report, "received packets"), [100, 100], "{report}");
    assert_eq!(numbers(&report, "drops"), [0, 0], "{report}");
    assert_eq!((services.count("dhcp_offers"), services.count("dhcp_acks")), (100, 100));
    let journal = std::fs::read_to_string(services.path("state/leases")).unwrap();
    assert_eq!(
        journal.lines().filter(|l| l.starts_with("+ 10.78.1.")).count(),
        100,
        "each ACK is in the journal"
    );
}

#[test]
fn hundred_known_clients_get_their_own_addresses_and_the_pool_is_untouched() {
    let base = 0x000c_0102_0304_u64;
    let nodes = (0..100u64).map(|i| {
        let mac = (base + i).to_be_bytes();
        let mac: Vec<String> = mac[2..].iter().map(|b| format!("{b:02x}")).collect();
        NodeView {
            name: format!("r{i}"),
            ip: format!("10.78.200.{}", i + 1),
            macs: vec![NodeMac { mac: mac.join(":"), ..NodeMac::default() }],
            ..NodeView::default()
        }
    });
    let services = Services::start(nodes.collect());
    let report = hundred(&services);
    assert_eq!(numbers(&report, "received packets"), [100, 100], "{report}");
    assert_eq!(services.state.lease_count(), 0);
}

#[test]
fn busybox_client_is_told_address_name_and_router() {
    let services = Services::start(vec![node("")]);
    services.dhcp_listens();
    let script = services.path("udhcpc.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] && echo $ip $subnet $router $hostname $domain\nexit 0\n",
    )
    .unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = services.cable.client(&[
        "busybox",
        "udhcpc",
        "-i",
        "vc",
        "-n",
        "-q",
        "-f",
        "-s",
        script.to_str().unwrap(),
    ]);
    let said = text(&output);
    assert!(said.contains("10.78.255.254 255.255.0.0 10.78.0.1 n1 cluster.test"), "{said}");
}
