//! Garbage on the wire: dropped, counted one by one, and the daemons live on.

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, Counts, until};
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
const EACH: u64 = 25;

/// Sends datagrams of so many random bytes behind `head` (hexadecimal) to a port, from the rack's switch.
fn send(bench: &Bench<'_>, address: &str, port: u16, head: &str, bytes: u64) -> Result<()> {
    let (xtask, at) = (bench.lab.program("xtask"), format!("{address}:{port}"));
    let words = [&xtask, "lab", "noise", &at, head, &bytes.to_string(), &EACH.to_string()];
    bench.lab.run("r1sw", &words).map(drop)
}

/// What QUIC's ports get: the beginning, random bytes behind it, and the counter that must grow.
const QUIC: &[(&str, u64, &str)] = &[
    // Without the bit that every packet has.
    ("3f", 29, "quic_dropped_not_quic"),
    // Of a connection: too short for one, and of none that is known.
    ("40", 12, "quic_dropped_cut"),
    ("40", 1200, "quic_dropped_unknown_connection"),
    // Larger than any packet of ours.
    ("", 9000, "quic_dropped_oversized"),
    // Long headers: a version that is not spoken, an id of 21 bytes, a first packet that is too small, cut
    // inside its token, and one that is whole but was never sealed.
    ("c0ffffffff", 1300, "quic_dropped_version"),
    ("c00000000115", 1300, "quic_dropped_connection_id"),
    ("c000000001086d616465757021210000", 1100, "quic_dropped_short_initial"),
    ("c000000001086d61646575702121007fff", 1250, "quic_dropped_cut"),
    ("c000000001086d6164657570212100004496", 1250, "quic_dropped_does_not_decrypt"),
];

fn packets(bench: &Bench<'_>) -> Result<()> {
    let pids: Vec<(&str, String)> =
        ["m1", "r1sn"].into_iter().map(|name| Ok((name, bench.lab.pid(name)?))).collect::<Result<_>>()?;
    let (node, master) = ("10.1.0.10", "10.0.0.11");
    let (before, before_master) = (bench.counters("r1sn")?, bench.master_counters()?);
    // DHCP: too short, too long, an answer instead of a question.
    send(bench, node, 67, "", 20)?;
    send(bench, node, 67, "", 1600)?;
    send(bench, node, 67, "02", 299)?;
    // TFTP: no such operation, and a request without an end.
    send(bench, node, 69, "ffff", 40)?;
    send(bench, node, 69, "000178", 0)?;
    for (address, port) in [(node, 3002), (master, 3001)] {
        for (head, bytes, _) in QUIC {
            send(bench, address, port, head, *bytes)?;
        }
        // Whatever comes, but small: one of the reasons fits.
        send(bench, address, port, "", 30)?;
    }
    let mut wanted = Counts::from(
        [
            "dhcp_dropped_cut",
            "dhcp_dropped_oversized",
            "dhcp_dropped_not_a_request",
            "tftp_dropped_not_a_request",
            "tftp_dropped_malformed",
        ]
        .map(|name| (name.to_owned(), EACH)),
    );
    let quic = EACH * (QUIC.len() as u64 + 1);
    grown(&wanted, quic, &before, || bench.counters("r1sn")).context("the service node")?;
    wanted.clear();
    grown(&wanted, quic, &before_master, || bench.master_counters()).context("the master")?;
    for (name, pid) in pids {
        ensure!(bench.lab.pid(name)? == pid, "{name} was started anew");
        bench.lab.signal("0", &pid).with_context(|| format!("{name} is dead"))?;
    }
    bench.until_agents("machines", 30)
}

/// Waits until the numbers have grown by what was sent, and by nothing more: these counters one by one,
/// those of QUIC at least so, and all of QUIC together by `quic`.
fn grown(wanted: &Counts, quic: u64, before: &Counts, now: impl Fn() -> Result<Counts>) -> Result<()> {
    let growth = |now: &Counts, name: &str| {
        now.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0)
    };
    let of_quic = |now: &Counts| -> u64 {
        now.keys().filter(|name| name.starts_with("quic_dropped_")).map(|name| growth(now, name)).sum()
    };
    let mut last = Counts::new();
    until("everything to be counted", 10, || {
        last = now()?;
        let all = wanted.iter().all(|(name, count)| growth(&last, name) >= *count);
        Ok((all && of_quic(&last) >= quic).then_some(()))
    })
    .with_context(|| format!("{last:?}"))?;
    for (name, count) in wanted {
        let grew = growth(&last, name);
        ensure!(grew == *count, "{name} grew by {grew} instead of {count}");
    }
    for (_, _, name) in QUIC {
        let least = EACH * QUIC.iter().filter(|(_, _, other)| other == name).count() as u64;
        ensure!(growth(&last, name) >= least, "{name} grew by less than {least}: {last:?}");
    }
    ensure!(of_quic(&last) == quic, "QUIC's grew by {} instead of {quic}: {last:?}", of_quic(&last));
    Ok(())
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
    let before = bench.counters("r1sn")?;
    let path = bench.lab.file("upload");
    std::fs::write(&path, "x").context("a file to send")?;
    let said =
        bench.lab.output("r1sw", &["tftp", "-m", "binary", "10.1.0.10", "-c", "put", &path, "upload"])?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    ensure!(!bench.lab.path("boot/upload").exists(), "it took the file: {text}");
    until("the refusal to be counted", 5, || {
        let count = |all: &Counts| all.get("tftp_refused_write").copied().unwrap_or(0);
        Ok((count(&bench.counters("r1sn")?) > count(&before)).then_some(()))
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
