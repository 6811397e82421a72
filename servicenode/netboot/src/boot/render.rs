//! The boot text for one machine, from templates that are plain data.

use std::net::Ipv4Addr;

use wire::names::{Mac, check_name};

use super::{Argument, Choice, base_url};

/// Language of the loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// iPXE script.
    Ipxe,
    /// pxelinux.cfg.
    Pxelinux,
    /// grub.cfg.
    Grub,
}

/// What the service node knows about itself and about the machine. Typed values only.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Own address as the machine sees it.
    pub server: Ipv4Addr,
    /// Port of the HTTP service.
    pub http_port: u16,
    /// Port of the agents' QUIC service.
    pub agent_port: u16,
    /// SHA-256 of the CA certificate (DER).
    pub ca: [u8; 32],
    /// The machine's boot adapter.
    pub mac: Mac,
    /// Arguments that every kernel of this service node gets.
    pub arguments: &'a [Argument],
}

const GENESIS_IPXE: &str = include_str!("templates/genesis.ipxe");
const DISK_IPXE: &str = include_str!("templates/disk.ipxe");
const GENESIS_PXELINUX: &str = include_str!("templates/genesis.pxelinux");
const DISK_PXELINUX: &str = include_str!("templates/disk.pxelinux");
const GENESIS_GRUB: &str = include_str!("templates/genesis.grub");
const DISK_GRUB: &str = include_str!("templates/disk.grub");

/// The text.
pub fn render(choice: &Choice<'_>, format: Format, place: &Place<'_>) -> String {
    let template = match (choice, format) {
        (Choice::Genesis { .. }, Format::Ipxe) => GENESIS_IPXE,
        (Choice::Genesis { .. }, Format::Pxelinux) => GENESIS_PXELINUX,
        (Choice::Genesis { .. }, Format::Grub) => GENESIS_GRUB,
        (Choice::LocalDisk { .. }, Format::Ipxe) => DISK_IPXE,
        (Choice::LocalDisk { .. }, Format::Pxelinux) => DISK_PXELINUX,
        (Choice::LocalDisk { .. }, Format::Grub) => DISK_GRUB,
    };
    let title = match choice {
        Choice::Genesis { node: Some(node) } | Choice::LocalDisk { node } => {
            check_name("node name", &node.name).unwrap_or("node")
        }
        Choice::Genesis { node: None } => "unknown-machine",
    };
    fill(template, &|name| match name {
        "state" => Some(choice.state().to_owned()),
        "title" => Some(title.to_owned()),
        "base" => Some(base_url(place.server, place.http_port)),
        "server" if place.http_port == 80 => Some(place.server.to_string()),
        "server" => Some(format!("{}:{}", place.server, place.http_port)),
        "mac" => Some(place.mac.to_string()),
        "arguments" => Some(command_line(choice, place)),
        _ => None,
    })
}

/// `margay.sn=... margay.ca=... BOOTIF=01-...`, consoles, then the service node's and the node's own words.
fn command_line(choice: &Choice<'_>, place: &Place<'_>) -> String {
    let ca: String = place.ca.iter().map(|b| format!("{b:02x}")).collect();
    let mut line = format!(
        "margay.sn={}:{} margay.ca={ca} BOOTIF=01-{} console=tty0 console=ttyS0,115200",
        place.server,
        place.agent_port,
        place.mac.hyphened()
    );
    let own = match choice {
        Choice::Genesis { node: Some(node) } => super::arguments(&node.kernel_arguments).0,
        _ => Vec::new(),
    };
    for argument in place.arguments.iter().chain(&own) {
        line.push(' ');
        line.push_str(&argument.to_string());
    }
    line
}

fn fill(template: &str, value: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len() + 512);
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = behind.split_once("}}") else {
            rest = behind;
            break;
        };
        out.push_str(&value(name).unwrap_or_default());
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::select;
    use super::*;
    use wire::view::NodeView;

    fn place() -> Place<'static> {
        Place {
            server: Ipv4Addr::new(10, 0, 0, 1),
            http_port: 80,
            agent_port: 3002,
            ca: [0xab; 32],
            mac: Mac([0x52, 0x54, 0, 1, 2, 3]),
            arguments: &[],
        }
    }

    fn node(destiny: &str, arguments: &str) -> NodeView {
        NodeView {
            name: "n1".into(),
            destiny: destiny.into(),
            kernel_arguments: arguments.into(),
            ..NodeView::default()
        }
    }

    #[test]
    fn every_template_is_filled_wholly() {
        for text in [GENESIS_IPXE, DISK_IPXE, GENESIS_PXELINUX, DISK_PXELINUX, GENESIS_GRUB, DISK_GRUB] {
            let known = ["state", "title", "base", "server", "mac", "arguments"];
            for part in text.split("{{").skip(1) {
                assert!(known.contains(&part.split_once("}}").unwrap().0), "{part}");
            }
        }
    }

    #[test]
    fn unknown_machine_gets_kernel_overlay_and_initrd_from_here() {
        let text = render(&select(None, false), Format::Ipxe, &place());
        assert!(text.starts_with("#!ipxe\n# discover\n"), "{text}");
        assert!(text.contains(
            "http://10.0.0.1/genesis/vmlinuz initrd=overlay initrd=initrd margay.sn=10.0.0.1:3002"
        ));
        assert!(text.contains(&format!(
            "margay.ca={} BOOTIF=01-52-54-00-01-02-03 console=tty0 console=ttyS0,115200",
            "ab".repeat(32)
        )));
        assert!(text.contains("http://10.0.0.1/boot/overlay?mac=52:54:00:01:02:03"));
        assert!(text.contains("http://10.0.0.1/genesis/initrd"));
    }

    #[test]
    fn other_ports_stand_in_every_address() {
        let place = Place { http_port: 8080, ..place() };
        for format in [Format::Ipxe, Format::Pxelinux, Format::Grub] {
            let text = render(&select(None, false), format, &place);
            assert!(text.matches("10.0.0.1:8080").count() >= 3, "{text}");
        }
    }

    #[test]
    fn local_disk_loads_no_kernel() {
        let n = node("boot", "");
        for (format, word) in
            [(Format::Ipxe, "sanboot"), (Format::Pxelinux, "LOCALBOOT"), (Format::Grub, "exit")]
        {
            let text = render(&select(Some(&n), false), format, &place());
            assert!(text.contains(word) && !text.contains("vmlinuz"), "{text}");
        }
    }

    #[test]
    fn rows_of_a_table_cannot_write_script_lines() {
        let n = NodeView {
            name: "n1\nchain http://evil".into(),
            ..node("shell\nchain http://evil", "quiet ${evil} x||y\nchain http://evil/;z")
        };
        for format in [Format::Ipxe, Format::Pxelinux, Format::Grub] {
            let text = render(&select(Some(&n), false), format, &place());
            assert!(text.contains(" quiet"), "{text}");
            assert!(!text.contains("${evil}") && !text.contains("x||y"), "{text}");
            assert!(!text.lines().any(|l| l.trim_start().starts_with("chain http://evil")), "{text}");
        }
    }

    #[test]
    fn arguments_of_service_node_and_node_follow_ours() {
        let extra = [Argument::new("no_timer_check").unwrap()];
        let n = node("shell", "debug");
        let text = render(&select(Some(&n), false), Format::Ipxe, &Place { arguments: &extra, ..place() });
        assert!(text.contains("console=ttyS0,115200 no_timer_check debug"), "{text}");
    }
}
