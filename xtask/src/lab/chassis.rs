//! What OpenIPMI's simulator calls when somebody uses a virtual machine's power button or boot choice.

use anyhow::{Context, Result, bail};

use super::place::Place;
use super::plan::Machine;
use super::vm;

/// Answers `get power|boot` and carries `set power|reset|shutdown|boot` out.
pub fn answer(place: &Place, name: &str, words: &[String]) -> Result<()> {
    let plan = place.plan()?;
    let (_, machine) = plan.machine(name)?;
    // The first word is the controller's address.
    let words: Vec<&str> =
        words.iter().skip_while(|word| word.starts_with("0x")).map(String::as_str).collect();
    match words.as_slice() {
        ["get", properties @ ..] => {
            for property in properties {
                match *property {
                    "power" => println!("power:{}", u8::from(vm::on(place, machine))),
                    "boot" => println!("boot:{}", boot(place, machine)),
                    other => bail!("unknown property {other}"),
                }
            }
            Ok(())
        }
        ["check", ..] => Ok(()),
        ["set", "power", "1", ..] => {
            // The choice holds for one boot.
            let device = boot(place, machine);
            choose(place, machine, "none")?;
            vm::power_on(place, machine, &device)
        }
        ["set", "power", "0", ..] => vm::power_off(place, machine),
        ["set", "reset", "1", ..] => {
            let device = boot(place, machine);
            choose(place, machine, "none")?;
            vm::power_off(place, machine)?;
            vm::power_on(place, machine, &device)
        }
        // Without an operating system to ask, a soft shutdown is a hard one.
        ["set", "shutdown", "1", ..] => vm::power_off(place, machine),
        ["set", "boot", device, ..] => choose(place, machine, device),
        ["set", "identify", ..] | ["set", _, "0", ..] => Ok(()),
        other => bail!("unknown request {}", other.join(" ")),
    }
}

fn boot(place: &Place, machine: &Machine) -> String {
    let path = place.path("machines").join(&machine.name).join("boot");
    match std::fs::read_to_string(path) {
        Ok(device) if !device.trim().is_empty() => device.trim().to_owned(),
        _ => "none".to_owned(),
    }
}

fn choose(place: &Place, machine: &Machine, device: &str) -> Result<()> {
    let path = place.path("machines").join(&machine.name).join("boot");
    std::fs::write(&path, device).with_context(|| format!("writing {}", path.display()))
}
