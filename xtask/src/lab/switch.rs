//! A rack's switch: a bridge whose live forwarding table net-snmp serves.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::place::Place;
use super::plan::Rack;
use crate::process;

/// dot1dBridge.
const BRIDGE: [u32; 8] = [1, 3, 6, 1, 2, 1, 17, 0];
/// How long one reading of the table is served.
const CACHE: Duration = Duration::from_secs(1);
/// The only VLAN of such a switch.
const VLAN: u32 = 1;

/// Starts the switch's management.
pub fn start(place: &Place, rack: &Rack) -> Result<()> {
    let name = rack.switch();
    let config = place.path(&format!("{name}.snmpd.conf"));
    let text = format!(
        "agentAddress udp:161\nrocommunity public\nsysName {name}\nsysDescr Margay lab switch\n\
         dontLogTCPWrappersConnects yes\n\
         pass_persist .1.3.6.1.2.1.17 {} lab forwarding br0\n",
        place.program("xtask").display()
    );
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    // Below /run, which is the lab's own: snmpd wants to keep things between its runs.
    let state = format!("/run/snmp-{name}");
    std::fs::create_dir_all(&state).with_context(|| format!("making {state}"))?;
    let config = config.display().to_string();
    let words =
        [format!("SNMP_PERSISTENT_DIR={state}"), "MIBS=".into(), "snmpd".into(), "-f".into(), "-Lo".into()];
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.extend(["-C", "-c", &config]);
    place.spawn_at(&name, &name, Path::new("env"), &words)?;
    Ok(())
}

