//! The programs behind a simulated BMC really start and stop.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bmc::Bmcs;
use sim::bmc::Running;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use wire::op::{BootDevice, BootTarget, NodeOp, PowerAction};

use super::{config, target, text, until};

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script, "hook"].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_hook_is_called_with_action_node_and_boot_device() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut config = config();
    config.hook = shell(&format!("echo \"$@\" >> {}", log.display()));
    let bmc = Running::start_with_programs(config).await.unwrap();
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let net = NodeOp::BootDevice(BootDevice { target: BootTarget::Net, persistent: false, uefi: false });
    text(&bmcs, &target, net).await;
    for action in [PowerAction::On, PowerAction::Reset, PowerAction::Cycle, PowerAction::Off] {
        text(&bmcs, &target, NodeOp::Power(action)).await;
    }
    // The BMC starts anew, the machine does not notice.
    assert_eq!(text(&bmcs, &target, NodeOp::BmcReset).await, "BMC reset");
    let expected = ["on n1 pxe", "reset n1", "off n1", "on n1", "off n1"];
    until("all hooks have run", || lines(&log).len() >= expected.len()).await;
    assert_eq!(lines(&log), expected);
}

#[tokio::test]
async fn a_process_lives_while_the_power_is_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut config = config();
    config.process =
        shell(&format!("echo $$ $MARGAY_NODE $MARGAY_BOOT >> {}; exec sleep 1000", log.display()));
    let bmc = Running::start_with_programs(config).await.unwrap();
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let alive = |line: &str| Path::new("/proc").join(line.split(' ').next().unwrap()).exists();
    text(&bmcs, &target, NodeOp::BootGenesis).await;
    until("the machine runs", || lines(&log).len() == 1).await;
    let first = lines(&log)[0].clone();
    assert!(first.ends_with(" n1 pxe") && alive(&first), "{first}");
    text(&bmcs, &target, NodeOp::Power(PowerAction::Reset)).await;
    until("it runs again", || lines(&log).len() == 2).await;
    let second = lines(&log)[1].clone();
    assert!(second.ends_with(" n1 none") && !alive(&first), "{second}");
    text(&bmcs, &target, NodeOp::Power(PowerAction::Off)).await;
    until("it is gone", || !alive(&second)).await;
    text(&bmcs, &target, NodeOp::Power(PowerAction::On)).await;
    until("it runs a third time", || lines(&log).len() == 3).await;
    let third = lines(&log)[2].clone();
    drop(bmc);
    until("it stops with its BMC", || !alive(&third)).await;
}

#[tokio::test]
async fn a_process_may_power_itself_off_or_reboot() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut config = config();
    // the first life asks for a reboot, the second powers off
    config.process =
        shell(&format!("echo x >> {0}; [ $(wc -l < {0}) = 1 ] && exit 3; exit 0", log.display()));
    let bmc = Running::start_with_programs(config).await.unwrap();
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    text(&bmcs, &target, NodeOp::Power(PowerAction::On)).await;
    until("both lives are over", || lines(&log).len() == 2 && !bmc.power()).await;
    assert_eq!(bmc.boots(), 2);
    tokio::time::timeout(Duration::from_secs(10), async {
        assert_eq!(text(&bmcs, &target, NodeOp::PowerStat).await, "off");
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_program_serves_what_its_file_names_and_takes_its_machines_along() {
    let directory = tempfile::tempdir().unwrap();
    let (file, log) = (directory.path().join("bmcs"), directory.path().join("log"));
    let line = serde_json::json!({
        "node": "n1",
        "address": "127.0.0.1:0",
        "password": super::PASSWORD,
        "process": shell(&format!("echo $$ >> {}; sleep 1000 & wait", log.display())),
    });
    std::fs::write(&file, format!("{line}\n\n")).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_margay-sim-bmc"))
        .arg(&file)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(program.stdout.take().unwrap()).lines();
    let first = output.next_line().await.unwrap().unwrap();
    let address = first.strip_prefix("n1 ").unwrap().parse().unwrap();
    assert_eq!(output.next_line().await.unwrap().unwrap(), "ready 1");
    let bmcs = Bmcs::new().unwrap();
    text(&bmcs, &target(address), NodeOp::Power(PowerAction::On)).await;
    until("the machine runs", || lines(&log).len() == 1).await;
    let machine = Path::new("/proc").join(&lines(&log)[0]);
    assert!(machine.exists());
    let id = program.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    assert!(program.wait().await.unwrap().success());
    assert!(!machine.exists());
}

#[tokio::test]
async fn the_program_names_the_line_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bmcs");
    std::fs::write(&file, "\n{\"node\": \"n1\", \"colour\": 1}\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_margay-sim-bmc")).arg(&file).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("line 2 is not a BMC"), "{said}");
}
