//! The product's own daemons in the lab: masters and service nodes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::network::{self, CORE};
use super::place::Place;
use super::plan::{Plan, Rack};
use crate::process;

/// Port of the masters.
const MASTER_PORT: u16 = 3001;
/// How long a daemon may take until it is ready.
const READY: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(50);

/// Makes the cluster and starts its masters.
pub fn start_masters(place: &Place, plan: &Plan) -> Result<String> {
    let numbers = 1..=plan.wish.masters;
    let addresses: Vec<String> =
        numbers.clone().map(|number| format!("{}:{MASTER_PORT}", network::master_address(number))).collect();
    let dir = place.path("cluster").display().to_string();
    let hosts = place.path("hosts").display().to_string();
    let (daemon, masters, listen) =
        (place.program("margayd"), plan.wish.masters.to_string(), addresses.join(","));
    let daemon = daemon.display().to_string();
    place.run_at(
        CORE,
        &[
            &daemon,
            "init",
            "--dir",
            &dir,
            "--masters",
            &masters,
            "--cluster",
            "lab",
            "--domain",
            "lab.margay",
            "--listen",
            &listen,
            "--hosts",
            &hosts,
            "--no-networks",
        ],
    )?;
    for number in numbers.clone() {
        let name = network::master(number);
        let config = place.path("cluster").join(&name).join("margayd.toml").display().to_string();
        place.spawn_at(&name, &name, Path::new(&daemon), &["--config", &config])?;
    }
    for number in numbers {
        wait_for(place, &network::master(number), " ready on ")?;
    }
    Ok(addresses.join(" "))
}

/// Lets each rack's service node join and starts it.
pub fn start_service_nodes(place: &Place, plan: &Plan) -> Result<String> {
    for rack in &plan.racks {
        join(place, rack)?;
    }
    for rack in &plan.racks {
        wait_for(place, &rack.service_node(), " ready on ")?;
    }
    Ok(plan.racks.iter().map(Rack::service_node).collect::<Vec<_>>().join(" "))
}

fn join(place: &Place, rack: &Rack) -> Result<()> {
    let name = rack.service_node();
    let said = place.run_at(CORE, &["margay", "sn", "add", &name])?;
    let word = |what: &str| {
        let mark = format!("{name}: {what} ");
        said.lines()
            .find_map(|line| line.strip_prefix(&mark))
            .map(|rest| rest.trim().to_owned())
            .with_context(|| format!("'margay sn add' printed no {what}:\n{said}"))
    };
    let state = place.path("racks").join(&name);
    std::fs::create_dir_all(&state).with_context(|| format!("making {}", state.display()))?;
    let daemon = place.program("margay-sn").display().to_string();
    let (state, config) = (state.display().to_string(), state.join("margay-sn.toml").display().to_string());
    let text = format!(
        "state_dir = \"{state}\"\ngenesis_dir = \"{}\"\nloader_dir = \"{}\"\n\
         kernel_arguments = \"console=ttyS0,115200 no_timer_check\"\n",
        place.path("genesis").display(),
        place.path("boot").display(),
    );
    std::fs::write(&config, text).with_context(|| format!("writing {config}"))?;
    place.run_at(
        &name,
        &[
            &daemon,
            "join",
            "--name",
            &name,
            "--token",
            &word("token")?,
            "--ca-pin",
            &word("ca")?,
            "--master",
            &word("masters")?,
            "--state",
            &state,
        ],
    )?;
    place.spawn_at(&name, &name, Path::new(&daemon), &["--config", &config])?;
    Ok(())
}

/// Waits until a daemon's log says `mark`.
pub fn wait_for(place: &Place, name: &str, mark: &str) -> Result<()> {
    let log = place.log(name);
    let deadline = Instant::now() + READY;
    while Instant::now() < deadline {
        if std::fs::read_to_string(&log).unwrap_or_default().contains(mark) {
            return Ok(());
        }
        if !alive(place, name) {
            bail!("{name} ended:\n{}", process::tail(&log, 20));
        }
        std::thread::sleep(BEAT);
    }
    bail!("{name} did not become ready:\n{}", process::tail(&log, 20))
}

/// Whether the process of this name runs.
pub fn alive(place: &Place, name: &str) -> bool {
    let pid = std::fs::read_to_string(place.log(&format!("{name}.pid"))).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}
