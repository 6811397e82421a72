//! atftp and tftp fetch equal bytes; nothing else is given and nothing is taken.

use super::bench::{Cable, SERVER, Services, node, text, until};
use std::net::UdpSocket;
use std::time::Duration;

fn fetched(services: &Services, name: &str) -> Vec<u8> {
    std::fs::read(services.path(name)).unwrap_or_default()
}

#[test]
fn loader_arrives_byte_for_byte_with_all_options() {
    let services = Services::start(vec![]);
    for (n, options) in [
        &[][..],
        &["blksize 1468"],
        &["blksize 1024", "windowsize 16"],
        &["blksize 65464", "windowsize 64", "tsize 0", "timeout 3"],
    ]
    .into_iter()
    .enumerate()
    {
        let local = services.path(&format!("got{n}"));
        let mut words = vec!["atftp"];
        for option in options {
            words.extend(["--option", option]);
        }
        words.extend(["-g", "-r", "undionly.kpxe", "-l", local.to_str().unwrap(), SERVER]);
        let output = services.cable.client(&words);
        assert!(fetched(&services, &format!("got{n}")) == services.loader, "{options:?}: {}", text(&output));
    }
    let local = services.path("tftp-hpa");
    let output = services.cable.client(&[
        "tftp",
        "-m",
        "binary",
        SERVER,
        "-c",
        "get",
        "undionly.kpxe",
        local.to_str().unwrap(),
    ]);
    assert!(fetched(&services, "tftp-hpa") == services.loader, "{}", text(&output));
    until("all transfers end", || services.count("tftp_done") == 5);
}

/// Asks with bytes of our own and reads the answer.
fn raw(services: &Services, datagram: &[u8]) -> Option<Vec<u8>> {
    Cable::within(&services.cable.client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send_to(datagram, (SERVER, 69)).unwrap();
        let mut buffer = [0; 2048];
        socket.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())
    })
}

#[test]
fn paths_links_and_writes_are_refused() {
    let services = Services::start(vec![]);
    for name in ["../secret", "/etc/passwd", "loader/../../secret", "..", "a\\b"] {
        let answer = raw(&services, &[b"\0\x01", name.as_bytes(), b"\0octet\0"].concat()).unwrap();
        assert_eq!(answer[..4], [0, 5, 0, 2], "{name}");
    }
    let answer = raw(&services, b"\0\x01link\0octet\0").unwrap();
    assert_eq!(answer[..4], [0, 5, 0, 1], "links are no loaders");
    let answer = raw(&services, b"\0\x02undionly.kpxe\0octet\0").unwrap();
    assert_eq!(answer[..4], [0, 5, 0, 2], "writes");
    assert_eq!(services.count("tftp_refused_name"), 5);
    assert_eq!(services.count("tftp_refused_write"), 1);
    assert_eq!(services.count("tftp_not_found"), 1);
    let local = services.path("upload");
    std::fs::write(&local, b"evil").unwrap();
    services.cable.client(&[
        "tftp",
        "-m",
        "binary",
        SERVER,
        "-c",
        "put",
        local.to_str().unwrap(),
        "undionly.kpxe",
    ]);
    assert_eq!(services.count("tftp_refused_write"), 2);
    assert!(std::fs::read(services.path("loader/undionly.kpxe")).unwrap() == services.loader);
}

#[test]
fn fifth_transfer_of_one_source_waits_for_a_seat() {
    let services = Services::start(vec![]);
    Cable::within(&services.cable.client, || {
        let sockets: Vec<UdpSocket> = (0..5).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
        for socket in &sockets[..4] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.send_to(b"\0\x01undionly.kpxe\0octet\0", (SERVER, 69)).unwrap();
            let mut buffer = [0; 1024];
            assert_eq!(socket.recv(&mut buffer).unwrap(), 516);
        }
        sockets[4].send_to(b"\0\x01undionly.kpxe\0octet\0", (SERVER, 69)).unwrap();
        sockets[0].send_to(b"\0\x01undionly.kpxe\0octet\0", (SERVER, 69)).unwrap();
        until("both are counted", || {
            services.count("tftp_dropped_source_limit") == 1 && services.count("tftp_dropped_doubled") == 1
        });
    });
}

#[test]
fn pxelinux_asks_for_its_text_by_mac() {
    let services = Services::start(vec![node("boot")]);
    let local = services.path("cfg");
    let name = "pxelinux.cfg/01-52-54-00-78-00-01";
    services.cable.client(&["atftp", "-g", "-r", name, "-l", local.to_str().unwrap(), SERVER]);
    let got = String::from_utf8(fetched(&services, "cfg")).unwrap();
    assert!(got.contains("LOCALBOOT"), "{got}");
}
