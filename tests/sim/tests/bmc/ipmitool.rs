//! `ipmitool` against our simulated BMCs.

use std::process::{Output, Stdio};
use std::time::Duration;

use sim::bmc::{Bmc, Faults};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{PASSWORD, config, lamp, until};

/// Far above what a loaded machine needs.
const LIMIT: Duration = Duration::from_secs(60);

fn arguments(bmc: &Bmc, suite: u8, password: &str) -> Vec<String> {
    let (host, port) = (bmc.address().ip().to_string(), bmc.address().port().to_string());
    let suite = suite.to_string();
    ["-I", "lanplus", "-C", &suite, "-H", &host, "-p", &port, "-U", "admin", "-P", password]
        .map(str::to_owned)
        .to_vec()
}

async fn run(bmc: &Bmc, suite: u8, password: &str, command: &str) -> Output {
    let output = Command::new("ipmitool")
        .args(arguments(bmc, suite, password))
        .args(command.split(' '))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(LIMIT, output).await.unwrap().expect("ipmitool is installed")
}

/// Output of a command that must succeed.
async fn good(bmc: &Bmc, suite: u8, command: &str) -> String {
    let output = run(bmc, suite, PASSWORD, command).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}{errors}");
    text
}

async fn says(bmc: &Bmc, suite: u8, command: &str, expected: &[&str]) {
    let text = good(bmc, suite, command).await;
    for line in expected {
        assert!(text.contains(line), "suite {suite}, {command}: no '{line}' in\n{text}");
    }
}

/// Everything a lab or an admin asks a BMC, with one suite.
async fn conversation(suite: u8) {
    let mut config = config();
    config.serial = "SER4711".into();
    let bmc = lamp(config).await;
    says(&bmc, suite, "mc info", &["Firmware Revision         : 2.10", "IPMI Version              : 2.0"])
        .await;
    says(&bmc, suite, "mc guid", &["System GUID"]).await;
    says(&bmc, suite, "chassis status", &["System Power         : off"]).await;
    says(&bmc, suite, "chassis bootdev pxe", &["Set Boot Device to pxe"]).await;
    let once = ["Boot parameter data: 8004000000", "Options apply to only next boot", "Force PXE"];
    says(&bmc, suite, "chassis bootparam get 5", &once).await;
    says(&bmc, suite, "chassis power on", &["Up/On"]).await;
    assert!(bmc.power());
    says(&bmc, suite, "chassis bootparam get 5", &["Boot Flag Invalid"]).await;
    says(&bmc, suite, "chassis power cycle", &["Cycle"]).await;
    assert_eq!(bmc.boots(), 2);
    says(&bmc, suite, "chassis power reset", &["Reset"]).await;
    says(&bmc, suite, "chassis identify force", &["Chassis identify"]).await;
    says(&bmc, suite, "sdr list", &["Inlet Temp       | 24 degrees C", "Fan 1            | 5400 RPM"]).await;
    says(&bmc, suite, "sel list", &["Event Logging Disabled", "Log area reset/cleared"]).await;
    good(&bmc, suite, "sel clear").await;
    says(&bmc, suite, "fru print", &["Product Serial        : SER4711", "Chassis Serial        : SER4711"])
        .await;
    says(&bmc, suite, "user list", &["admin            true    true       true       ADMINISTRATOR"]).await;
    says(&bmc, suite, "lan print 1", &["RMCP+ Cipher Suites     : 3,17"]).await;
    says(&bmc, suite, "sol info", &["Enabled                         : true"]).await;
    says(&bmc, suite, "chassis power soft", &["Soft"]).await;
    until("the machine shuts down", || !bmc.power()).await;
    until("all sessions are closed", || bmc.sessions() == 0).await;
}

#[tokio::test]
async fn ipmitool_with_suite_3_finds_everything_in_order() {
    conversation(3).await;
}

#[tokio::test]
async fn ipmitool_with_suite_17_finds_everything_in_order() {
    conversation(17).await;
}

#[tokio::test]
async fn ipmitool_with_a_wrong_password_or_suite_0_is_kept_out() {
    let bmc = lamp(config()).await;
    for (suite, password) in [(3, "wrong"), (17, "wrong"), (0, PASSWORD), (0, "wrong")] {
        let output = run(&bmc, suite, password, "chassis power on").await;
        assert!(!output.status.success(), "suite {suite} with {password}");
    }
    assert!(!bmc.power());
}

#[tokio::test]
async fn a_user_made_by_ipmitool_may_log_in() {
    let bmc = lamp(config()).await;
    for command in [
        "user set name 3 oper",
        "user set password 3 secret3",
        "channel setaccess 1 3 privilege=3",
        "user enable 3",
    ] {
        good(&bmc, 17, command).await;
    }
    let mut target = super::target(bmc.address());
    target.user = wire::secret::Secret::new("oper");
    target.password = wire::secret::Secret::new("secret3");
    let bmcs = bmc::Bmcs::new().unwrap();
    let on = wire::op::NodeOp::Power(wire::op::PowerAction::On);
    assert_eq!(super::text(&bmcs, &target, on).await, "on", "our client falls back to operator privilege");
}

#[tokio::test]
async fn the_serial_console_carries_both_directions_over_a_lossy_line() {
    let bmc = lamp(config()).await;
    let mut typed = bmc.typed();
    bmc.print(b"GRUB loading\r\n");
    bmc.set_faults(Faults { drop_every: 9, ..Faults::default() });
    let command = format!("ipmitool {} sol activate", arguments(&bmc, 17, PASSWORD).join(" "));
    let mut client = Command::new("script")
        .args(["-qfec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script is installed");
    let (mut keyboard, mut screen) = (client.stdin.take().unwrap(), client.stdout.take().unwrap());
    tokio::time::timeout(LIMIT, async {
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        let mut asked = false;
        while !seen.contains("login:") {
            let length = screen.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the console ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            if seen.contains("GRUB loading") && !asked {
                asked = true;
                bmc.print(b"login: ");
            }
        }
        keyboard.write_all(b"root\r").await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"root\r") {
            heard.extend(typed.recv().await.unwrap());
        }
        keyboard.write_all(b"~.").await.unwrap();
        client.wait().await.unwrap();
    })
    .await
    .unwrap();
    until("the session is closed", || bmc.sessions() == 0).await;
}
