//! Our client against our simulator: rules, suites and faults.

use std::time::Duration;

use bmc::{BmcTarget, Bmcs};
use sim::bmc::Faults;
use wire::op::{Beacon, BootDevice, BootTarget, Fault, NodeOp, PowerAction};
use wire::secret::Secret;

use super::{PASSWORD, ask, ask_within, config, lamp, target, text, until};

#[tokio::test]
async fn power_follows_the_rules_of_xcat() {
    use PowerAction::{Boot, Cycle, Off, On, Reset, SoftOff};
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let steps = [
        (NodeOp::PowerStat, "off", 0),
        (NodeOp::Power(Off), "off", 0),
        (NodeOp::Power(Reset), "off", 0),
        (NodeOp::Power(SoftOff), "off", 0),
        (NodeOp::Power(Boot), "on", 1),
        (NodeOp::PowerStat, "on", 1),
        (NodeOp::Power(On), "on", 1),
        (NodeOp::Power(Boot), "reset", 2),
        (NodeOp::Power(Reset), "reset", 3),
        (NodeOp::Power(Cycle), "cycle", 4),
        (NodeOp::Power(SoftOff), "softoff", 4),
        (NodeOp::PowerStat, "off", 4),
        (NodeOp::Power(On), "on", 5),
        (NodeOp::Power(Off), "off", 5),
        (NodeOp::Power(Cycle), "on", 6),
    ];
    for (op, said, boots) in steps {
        assert_eq!(text(&bmcs, &target, op.clone()).await, said, "{op:?}");
        assert_eq!(bmc.boots(), boots, "{op:?}");
    }
}

#[tokio::test]
async fn the_boot_device_counts_for_one_boot_unless_it_is_persistent() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let set = |target, persistent| NodeOp::BootDevice(BootDevice { target, persistent, uefi: false });
    assert_eq!(text(&bmcs, &target, NodeOp::BootDeviceStat).await, "boot override inactive");
    let words = [
        (BootTarget::Net, "Network"),
        (BootTarget::Hd, "Hard Drive"),
        (BootTarget::Cd, "CD/DVD"),
        (BootTarget::Setup, "BIOS Setup"),
        (BootTarget::Floppy, "Floppy"),
        (BootTarget::Default, "boot override inactive"),
        (BootTarget::Net, "Network"),
    ];
    for (device, said) in words {
        assert_eq!(text(&bmcs, &target, set(device, false)).await, said);
    }
    text(&bmcs, &target, NodeOp::Power(PowerAction::Boot)).await;
    assert_eq!(text(&bmcs, &target, NodeOp::BootDeviceStat).await, "boot override inactive");
    text(&bmcs, &target, set(BootTarget::Hd, true)).await;
    text(&bmcs, &target, NodeOp::Power(PowerAction::Boot)).await;
    assert_eq!(text(&bmcs, &target, NodeOp::BootDeviceStat).await, "Hard Drive");
}

#[tokio::test]
async fn the_identify_light_is_switched_and_read() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    for (beacon, said) in [
        (Beacon::Stat, "off"),
        (Beacon::On, "on"),
        (Beacon::Stat, "on"),
        (Beacon::Off, "off"),
        (Beacon::Stat, "off"),
        (Beacon::Blink, "blink"),
        (Beacon::Stat, "blink"),
    ] {
        assert_eq!(text(&bmcs, &target, NodeOp::Beacon(beacon)).await, said);
    }
}

#[tokio::test]
async fn inventory_is_shown_in_the_words_of_xcat() {
    let mut config = config();
    config.serial = "SER4711".into();
    config.mtm = "8335-GTA".into();
    config.uuid = "01234567-89ab-cdef-0123-456789abcdef".into();
    let bmc = lamp(config).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let rinv = async |kind: &str| text(&bmcs, &target, NodeOp::Inventory(vec![kind.to_owned()])).await;
    assert_eq!(
        rinv("model").await,
        "System Description:  Margay Simulated Server\nSystem Model/MTM:    8335-GTA\nChassis Part Number: 8335-GTA"
    );
    assert_eq!(rinv("serial").await, "System Serial Number: SER4711\nChassis Serial Number: SER4711");
    assert_eq!(rinv("asset").await, "System Asset Number: n1");
    assert_eq!(rinv("firm").await, "BMC Firmware:        2.10");
    assert_eq!(rinv("mprom").await, "BMC Firmware:        2.10");
    assert_eq!(rinv("uuid").await, "UUID/GUID:           01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(
        rinv("deviceid").await,
        "Device ID:           32\nManufacturer ID:     12345\nProduct ID:          1"
    );
    assert_eq!(rinv("dimm").await, "");
    assert_eq!(rinv("all").await.lines().count(), 18);
    let before = bmc.received();
    let error = ask(&bmcs, &target, NodeOp::Inventory(vec!["colour".into()])).await.unwrap_err();
    assert_eq!(error.to_string(), "unsupported BMC inv argument colour");
    assert_eq!(bmc.received(), before, "nothing is sent for what cannot be done");
}

