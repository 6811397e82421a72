//! Our client against OpenIPMI's `ipmi_sim`, which shares nothing with our code (suite 3 only).

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use bmc::{BmcTarget, Bmcs};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use wire::op::{BootDevice, BootTarget, Fault, NodeOp, PowerAction};
use wire::secret::Secret;

use super::{ask, ask_within, target, text};

/// `ipmi_sim` cuts passwords of its configuration at 16 bytes.
const PASSWORD: &str = "correct-horse-16";

struct Simulator {
    _child: Child,
    _directory: TempDir,
    target: BmcTarget,
}

/// Starts a simulator at an address of the loopback network that is this process's own.
fn start(number: u8) -> Simulator {
    let id = std::process::id();
    let [low, high, ..] = id.to_le_bytes();
    let address: SocketAddr = format!("127.{}.{high}.{low}:9623", 100 + number).parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    let script = format!(
        "#!/bin/sh\n\
         f={0}\n\
         case \"$2 $3\" in\n\
         'get power') echo power:$(cat $f.power 2>/dev/null || echo 0);;\n\
         'get boot') echo boot:$(cat $f.boot 2>/dev/null || echo default);;\n\
         'set power') echo $4 > $f.power;;\n\
         'set boot') echo $4 > $f.boot;;\n\
         'set reset') echo reset >> $f.resets;;\n\
         esac\n",
        at("chassis")
    );
    std::fs::write(at("chassis.sh"), script).unwrap();
    std::process::Command::new("chmod").args(["755", &at("chassis.sh")]).status().unwrap();
    let lan = format!(
        "name \"crosscheck\"\n\
         set_working_mc 0x20\n\
         startlan 1\n\
         addr {} {}\n\
         priv_limit admin\n\
         allowed_auths_admin none md2 md5 straight\n\
         guid a123456789abcdefa123456789abcdef\n\
         endlan\n\
         chassis_control \"{} 0x20\"\n\
         user 2 true \"admin\" \"{}\" admin 10 none md2 md5 straight\n",
        address.ip(),
        address.port(),
        at("chassis.sh"),
        PASSWORD,
    );
    std::fs::write(at("lan.conf"), lan).unwrap();
    let fru = "0x01 0x00 0x00 0x00 0x01 0x00 0x00 0xfe \
               0x01 0x04 0x19 0xc4 0x41 0x63 0x6d 0x65 0xc5 0x52 0x6f 0x63 0x6b 0x79 \
               0xc3 0x4d 0x54 0x31 0xc2 0x76 0x32 0xc4 0x53 0x4e 0x31 0x37 0xc0 0xc0 0xc1 0x00";
    let bytes = fru.split_whitespace().count();
    let emulation = format!(
        "mc_setbmc 0x20\n\
         mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
         sel_enable 0x20 1000 0x0a\n\
         mc_add_fru_data 0x20 0 {bytes} data {fru}\n\
         mc_enable 0x20\n"
    );
    std::fs::write(at("emulation"), emulation).unwrap();
    let child = Command::new("ipmi_sim")
        .args(["-n", "-c", &at("lan.conf"), "-f", &at("emulation"), "-s", &at("state")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("ipmi_sim of package openipmi is installed");
    Simulator {
        _child: child,
        _directory: directory,
        target: BmcTarget { password: Secret::new(PASSWORD), ..target(address) },
    }
}

#[tokio::test]
async fn our_client_works_with_another_implementation() {
    let simulator = start(0);
    let (bmcs, target) = (Bmcs::new().unwrap(), &simulator.target);
    // the first operation also waits for the simulator to be there
    let limit = Duration::from_secs(30);
    ask_within(&bmcs, target, NodeOp::PowerStat, limit).await.unwrap();
    assert_eq!(text(&bmcs, target, NodeOp::PowerStat).await, "off");
    let net = NodeOp::BootDevice(BootDevice { target: BootTarget::Net, persistent: false, uefi: false });
    assert_eq!(text(&bmcs, target, net).await, "Network");
    assert_eq!(text(&bmcs, target, NodeOp::Power(PowerAction::On)).await, "on");
    assert_eq!(text(&bmcs, target, NodeOp::PowerStat).await, "on");
    assert_eq!(text(&bmcs, target, NodeOp::Power(PowerAction::Off)).await, "off");
    assert_eq!(text(&bmcs, target, NodeOp::PowerStat).await, "off");
    let rinv = async |kind: &str| text(&bmcs, target, NodeOp::Inventory(vec![kind.to_owned()])).await;
    assert_eq!(rinv("serial").await, "System Serial Number: SN17");
    assert_eq!(rinv("model").await, "System Description:  Rocky\nSystem Model/MTM:    MT1");
    assert_eq!(rinv("firm").await, "BMC Firmware:        9.08");
    assert_eq!(
        rinv("deviceid").await,
        "Device ID:           0\nManufacturer ID:     4753\nProduct ID:          3842"
    );
}

#[tokio::test]
async fn another_implementation_s_refusal_is_understood() {
    let simulator = start(1);
    let bmcs = Bmcs::new().unwrap();
    let limit = Duration::from_secs(30);
    ask_within(&bmcs, &simulator.target, NodeOp::PowerStat, limit).await.unwrap();
    for (user, password) in [("admin", "wrong"), ("nobody", PASSWORD)] {
        let target = BmcTarget {
            user: Secret::new(user),
            password: Secret::new(password),
            ..simulator.target.clone()
        };
        let error = ask(&bmcs, &target, NodeOp::PowerStat).await.unwrap_err();
        assert_eq!(error.fault(), Fault::Denied, "{user}: {error}");
    }
}
