//! The boot services alone, from the command line, to be measured beside other servers:
//! `boot_services INTERFACE NET/MASK POOL FOLDER [RESERVATIONS]`, for example
//! `boot_services eth1 10.78.0.0/255.255.0.0 10.78.1.1-10.78.127.250 /srv/boot`.
//! FOLDER holds `genesis/`, `loader/` and the state; RESERVATIONS has lines `MAC ADDRESS NAME`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use service::{Clock, Drain, Health};
use servicenode::boots::Boots;
use servicenode::bootstate::{BootConfig, BootState};
use servicenode::dhcp_sock;
use servicenode::http::{Http, Limits};
use servicenode::mirror::Mirror;
use servicenode::tftp_sock::{Loaders, Tftp, everywhere};
use servicenode::tokens::Tokens;
use wire::view::{NetworkView, NodeMac, NodeView, SiteView, ViewUpdate};

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [interface, network, pool, folder, rest @ ..] = words.as_slice() else {
        anyhow::bail!("INTERFACE NET/MASK POOL FOLDER [RESERVATIONS]");
    };
    let (net, mask) = network.split_once('/').context("NET/MASK")?;
    let site = SiteView {
        dhcp_interfaces: vec![interface.clone()],
        networks: vec![NetworkView {
            name: "bench".into(),
            net: net.into(),
            mask: mask.into(),
            gateway: "<xcatmaster>".into(),
            dynamic_range: pool.clone(),
            ..NetworkView::default()
        }],
        ..SiteView::default()
    };
    let mut nodes = Vec::new();
    if let Some(file) = rest.first() {
        for line in std::fs::read_to_string(file)?.lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().map(str::to_owned).with_context(|| format!("line {line}"));
            let (mac, ip, name) = (next()?, next()?, next()?);
            let macs = vec![NodeMac { mac, ..NodeMac::default() }];
            nodes.push(NodeView { name, ip, macs, ..NodeView::default() });
        }
    }
    let folder = PathBuf::from(folder);
    let mirror = Mirror::new();
    mirror.apply(ViewUpdate { full: true, site: Some(site), nodes, ..ViewUpdate::default() })?;
    let config = BootConfig {
        state_dir: Some(folder.clone()),
        genesis_dir: folder.join("genesis"),
        ca_pem: std::fs::read(folder.join("ca.pem")).unwrap_or_default(),
        ca_sha256: [0; 32],
        http_port: 80,
        agent_port: 3002,
        kernel_arguments: netboot::boot::arguments(&std::env::var("KERNEL_ARGUMENTS").unwrap_or_default()).0,
    };
    let health = Health::new();
    let state =
        BootState::open(config, mirror, Boots::new(), Tokens::in_memory(), Clock::Real, health.clone())?;
    let drain = Drain::new();
    drain.stop_on_signals()?;
    let loaders = Loaders::read(&folder.join("loader"))?;
    let tftp = Tftp::bind(everywhere(69), state.clone(), loaders.clone()).await?;
    let everyone = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80));
    // Many clients share one address when they are measured.
    let limits = Limits { per_source: 4096, ..Limits::default() };
    let http = Http::bind(everyone, state.clone(), loaders, limits).await?;
    drain.spawn("tftp", tftp.serve(drain.clone()));
    drain.spawn("http", http.serve(drain.clone()));
    drain.spawn("leases", state.clone().keep_leases(drain.clone()));
    drain.spawn("dhcp", dhcp_sock::serve(state, 67, drain.clone()));
    drain.stopping().await;
    drain.finish(std::time::Duration::from_secs(2)).await;
    for (name, value) in health.all() {
        println!("{name} {value}");
    }
    println!("resident {}", Health::resident().unwrap_or(0));
    Ok(())
}
