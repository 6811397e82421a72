//! Carries out the operations of `wire::op` on a BMC, by xCAT's rules.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tracing::info;
use wire::op::{Beacon, BootDevice, BootTarget, NodeOp, NodeReply, PowerAction};

use crate::inventory;
use crate::ipmi::message::Request;
use crate::ipmi::session::{Login, MAX_PASSWORD, MAX_USER};
use crate::ipmi::socket::{Connection, Hub};
use crate::{BmcError, BmcTarget};

/// Network function of the chassis commands.
const CHASSIS: u8 = 0x00;
/// That of the commands for the BMC itself.
const APPLICATION: u8 = 0x06;
const VALID: u8 = 0x80;
const PERSISTENT: u8 = 0x40;
const UEFI: u8 = 0x20;

/// All BMCs of a service node. Cheap to clone; the socket closes with the last clone.
#[derive(Clone)]
pub struct Bmcs {
    hub: Arc<Hub>,
}

impl Bmcs {
    /// Opens the shared socket. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When no UDP socket can be opened.
    pub fn new() -> io::Result<Self> {
        Ok(Self { hub: Arc::new(Hub::new()?) })
    }

    /// Does `op` at the BMC `target` and gives its answer, or the reason at `deadline`.
    ///
    /// Operations on the same BMC queue behind each other; different BMCs do not touch each other.
    ///
    /// # Errors
    /// [`BmcError`] with the text for the admin and its [`BmcError::fault`].
    ///
    /// # Cancellation
    /// May be dropped anywhere; the session is closed. A power change already sent may happen.
    pub async fn run(
        &self,
        target: &BmcTarget,
        op: &NodeOp,
        deadline: Instant,
    ) -> Result<NodeReply, BmcError> {
        // what is not for a BMC, or not known, is refused before anything is sent
        let deed = Deed::of(op)?;
        let login = login(target)?;
        let address = resolve(target, deadline).await?;
        let mut bmc = Connection::open(&self.hub, address, login, deadline).await?;
        let reply = match deed {
            Deed::PowerStat => NodeReply::Text(word(power(&mut bmc).await?).to_owned()),
            Deed::Power(action) => change_power(&mut bmc, target, action).await?,
            Deed::BootDeviceStat => boot_device(&mut bmc, None).await?,
            Deed::BootDevice(device) => {
                set_boot_device(&mut bmc, device).await?;
                boot_device(&mut bmc, Some(device.target)).await?
            }
            Deed::Beacon(beacon) => light(&mut bmc, beacon).await?,
            Deed::Inventory(kinds) => NodeReply::Texts(inventory::lines(&mut bmc, kinds).await?),
            Deed::Reset => {
                // IPMI 2.0 §20.2
                bmc.ask("resetting the BMC", Request::new(APPLICATION, 0x02, []), true).await?;
                NodeReply::Text("BMC reset".to_owned())
            }
            Deed::BootGenesis => {
                let network = BootDevice { target: BootTarget::Net, persistent: false, uefi: false };
                set_boot_device(&mut bmc, network).await?;
                change_power(&mut bmc, target, PowerAction::Boot).await?
            }
        };
        Ok(reply)
    }
}

/// The operations a BMC can do.
enum Deed {
    PowerStat,
    Power(PowerAction),
    BootDeviceStat,
    BootDevice(BootDevice),
    Beacon(Beacon),
    Inventory(inventory::Kinds),
    BootGenesis,
    Reset,
}

impl Deed {
    fn of(op: &NodeOp) -> Result<Self, BmcError> {
        Ok(match op {
            NodeOp::PowerStat => Self::PowerStat,
            NodeOp::Power(action) => Self::Power(*action),
            NodeOp::BootDeviceStat => Self::BootDeviceStat,
            NodeOp::BootDevice(device) => Self::BootDevice(*device),
            NodeOp::Beacon(beacon) => Self::Beacon(*beacon),
            NodeOp::Inventory(kinds) => Self::Inventory(inventory::Kinds::parse(kinds)?),
            NodeOp::BootGenesis => Self::BootGenesis,
            NodeOp::Exec(_) => return Err(BmcError::NotForBmc("running commands")),
            NodeOp::Adapters => return Err(BmcError::NotForBmc("listing adapters")),
            NodeOp::BmcReset => Self::Reset,
            NodeOp::NodeStat | NodeOp::NodeLife(_) => return Err(BmcError::NotForBmc("the state of a node")),
        })
    }
}

fn login(target: &BmcTarget) -> Result<Login, BmcError> {
    let (user, password) = (target.user.reveal(), target.password.reveal());
    let refuse = |reason| Err(BmcError::Credentials { name: target.address.clone(), reason });
    if target.address.is_empty() {
        return Err(BmcError::Credentials {
            name: format!("of {}", target.node),
            reason: "no address is known; set ipmi.bmc",
        });
    }
    if user.is_empty() {
        return refuse("no user is known; set ipmi.username or the passwd row with key ipmi");
    }
    if user.len() > MAX_USER {
        return refuse("the user name is longer than 16 bytes");
    }
    if password.len() > MAX_PASSWORD {
        return refuse("the password is longer than 20 bytes");
    }
    Ok(Login { user: user.to_owned(), password: password.as_bytes().to_vec() })
}