#[tokio::test]
async fn each_suite_alone_is_enough() {
    let bmcs = Bmcs::new().unwrap();
    for suites in [vec![3], vec![17]] {
        let mut config = config();
        config.suites = suites;
        let bmc = lamp(config).await;
        for _ in 0..2 {
            assert_eq!(text(&bmcs, &target(bmc.address()), NodeOp::PowerStat).await, "off");
        }
    }
}

#[tokio::test]
async fn a_bmc_with_neither_suite_is_refused_with_the_reason() {
    let mut config = config();
    config.suites = vec![];
    let bmc = lamp(config).await;
    let error = ask(&Bmcs::new().unwrap(), &target(bmc.address()), NodeOp::PowerStat).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "BMC {} refused while opening the session: it takes neither cipher suite 17 nor 3",
            bmc.address()
        )
    );
    assert_eq!(error.fault(), Fault::Refused);
}

#[tokio::test]
async fn sessions_are_closed_behind_each_operation() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    for _ in 0..20 {
        text(&bmcs, &target, NodeOp::PowerStat).await;
    }
    until("all sessions are closed", || bmc.sessions() == 0).await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_apart_at_once() {
    let bmc = lamp(config()).await;
    let bmcs = Bmcs::new().unwrap();
    let wrong = BmcTarget { password: Secret::new("no"), ..target(bmc.address()) };
    let error = ask(&bmcs, &wrong, NodeOp::PowerStat).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Incorrect password provided: BMC {}, user admin", bmc.address()));
    assert_eq!(error.fault(), Fault::Denied);
    let unknown = BmcTarget { user: Secret::new("nobody"), ..target(bmc.address()) };
    let error = ask(&bmcs, &unknown, NodeOp::PowerStat).await.unwrap_err();
    assert!(error.to_string().contains("it does not know the user name (user nobody)"), "{error}");
    assert_eq!(error.fault(), Fault::Denied);
    bmc.set_faults(Faults { wrong_password: true, ..Faults::default() });
    let error = ask(&bmcs, &target(bmc.address()), NodeOp::PowerStat).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Denied);
    assert!(!format!("{error:?}").contains(PASSWORD));
}

#[tokio::test]
async fn impossible_credentials_are_refused_without_a_packet() {
    let bmc = lamp(config()).await;
    let bmcs = Bmcs::new().unwrap();
    let good = target(bmc.address());
    for (bad, reason) in [
        (BmcTarget { user: Secret::new(""), ..good.clone() }, "no user is known"),
        (BmcTarget { user: Secret::new("a".repeat(17)), ..good.clone() }, "longer than 16"),
        (BmcTarget { password: Secret::new("a".repeat(21)), ..good.clone() }, "longer than 20"),
        (BmcTarget { address: String::new(), ..good.clone() }, "no address is known"),
    ] {
        let error = ask(&bmcs, &bad, NodeOp::PowerStat).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.fault(), Fault::Undefined);
    }
    assert_eq!(bmc.received(), 0);
}

#[tokio::test]
async fn a_silent_bmc_is_named_at_its_own_deadline() {
    let bmc = lamp(config()).await;
    bmc.set_faults(Faults { hang: true, ..Faults::default() });
    let began = std::time::Instant::now();
    let limit = Duration::from_millis(1500);
    let error = ask_within(&Bmcs::new().unwrap(), &target(bmc.address()), NodeOp::PowerStat, limit)
        .await
        .unwrap_err();
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    let text = error.to_string();
    let named = format!("timeout: BMC {} did not answer while asking for its capabilities", bmc.address());
    assert!(text.starts_with(&named), "{text}");
    assert_eq!(error.fault(), Fault::Timeout);
}

