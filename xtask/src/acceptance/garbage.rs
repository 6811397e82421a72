//! Garbage on the wire: dropped, counted one by one, and the daemons live on.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, until};
use super::{Check, daily};

/// In any order.
pub const CHECKS: &[Check] = &[
    daily(
        "cut, random and oversized packets are dropped, counted exactly, and every daemon lives on",
        packets,
    ),
    daily("TFTP gives nothing outside its folder and takes no file", tftp),
    daily("HTTP gives nothing outside its folders", http),
];

/// Datagrams of each kind.
const EACH: u64 = 50;

/// The counters of a service node.
fn counters(bench: &Bench<'_>, name: &str) -> Result<BTreeMap<String, u64>> {
    let path = bench.lab.path("racks").join(name).join("counters");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
}

/// Sends datagrams of so many random bytes behind `head` (an `echo` escape) to a port, from the rack's switch.
fn send(bench: &Bench<'_>, address: &str, port: u16, head: &str, bytes: u64) -> Result<()> {
    let script = r#"for i in $(seq "$4"); do
            { printf "$3"; head -c "$5" /dev/urandom; } > "$0" && cat "$0" > "/dev/udp/$1/$2"
        done"#;
    let file = bench.lab.file("garbage");
    let (port, count, bytes) = (port.to_string(), EACH.to_string(), bytes.to_string());
    bench.lab.run("r1sw", &["bash", "-c", script, &file, address, &port, head, &count, &bytes]).map(drop)
}

fn packets(bench: &Bench<'_>) -> Result<()> {
    let pids: Vec<(&str, String)> =
        ["m1", "r1sn"].into_iter().map(|name| Ok((name, bench.lab.pid(name)?))).collect::<Result<_>>()?;
    let before = counters(bench, "r1sn")?;
    let (node, master) = ("10.1.0.10", "10.0.0.11");
    // DHCP: too short, too long, an answer instead of a question.
    send(bench, node, 67, "", 20)?;
    send(bench, node, 67, "", 1600)?;
    send(bench, node, 67, "\\002", 299)?;
    // TFTP: no such operation, and a request without an end.
    send(bench, node, 69, "\\377\\377", 40)?;
    send(bench, node, 69, "\\000\\001x", 0)?;
    // QUIC: short, long header of an unknown version, larger than any packet of ours.
    for (address, port) in [(node, 3002), (master, 3001)] {
        send(bench, address, port, "", 30)?;
        send(bench, address, port, "\\300\\377\\377\\377\\377", 1300)?;
        send(bench, address, port, "", 9000)?;
    }
    let grown = |name: &str| -> Result<u64> {
        let now = counters(bench, "r1sn")?;
        Ok(now.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0))
    };
    for (name, wanted) in [
        ("dhcp_dropped_cut", EACH),
        ("dhcp_dropped_oversized", EACH),
        ("dhcp_dropped_not_a_request", EACH),
        ("tftp_dropped_not_a_request", EACH),
        ("tftp_dropped_malformed", EACH),
    ] {
        until(&format!("{name} to grow by {wanted}"), 10, || Ok((grown(name)? >= wanted).then_some(())))
            .with_context(|| format!("{:?}", counters(bench, "r1sn")))?;
        ensure!(grown(name)? == wanted, "{name} grew by {} instead of {wanted}", grown(name)?);
    }
    for (name, pid) in pids {
        ensure!(bench.lab.pid(name)? == pid, "{name} was started anew");
        bench.lab.signal("0", &pid).with_context(|| format!("{name} is dead"))?;
    }
    bench.until_agents("machines", 30)
}

fn tftp(bench: &Bench<'_>) -> Result<()> {
    let secret = bench.lab.path("racks/r1sn/key.pem");
    ensure!(secret.exists(), "the service node keeps no key in {}", secret.display());
    let link = bench.lab.path("boot/outside");
    if !link.exists() {
        std::os::unix::fs::symlink(&secret, &link).context("making a link out of the folder")?;
    }
    let secret = secret.display().to_string();
    let got = bench.lab.file("stolen");
    for name in ["../racks/r1sn/key.pem", &secret, "boot/../../etc/passwd", "outside", "..%2fplan.json"] {
        let _ = std::fs::remove_file(&got);
        let said =
            bench.lab.output("r1sw", &["tftp", "-m", "binary", "10.1.0.10", "-c", "get", name, &got])?;
        let size = std::fs::metadata(&got).map_or(0, |file| file.len());
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(size == 0, "{name} was given out ({size} bytes)");
        ensure!(text.contains("Error code") || !said.status.success(), "{name} was not refused: {text}");
    }
    let before = counters(bench, "r1sn")?;
    let path = bench.lab.file("upload");
    std::fs::write(&path, "x").context("a file to send")?;
    let said =
        bench.lab.output("r1sw", &["tftp", "-m", "binary", "10.1.0.10", "-c", "put", &path, "upload"])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(!bench.lab.path("boot/upload").exists(), "it took the file: {text}");
    until("the refusal to be counted", 5, || {
        let count = |all: &BTreeMap<String, u64>| all.get("tftp_refused_write").copied().unwrap_or(0);
        Ok((count(&counters(bench, "r1sn")?) > count(&before)).then_some(()))
    })
}

fn http(bench: &Bench<'_>) -> Result<()> {
    for path in [
        "/../../../../../../etc/passwd",
        "/genesis/../plan.json",
        "/genesis/..%2f..%2fetc%2fpasswd",
        "/loaders/../../racks/r1sn/key.pem",
        "//etc/passwd",
    ] {
        let url = format!("http://10.1.0.10{path}");
        let words = [
            "curl",
            "-sS",
            "--path-as-is",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        let code = bench.lab.run("r1sw", &words)?;
        ensure!(code.starts_with('4'), "{url} was answered with {code}");
    }
    let words = [
        "curl",
        "-sS",
        "--max-time",
        "10",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-T",
        "/etc/hostname",
        "http://10.1.0.10/genesis/upload",
    ];
    let code = bench.lab.run("r1sw", &words)?;
    ensure!(code.starts_with('4'), "a PUT was answered with {code}");
    Ok(())
}