async fn resolve(target: &BmcTarget, deadline: Instant) -> Result<SocketAddr, BmcError> {
    if let Ok(address) = target.address.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, target.port()));
    }
    let unresolved = |reason: String| BmcError::Unresolved { name: target.address.clone(), reason };
    let looked_up = tokio::net::lookup_host((target.address.as_str(), target.port()));
    let addresses: Vec<SocketAddr> = match timeout_at(deadline, looked_up).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(unresolved("the resolver did not answer in time".to_owned())),
    };
    addresses
        .iter()
        .find(|address| address.is_ipv4())
        .or_else(|| addresses.first())
        .copied()
        .ok_or_else(|| unresolved("it has no address".to_owned()))
}

fn word(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// Get Chassis Status (IPMI 2.0 §28.2).
async fn chassis_status(bmc: &mut Connection<'_>) -> Result<Vec<u8>, BmcError> {
    let step = "reading the power state";
    let status = bmc.ask(step, Request::new(CHASSIS, 0x01, []), false).await?;
    if status.len() < 3 { Err(bmc.unreadable(step, "it is too short")) } else { Ok(status) }
}

async fn power(bmc: &mut Connection<'_>) -> Result<bool, BmcError> {
    Ok(chassis_status(bmc).await?[0] & 1 == 1)
}

/// Chassis Control (IPMI 2.0 §28.3). What the machine already is, is not sent but said.
async fn change_power(
    bmc: &mut Connection<'_>,
    target: &BmcTarget,
    action: PowerAction,
) -> Result<NodeReply, BmcError> {
    let on = power(bmc).await?;
    let (code, said) = match (action, on) {
        (PowerAction::On, true) => (None, "on"),
        (PowerAction::Off | PowerAction::SoftOff | PowerAction::Reset, false) => (None, "off"),
        (PowerAction::On | PowerAction::Boot | PowerAction::Cycle, false) => (Some(1), "on"),
        (PowerAction::Off, true) => (Some(0), "off"),
        (PowerAction::SoftOff, true) => (Some(5), "softoff"),
        (PowerAction::Cycle, true) => (Some(2), "cycle"),
        (PowerAction::Reset | PowerAction::Boot, true) => (Some(3), "reset"),
    };
    if let Some(code) = code {
        bmc.ask("changing the power", Request::new(CHASSIS, 0x02, [code]), true).await?;
        info!(node = target.node, bmc = target.address, action = said, "power");
    }
    Ok(NodeReply::Text(said.to_owned()))
}

/// Boot options parameter 5 (IPMI 2.0 §28.13 and table 28-14). Some BMCs (OpenIPMI's among them) do not
/// give back the "valid" flag: the device just `set` is believed without it.
async fn boot_device(bmc: &mut Connection<'_>, set: Option<BootTarget>) -> Result<NodeReply, BmcError> {
    let step = "reading the boot device";
    let answer = bmc.ask(step, Request::new(CHASSIS, 0x09, [5, 0, 0]), false).await?;
    let (Some(flags), Some(device)) = (answer.get(2), answer.get(3)) else {
        return Err(bmc.unreadable(step, "it is too short"));
    };
    let device = device >> 2 & 0x0f;
    let believed = set.is_some_and(|set| set != BootTarget::Default && code(set) == device);
    if flags & VALID == 0 && !believed {
        return Ok(NodeReply::Text("boot override inactive".to_owned()));
    }
    let text = match device {
        0 => "BIOS default",
        1 => "Network",
        2 => "Hard Drive",
        5 => "CD/DVD",
        6 => "BIOS Setup",
        15 => "Floppy",
        other => return Ok(NodeReply::Text(format!("boot device {other}"))),
    };
    Ok(NodeReply::Text(text.to_owned()))
}

async fn set_boot_device(bmc: &mut Connection<'_>, device: BootDevice) -> Result<(), BmcError> {
    // a request must outlive 60 s until the power changes; BMCs that cannot say so are left alone
    match bmc.ask("keeping the boot device", Request::new(CHASSIS, 0x08, [3, 0x08]), false).await {
        Ok(_) | Err(BmcError::Completion { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut flags = 0;
    if device.target != BootTarget::Default {
        flags |= VALID;
        flags |= if device.persistent { PERSISTENT } else { 0 };
        flags |= if device.uefi { UEFI } else { 0 };
    }
    let request = Request::new(CHASSIS, 0x08, [5, flags, code(device.target) << 2, 0, 0, 0]);
    bmc.ask("setting the boot device", request, false).await?;
    Ok(())
}

/// Boot device selector.
fn code(target: BootTarget) -> u8 {
    match target {
        BootTarget::Default => 0,
        BootTarget::Net => 1,
        BootTarget::Hd => 2,
        BootTarget::Cd => 5,
        BootTarget::Setup => 6,
        BootTarget::Floppy => 15,
    }
}

/// Chassis Identify (IPMI 2.0 §28.5).
async fn light(bmc: &mut Connection<'_>, beacon: Beacon) -> Result<NodeReply, BmcError> {
    let (data, said): (&[u8], _) = match beacon {
        Beacon::On => (&[0, 1], "on"),
        Beacon::Off => (&[0, 0], "off"),
        Beacon::Blink => (&[], "blink"),
        Beacon::Stat => {
            let state = chassis_status(bmc).await?[2];
            let said = match (state & 0x40, state >> 4 & 3) {
                (0, _) => "please specify on or off for ipmi nodes (stat impossible)",
                (_, 0) => "off",
                (_, 1) => "blink",
                _ => "on",
            };
            return Ok(NodeReply::Text(said.to_owned()));
        }
    };
    bmc.ask("switching the identify light", Request::new(CHASSIS, 0x04, data), false).await?;
    Ok(NodeReply::Text(said.to_owned()))
}