/// Stops or starts the management of a rack's switch from outside the lab.
pub fn manage(place: &Place, rack: &str, what: &str) -> Result<()> {
    let plan = place.plan()?;
    let rack =
        plan.racks.iter().find(|found| found.name() == rack).with_context(|| format!("no rack {rack}"))?;
    let name = rack.switch();
    let pid = std::fs::read_to_string(place.log(&format!("{name}.pid"))).context("the switch's process")?;
    let signal = match what {
        // Frozen, not ended: like a management processor that hangs, and it can come back.
        "stop" => "-STOP",
        "start" => "-CONT",
        _ => bail!("stop or start, not {what}"),
    };
    let output = super::enter::output(place, super::network::CORE, &["kill", signal, pid.trim()])?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// One entry of `bridge -j fdb show`.
#[derive(Deserialize)]
struct Learned {
    mac: String,
    ifname: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    master: String,
}

/// A port of the bridge.
struct Port {
    number: u32,
    index: u32,
}

/// An SNMP value as pass_persist writes it: type and text.
type Value = (&'static str, String);

/// Serves dot1dBridge to snmpd over standard input and output (pass_persist) until it closes them.
pub fn serve_forwarding(bridge: &str) -> Result<()> {
    let mut table = BTreeMap::new();
    let mut read: Option<Instant> = None;
    let (stdin, mut out) = (std::io::stdin(), std::io::stdout());
    let mut lines = stdin.lock().lines();
    while let Some(line) = lines.next() {
        let line = line?;
        let answer = match line.trim() {
            "PING" => "PONG\n".to_owned(),
            "get" | "getnext" => {
                let oid = lines.next().context("an object id was announced")??;
                if read.is_none_or(|at| at.elapsed() > CACHE) {
                    table = forwarding(bridge)?;
                    read = Some(Instant::now());
                }
                let oid = parse_oid(&oid);
                let found = match line.trim() {
                    "get" => table.get_key_value(&oid),
                    _ => table.range((std::ops::Bound::Excluded(oid), std::ops::Bound::Unbounded)).next(),
                };
                found.map_or_else(
                    || "NONE\n".to_owned(),
                    |(oid, (kind, value))| format!("{}\n{kind}\n{value}\n", write_oid(oid)),
                )
            }
            "set" => {
                let _ = (lines.next(), lines.next());
                "not-writable\n".to_owned()
            }
            _ => "NONE\n".to_owned(),
        };
        out.write_all(answer.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

/// Reads the bridge and lays its tables out by object id.
fn forwarding(bridge: &str) -> Result<BTreeMap<Vec<u32>, Value>> {
    let text = process::text(Command::new("bridge").args(["-j", "fdb", "show", "br", bridge]))?;
    let learned: Vec<Learned> = serde_json::from_str(&text).context("reading the forwarding table")?;
    let mut ports = BTreeMap::new();
    for entry in std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).context("reading the ports")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{name}/{file}"));
        // A port may be unplugged between the listing and the reading.
        if let (Ok(number), Ok(index)) = (read("brport/port_no"), read("ifindex")) {
            let number = u32::from_str_radix(number.trim().trim_start_matches("0x"), 16)?;
            ports.insert(name, Port { number, index: index.trim().parse()? });
        }
    }
    Ok(layout(&ports, &learned))
}

fn layout(ports: &BTreeMap<String, Port>, learned: &[Learned]) -> BTreeMap<Vec<u32>, Value> {
    let mut table = BTreeMap::new();
    let mut put = |rest: &[u32], kind, value: String| {
        let mut oid = BRIDGE[..7].to_vec();
        oid.extend(rest);
        table.insert(oid, (kind, value));
    };
    put(&[1, 2, 0], "integer", ports.len().to_string());
    put(&[1, 3, 0], "integer", "2".into());
    for port in ports.values() {
        put(&[1, 4, 1, 1, port.number], "integer", port.number.to_string());
        put(&[1, 4, 1, 2, port.number], "integer", port.index.to_string());
    }
    for entry in learned.iter().filter(|entry| entry.state != "permanent" && !entry.master.is_empty()) {
        let Some(port) = ports.get(&entry.ifname) else { continue };
        let bytes: Vec<u32> =
            entry.mac.split(':').filter_map(|byte| u32::from_str_radix(byte, 16).ok()).collect();
        let with = |start: &[u32]| [start, &bytes].concat();
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        put(&with(&[4, 3, 1, 1]), "octet", hex.join(" "));
        put(&with(&[4, 3, 1, 2]), "integer", port.number.to_string());
        // learned(3)
        put(&with(&[4, 3, 1, 3]), "integer", "3".into());
        put(&with(&[7, 1, 2, 2, 1, 2, VLAN]), "integer", port.number.to_string());
        put(&with(&[7, 1, 2, 2, 1, 3, VLAN]), "integer", "3".into());
    }
    table
}

fn parse_oid(text: &str) -> Vec<u32> {
    text.trim().split('.').filter_map(|part| part.parse().ok()).collect()
}

fn write_oid(oid: &[u32]) -> String {
    oid.iter().map(|part| format!(".{part}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_learned_address_leads_to_its_port_in_both_tables() {
        let ports = BTreeMap::from([("swp7".to_owned(), Port { number: 9, index: 31 })]);
        let entry = |mac: &str, state: &str| Learned {
            mac: mac.into(),
            ifname: "swp7".into(),
            state: state.into(),
            master: "br0".into(),
        };
        let table =
            layout(&ports, &[entry("52:00:00:00:00:0a", ""), entry("33:33:00:00:00:01", "permanent")]);
        let value = |oid: &str| table.get(&parse_oid(oid)).map(|(_, value)| value.as_str());
        assert_eq!(value(".1.3.6.1.2.1.17.4.3.1.2.82.0.0.0.0.10"), Some("9"));
        assert_eq!(value(".1.3.6.1.2.1.17.4.3.1.1.82.0.0.0.0.10"), Some("52 00 00 00 00 0A"));
        assert_eq!(value(".1.3.6.1.2.1.17.7.1.2.2.1.2.1.82.0.0.0.0.10"), Some("9"));
        assert_eq!(value(".1.3.6.1.2.1.17.1.4.1.2.9"), Some("31"));
        assert_eq!(table.keys().filter(|oid| oid.starts_with(&parse_oid("1.3.6.1.2.1.17.4"))).count(), 3);
    }

    #[test]
    fn object_ids_are_read_and_written() {
        assert_eq!(write_oid(&parse_oid(".1.3.6")), ".1.3.6");
    }
}
