//! Cut, oversized and random packets: dropped, counted exactly, and the services live on.

use std::net::UdpSocket;

use super::bench::{Cable, SERVER, Services, noise, text, until};

#[test]
fn broken_packets_are_counted_one_by_one() {
    let services = Services::start(vec![]);
    services.dhcp_listens();
    Cable::within(&services.cable.client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let dhcp = |bytes: &[u8]| assert_eq!(socket.send_to(bytes, (SERVER, 67)).unwrap(), bytes.len());
        let tftp = |bytes: &[u8]| assert_eq!(socket.send_to(bytes, (SERVER, 69)).unwrap(), bytes.len());
        for n in 0..100 {
            dhcp(&noise(n));
            tftp(&[0, 1, b'x']);
        }
        for n in 0..50 {
            dhcp(&noise(1501 + n));
            tftp(&[0xff; 40]);
        }
        for _ in 0..25 {
            let mut reply = vec![0; 300];
            reply[0] = 2;
            dhcp(&reply);
        }
        until("all are counted", || services.count("dhcp_received") == 175);
    });
    assert_eq!(services.count("dhcp_dropped_cut"), 100);
    assert_eq!(services.count("dhcp_dropped_oversized"), 50);
    assert_eq!(services.count("dhcp_dropped_not_a_request"), 25);
    until("TFTP too", || {
        services.count("tftp_dropped_malformed") == 100 && services.count("tftp_dropped_not_a_request") == 50
    });
    let output = services
        .cable
        .client(&["perfdhcp", "-4", "-l", "vc", "-r", "50", "-R", "10", "-n", "10", "-W", "1000000", SERVER]);
    assert_eq!(services.count("dhcp_acks"), 10, "{}", text(&output));
}

#[test]
fn leases_survive_and_a_cut_journal_does_not_stop_the_start() {
    use netboot::dhcp::Leases;
    let services = Services::start(vec![]);
    services.dhcp_listens();
    services
        .cable
        .client(&["perfdhcp", "-4", "-l", "vc", "-r", "50", "-R", "10", "-n", "10", "-W", "1000000", SERVER]);
    until("ten leases", || services.count("dhcp_acks") == 10);
    let journal = std::fs::read_to_string(services.path("state/leases")).unwrap();
    let (leases, bad) = Leases::load(&journal[..journal.len() - 7]);
    assert_eq!((leases.len(), bad), (9, 1));
}