#[tokio::test]
async fn a_power_change_without_an_answer_is_reported_as_unknown() {
    let bmc = lamp(config()).await;
    let bmcs = Bmcs::new().unwrap();
    let target = target(bmc.address());
    bmc.set_faults(Faults { mute_after: Some((0x00, 0x02)), ..Faults::default() });
    let limit = Duration::from_millis(1500);
    let error = ask_within(&bmcs, &target, NodeOp::Power(PowerAction::On), limit).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Unknown, "{error}");
    assert!(error.to_string().contains("while changing the power"), "{error}");
    assert_eq!((bmc.power(), bmc.boots()), (true, 1), "it was done, and only once");
}

#[tokio::test]
async fn a_bmc_that_falls_silent_in_mid_session_is_reported_with_the_step() {
    let bmc = lamp(config()).await;
    bmc.set_faults(Faults { hang_in_session: true, ..Faults::default() });
    let limit = Duration::from_secs(1);
    let error = ask_within(&Bmcs::new().unwrap(), &target(bmc.address()), NodeOp::PowerStat, limit)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("while setting the privilege"), "{error}");
    assert_eq!(error.fault(), Fault::Timeout);
}

#[tokio::test]
async fn loss_doubles_and_slowness_do_not_change_the_answer() {
    let bmcs = Bmcs::new().unwrap();
    for faults in [
        Faults { drop_every: 5, ..Faults::default() },
        Faults { drop_probability: 0.15, ..Faults::default() },
        Faults { double: true, ..Faults::default() },
        Faults { slow_ms: 150, ..Faults::default() },
    ] {
        let bmc = lamp(config()).await;
        bmc.set_faults(faults.clone());
        let limit = Duration::from_secs(60);
        let reply = ask_within(&bmcs, &target(bmc.address()), NodeOp::PowerStat, limit).await;
        assert!(reply.is_ok(), "{faults:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_does_not_cycle_the_power_twice() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    text(&bmcs, &target, NodeOp::Power(PowerAction::On)).await;
    bmc.set_faults(Faults { drop_probability: 0.2, ..Faults::default() });
    let limit = Duration::from_secs(60);
    ask_within(&bmcs, &target, NodeOp::Power(PowerAction::Cycle), limit).await.unwrap();
    assert_eq!(bmc.boots(), 2);
}

#[tokio::test]
async fn garbage_and_flipped_bits_end_in_an_error_or_an_answer_never_in_a_panic() {
    let bmc = lamp(config()).await;
    let bmcs = Bmcs::new().unwrap();
    bmc.set_faults(Faults { garbage: true, ..Faults::default() });
    let limit = Duration::from_millis(700);
    let error = ask_within(&bmcs, &target(bmc.address()), NodeOp::PowerStat, limit).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Timeout);
    bmc.set_faults(Faults { flip: true, ..Faults::default() });
    for _ in 0..10 {
        let limit = Duration::from_millis(50);
        let _either = ask_within(&bmcs, &target(bmc.address()), NodeOp::PowerStat, limit).await;
    }
    bmc.set_faults(Faults::default());
    assert_eq!(text(&bmcs, &target(bmc.address()), NodeOp::PowerStat).await, "off");
}

#[tokio::test]
async fn answers_that_are_too_short_are_errors_or_less_text() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let device = BootDevice { target: BootTarget::Net, persistent: false, uefi: false };
    for keep in 0..10 {
        bmc.set_faults(Faults { cut_data: Some(keep), ..Faults::default() });
        for op in [
            NodeOp::PowerStat,
            NodeOp::Power(PowerAction::Boot),
            NodeOp::BootDeviceStat,
            NodeOp::BootDevice(device),
            NodeOp::Beacon(Beacon::Stat),
            NodeOp::BootGenesis,
            NodeOp::Inventory(vec![]),
        ] {
            let reply = ask(&bmcs, &target, op.clone()).await;
            if keep == 0 {
                let error = reply.unwrap_err();
                assert!(error.to_string().contains("unreadable answer"), "{op:?}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn operations_on_one_bmc_take_turns() {
    let bmc = lamp(config()).await;
    bmc.set_faults(Faults { slow_ms: 5, ..Faults::default() });
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (bmcs, target) = (bmcs.clone(), target.clone());
        tasks.spawn(async move { text(&bmcs, &target, NodeOp::PowerStat).await });
    }
    while let Some(said) = tasks.join_next().await {
        assert_eq!(said.unwrap(), "off");
        assert!(bmc.sessions() <= 2, "one at work, one being closed");
    }
}

#[tokio::test]
async fn more_than_the_queue_holds_is_refused_at_once() {
    let bmc = lamp(config()).await;
    bmc.set_faults(Faults { hang: true, ..Faults::default() });
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (bmcs, target) = (bmcs.clone(), target.clone());
        let limit = Duration::from_millis(600);
        tasks.spawn(async move { ask_within(&bmcs, &target, NodeOp::PowerStat, limit).await.unwrap_err() });
    }
    let mut refused = 0;
    while let Some(error) = tasks.join_next().await {
        refused += usize::from(error.unwrap().to_string().contains("operations waiting already"));
    }
    assert_eq!(refused, 3);
}

#[tokio::test]
async fn a_dropped_operation_frees_the_bmc() {
    let bmc = lamp(config()).await;
    let (bmcs, target) = (Bmcs::new().unwrap(), target(bmc.address()));
    bmc.set_faults(Faults { hang: true, ..Faults::default() });
    let task = tokio::spawn({
        let (bmcs, target) = (bmcs.clone(), target.clone());
        async move { ask(&bmcs, &target, NodeOp::PowerStat).await }
    });
    until("the first packet arrives", || bmc.received() > 0).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    bmc.set_faults(Faults::default());
    let began = std::time::Instant::now();
    assert_eq!(text(&bmcs, &target, NodeOp::PowerStat).await, "off");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn what_cannot_be_reached_or_found_says_so() {
    let bmcs = Bmcs::new().unwrap();
    let nowhere = target("255.255.255.255:623".parse().unwrap());
    let error = ask(&bmcs, &nowhere, NodeOp::PowerStat).await.unwrap_err();
    assert!(error.to_string().starts_with("no route to BMC 255.255.255.255:623"), "{error}");
    assert_eq!(error.fault(), Fault::Unreachable);
    let unnamed = BmcTarget { address: "no-such-bmc.invalid".into(), ..nowhere };
    let error = ask(&bmcs, &unnamed, NodeOp::PowerStat).await.unwrap_err();
    assert!(error.to_string().contains("'no-such-bmc.invalid'"), "{error}");
    assert_eq!(error.fault(), Fault::Unreachable);
}

#[tokio::test]
async fn a_name_is_resolved_and_genesis_is_booted_over_the_network_once() {
    let bmc = lamp(config()).await;
    let target = BmcTarget { address: "localhost".into(), ..target(bmc.address()) };
    let bmcs = Bmcs::new().unwrap();
    assert_eq!(text(&bmcs, &target, NodeOp::BootGenesis).await, "on");
    assert_eq!(text(&bmcs, &target, NodeOp::BootGenesis).await, "reset");
    assert_eq!(text(&bmcs, &target, NodeOp::BootDeviceStat).await, "boot override inactive");
    assert_eq!(bmc.boots(), 2);
}

#[tokio::test]
async fn all_sessions_taken_is_waited_for_and_not_reported() {
    let bmc = lamp(config()).await;
    let target = target(bmc.address());
    // eight clients that never close their sessions fill the table
    let hogs: Vec<_> = (0..8).map(|_| Bmcs::new().unwrap()).collect();
    bmc.set_faults(Faults { hang_in_session: true, ..Faults::default() });
    let mut tasks = tokio::task::JoinSet::new();
    for hog in hogs {
        let target = target.clone();
        tasks.spawn(async move {
            ask_within(&hog, &target, NodeOp::PowerStat, Duration::from_millis(1500)).await
        });
    }
    until("eight sessions are open", || bmc.sessions() == 8).await;
    let waiting = tokio::spawn({
        let target = target.clone();
        async move { ask(&Bmcs::new().unwrap(), &target, NodeOp::PowerStat).await }
    });
    while tasks.join_next().await.is_some() {}
    bmc.set_faults(Faults::default());
    bmc.close_all_sessions();
    waiting.await.unwrap().unwrap();
}
