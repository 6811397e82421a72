//! curl fetches what a boot loader fetches.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::bench::{Cable, SERVER, Services, node, text, until};
use servicenode::http::Limits;

fn curl(services: &Services, words: &[&str], path: &str) -> (String, Vec<u8>) {
    let url = format!("http://{SERVER}{path}");
    let all = [
        &["curl", "-s", "-S", "--max-time", "20", "--path-as-is", "-w", "%{stderr}%{http_code}"],
        words,
        &[&url],
    ]
    .concat();
    let output = services.cable.client(&all);
    (String::from_utf8_lossy(&output.stderr).into_owned(), output.stdout)
}

#[test]
fn script_file_range_and_head_are_served() {
    let services = Services::start(vec![]);
    let (code, script) = curl(&services, &[], "/boot/ipxe?mac=52:54:00:00:00:77");
    let script = String::from_utf8(script).unwrap();
    assert_eq!(code, "200");
    assert!(script.starts_with("#!ipxe\n# discover\n"), "{script}");
    assert!(
        script.contains(&format!("http://{SERVER}/genesis/vmlinuz"))
            && script.contains("margay.sn=10.78.0.1:3002")
    );
    let (code, kernel) = curl(&services, &[], "/genesis/vmlinuz");
    assert!(code == "200" && kernel == services.kernel);
    let (code, part) = curl(&services, &["-r", "1000-2999999"], "/genesis/vmlinuz");
    assert!(code == "206" && part == services.kernel[1000..3_000_000]);
    let (code, part) = curl(&services, &["-r", "-17"], "/genesis/vmlinuz");
    assert!(code == "206" && part == services.kernel[3_000_000..]);
    assert_eq!(curl(&services, &["-r", "9000000-"], "/genesis/vmlinuz").0, "416");
    let (code, loader) = curl(&services, &[], "/loader/undionly.kpxe");
    assert!(code == "200" && loader == services.loader);
    let (code, head) = curl(&services, &["-I"], "/genesis/vmlinuz");
    assert!(
        code == "200" && String::from_utf8_lossy(&head).contains("content-length: 3000017"),
        "{}",
        String::from_utf8_lossy(&head)
    );
}

#[test]
fn nothing_outside_is_served_and_nothing_is_taken() {
    let services = Services::start(vec![]);
    for path in [
        "/",
        "/secret",
        "/genesis/../secret",
        "/genesis/%2e%2e/secret",
        "/genesis/link",
        "/genesis/",
        "/genesis/.",
        "/loader/link",
        "/boot/",
        "/boot/passwd",
    ] {
        assert_eq!(curl(&services, &[], path).0, "404", "{path}");
    }
    assert_eq!(curl(&services, &["-X", "POST", "-d", "x"], "/boot/ipxe").0, "405");
    assert_eq!(curl(&services, &[], "/boot/ipxe?mac=zz").0, "400");
    assert_eq!(services.count("http_not_found"), 10);
    let long = format!("X-Long: {}", "a".repeat(20_000));
    assert_eq!(curl(&services, &["-H", &long], "/boot/ipxe").0, "431");
    assert_eq!(curl(&services, &[], "/genesis/vmlinuz").0, "200", "and still serves");
}

#[test]
fn token_is_given_to_the_node_s_own_address_only() {
    let services = Services::start(vec![node("shell")]);
    let overlay = |path: &str| String::from_utf8_lossy(&curl(&services, &[], path).1).into_owned();
    let own = overlay("/boot/overlay?mac=52:54:00:78:00:01");
    assert!(own.contains("etc/margay/token") && own.contains("BEGIN CERTIFICATE"));
    assert_ne!(own, overlay("/boot/overlay?mac=52:54:00:78:00:01"), "each time another token");
    assert!(overlay("/boot/overlay").contains("etc/margay/token"), "by its address alone");
    let unknown = overlay("/boot/overlay?mac=52:54:00:00:00:99");
    assert!(!unknown.contains("token") && unknown.contains("BEGIN CERTIFICATE"));
    let output = services.cable.beside(&[
        "curl",
        "-s",
        &format!("http://{SERVER}/boot/overlay?mac=52:54:00:78:00:01"),
    ]);
    assert!(!text(&output).contains("etc/margay/token"), "asked from another address");
    assert_eq!(services.count("http_overlay_from_elsewhere"), 1);
}

#[test]
fn one_source_has_its_share_of_connections_and_a_silent_one_is_closed() {
    let limits = Limits { per_source: 3, idle: Duration::from_millis(500), ..Limits::default() };
    let services = Services::start_with(vec![], limits);
    Cable::within(&services.cable.client, || {
        let mut silent: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect((SERVER, 80)).unwrap()).collect();
        silent[0].write_all(b"GET /boot/ipxe HTTP/1.1\r\nHost: ").unwrap();
        let mut fourth = TcpStream::connect((SERVER, 80)).unwrap();
        fourth.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(fourth.read(&mut [0; 16]).unwrap_or(0), 0, "closed at once");
        assert_eq!(services.count("http_refused_limit"), 1);
        for stream in &mut silent {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
    });
    until("the shares are free again", || curl(&services, &[], "/genesis/vmlinuz").0 == "200");
}
