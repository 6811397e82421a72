//! `margayd init`: makes a cluster out of nothing.
//!
//! Makes the CA, certificates for the masters and the first admin, their configuration files and the rows
//! that the new cluster begins with. Invariant: nothing that exists is overwritten; a second run with the
//! same arguments changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::Args;
use commands::Interface;
use serde::{Deserialize, Serialize};
use state::RowChange;

use crate::config::{Config, Peer};
use crate::interfaces;
use crate::pki::{Pki, Role};

/// What a new cluster is made from.
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Folder that the members' folders go into
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How many masters (1, 3 or 5)
    #[arg(long, default_value_t = 1)]
    pub masters: usize,
    /// Name of the cluster (default: this machine's short name)
    #[arg(long)]
    pub cluster: Option<String>,
    /// Domain of the nodes; auto: that of this machine
    #[arg(long, default_value = "auto")]
    pub domain: String,
    /// Address and port of each master; port 0 picks a free one now
    #[arg(long, value_delimiter = ',')]
    pub listen: Vec<SocketAddr>,
    /// User of the first certificate (default: your login name)
    #[arg(long)]
    pub admin: Option<String>,
    /// Folder of the first certificate (default: below --dir, else ~/.config/margay)
    #[arg(long)]
    pub admin_dir: Option<PathBuf>,
    /// The hosts file that makehosts writes
    #[arg(long, default_value = "/etc/hosts")]
    pub hosts: PathBuf,
    /// Do not define the networks that this machine is on
    #[arg(long)]
    pub no_networks: bool,
}

/// What a new cluster begins with, beside the default rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// User of the first certificate.
    pub admin: String,
    /// Domain of the nodes.
    pub domain: String,
    /// Address of the first master.
    pub master: String,
    /// Time zone of the nodes; empty is universal time.
    #[serde(default)]
    pub timezone: String,
    /// Rows of `networks`, by column.
    pub networks: Vec<BTreeMap<String, String>>,
}

impl Founding {
    /// Reads the file that [`init`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The rows of the new cluster.
    #[must_use]
    pub fn rows(&self, cluster: &str) -> Vec<RowChange> {
        let founding = state::initial::Founding {
            cluster,
            admin: &self.admin,
            domain: &self.domain,
            timezone: &self.timezone,
            master: &self.master,
        };
        let mut rows = state::initial::rows(&founding);
        // In xCAT this row lets nodes report; here it would let every user boot every node.
        rows.retain(
            |row| !matches!(row, RowChange::Set { table, key, .. } if table == "policy" && key == &["4.9"]),
        );
        rows.extend(self.networks.iter().filter_map(|cells| row_change("networks", cells)));
        rows
    }
}

/// The change that makes a row with these values.
fn row_change(table: &str, cells: &BTreeMap<String, String>) -> Option<RowChange> {
    let def = state::schema().def(state::schema().table(table)?);
    let text = |column: &str| cells.get(column).cloned().unwrap_or_default();
    let key: Vec<String> = def.keys.iter().map(|key| text(def.columns[*key].name)).collect();
    let cells = cells.iter().map(|(column, value)| (column.clone(), value.clone())).collect();
    Some(RowChange::Set { table: table.to_owned(), key, cells })
}

/// Makes the cluster; the answer is what to tell the user.
///
/// # Errors
/// When something is in the way or cannot be written.
pub fn init(arguments: &Init) -> anyhow::Result<String> {
    ensure!(matches!(arguments.masters, 1 | 3 | 5), "--masters must be 1, 3 or 5");
    let plan = Plan::new(arguments)?;
    let first = plan.dir.join("m1/margayd.toml");
    if first.exists() {
        return plan.already_there(&first);
    }
    ensure!(
        !plan.admin_dir.join("client.toml").exists(),
        "{} exists; name another folder with --admin-dir",
        plan.admin_dir.join("client.toml").display()
    );
    plan.make()
}

/// A small file of this machine.
fn read(path: &str) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(64 * 1024).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The domain of a machine by its resolv.conf: the last `domain` or the first name of the last `search`.
fn domain_of(text: &str) -> Option<String> {
    let mut found = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("domain" | "search"), Some(name)) = (words.next(), words.next()) {
            found = Some(name.trim_end_matches('.').to_owned());
        }
    }
    found.filter(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
    })
}

/// The time zone that a link below `zoneinfo` names.
fn timezone_of(link: &str) -> String {
    link.split_once("zoneinfo/").map(|(_, zone)| zone.to_owned()).unwrap_or_default()
}

struct Plan {
    dir: PathBuf,
    admin_dir: PathBuf,
    admin: String,
    cluster: String,
    domain: String,
    hosts: PathBuf,
    listen: Vec<SocketAddr>,
    members: Vec<Peer>,
    networks: Vec<Interface>,
}

impl Plan {
    fn new(arguments: &Init) -> anyhow::Result<Self> {
        let interfaces = interfaces::of_this_machine();
        let cluster = arguments.cluster.clone().unwrap_or_else(short_host_name);
        wire::names::check_name("cluster name", &cluster)?;
        let admin = arguments.admin.clone().unwrap_or_else(login_name);
        wire::names::check_name("user name", &admin)?;
        let dir = arguments.dir.clone().unwrap_or_else(|| "/var/lib/margay".into());
        let dir = std::path::absolute(&dir)?;
        let admin_dir = match (&arguments.admin_dir, &arguments.dir) {
            (Some(folder), _) => folder.clone(),
            (None, Some(_)) => dir.join("admin"),
            (None, None) => home()?.join(".config/margay"),
        };
        let listen = addresses(&arguments.listen, arguments.masters)?;
        let members = listen
            .iter()
            .zip(1u64..)
            .map(|(address, id)| Peer {
                id,
                name: format!("m{id}"),
                address: advertised(*address, &interfaces),
            })
            .collect();
        let networks = if arguments.no_networks { Vec::new() } else { interfaces };
        Ok(Self {
            dir,
            admin_dir: std::path::absolute(admin_dir)?,
            admin,
            cluster,
            domain: match arguments.domain.as_str() {
                "auto" => read("/etc/resolv.conf").and_then(|text| domain_of(&text)).unwrap_or_default(),
                domain => domain.to_owned(),
            },
            hosts: std::path::absolute(&arguments.hosts)?,
            listen,
            members,
            networks,
        })
    }

    fn already_there(&self, first: &Path) -> anyhow::Result<String> {
        let config = Config::read(first)?;
        let same = config.cluster == self.cluster && config.members().len() == self.members.len();
        ensure!(
            same,
            "{} holds the cluster '{}' with {} master(s); it is not overwritten",
            self.dir.display(),
            config.cluster,
            config.members().len()
        );
        Ok(format!(
            "{} holds the cluster '{}' already; nothing was changed.\n",
            self.dir.display(),
            self.cluster
        ))
    }

    fn make(&self) -> anyhow::Result<String> {
        let pki = Pki::create(&self.cluster, service::Clock::Real).context("making the CA")?;
        // Everything is written aside first: a half-made cluster never gets its final name.
        let aside = self.dir.join(".init");
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        folder(&self.dir, 0o755)?;
        folder(&aside, 0o700)?;
        for (member, listen) in self.members.iter().zip(&self.listen) {
            self.write_member(&pki, &aside, member, *listen)?;
        }
        for member in &self.members {
            let target = self.dir.join(&member.name);
            if target.exists() {
                bail!("{} exists but holds no cluster; remove it first", target.display());
            }
        }
        self.write_admin(&pki)?;
        for member in self.members.iter().rev() {
            std::fs::rename(aside.join(&member.name), self.dir.join(&member.name))?;
        }
        std::fs::remove_dir(&aside)?;
        Ok(self.report(&pki))
    }

    fn write_member(&self, pki: &Pki, aside: &Path, member: &Peer, listen: SocketAddr) -> anyhow::Result<()> {
        let own = aside.join(&member.name);
        folder(&own, 0o700)?;
        folder(&own.join("data"), 0o700)?;
        let own_identity = pki.new_identity(Role::Master, &member.name)?;
        write(&own.join("ca.pem"), pki.ca_pem().as_bytes(), 0o644)?;
        write(&own.join("ca.key"), pki.ca_key_pem().as_bytes(), 0o600)?;
        write(&own.join("cert.pem"), own_identity.cert_pem.as_bytes(), 0o644)?;
        write(&own.join("key.pem"), own_identity.key_pem.as_bytes(), 0o600)?;
        let rows = serde_json::to_string_pretty(&self.founding())?;
        write(&own.join("bootstrap.json"), rows.as_bytes(), 0o644)?;
        let config = Config {
            name: member.name.clone(),
            id: member.id,
            cluster: self.cluster.clone(),
            listen,
            advertise: if member.address == listen.to_string() {
                String::new()
            } else {
                member.address.clone()
            },
            hosts: self.hosts.clone(),
            peers: if self.members.len() == 1 { Vec::new() } else { self.members.clone() },
            ..Config::default()
        };
        let text = format!(
            "# Made by 'margayd init'; 'margayd --print-config' explains the keys.\n{}",
            toml::to_string(&config)?
        );
        write(&own.join("margayd.toml"), text.as_bytes(), 0o644)
    }

    fn write_admin(&self, pki: &Pki) -> anyhow::Result<()> {
        let own_identity = pki.new_identity(Role::Admin, &self.admin)?;
        folder(&self.admin_dir, 0o700)?;
        write(&self.admin_dir.join("ca.pem"), pki.ca_pem().as_bytes(), 0o644)?;
        write(&self.admin_dir.join("cert.pem"), own_identity.cert_pem.as_bytes(), 0o644)?;
        write(&self.admin_dir.join("key.pem"), own_identity.key_pem.as_bytes(), 0o600)?;
        let masters: Vec<String> =
            self.members.iter().map(|member| format!("{:?}", member.address)).collect();
        let text = format!(
            "cluster = {:?}\nmasters = [{}]\nca = \"ca.pem\"\ncert = \"cert.pem\"\nkey = \"key.pem\"\n",
            self.cluster,
            masters.join(", ")
        );
        write(&self.admin_dir.join("client.toml"), text.as_bytes(), 0o644)
    }

    fn founding(&self) -> Founding {
        let master = self.members[0].address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
        let networks = self.networks.iter().map(network).collect();
        let zone = std::fs::read_link("/etc/localtime").unwrap_or_default();
        let timezone = timezone_of(&zone.to_string_lossy());
        Founding { admin: self.admin.clone(), domain: self.domain.clone(), master, timezone, networks }
    }

    fn report(&self, pki: &Pki) -> String {
        use std::fmt::Write;
        let mut text = format!("Cluster '{}' is made (CA {}).\n", self.cluster, pki.ca_pin());
        for member in &self.members {
            let config = self.dir.join(&member.name).join("margayd.toml");
            let _ = writeln!(text, "Start master {}: margayd --config {}", member.name, config.display());
        }
        let client = self.admin_dir.join("client.toml");
        let _ = writeln!(
            text,
            "Commands of user {} use {} (MARGAY_CONFIG names it).",
            self.admin,
            client.display()
        );
        text
    }
}

/// The row of `networks` for an interface of this machine.
fn network(interface: &Interface) -> BTreeMap<String, String> {
    let (net, mask) = (interfaces::net(interface).to_string(), interfaces::mask(interface).to_string());
    let name = format!("{}-{}", net.replace('.', "_"), mask.replace('.', "_"));
    let gateway = interface.gateway.map_or("<xcatmaster>".to_owned(), |gateway| gateway.to_string());
    let cells = [
        ("netname", name),
        ("net", net),
        ("mask", mask),
        ("mgtifname", interface.name.clone()),
        ("gateway", gateway),
        ("tftpserver", "<xcatmaster>".to_owned()),
    ];
    cells.into_iter().map(|(column, value)| (column.to_owned(), value)).collect()
}

/// One address per master, with ports chosen where 0 was given.
fn addresses(given: &[SocketAddr], masters: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let given = match given {
        [] if masters == 1 => vec![SocketAddr::from(([0, 0, 0, 0], 3001))],
        [] => bail!("--listen must name an address per master"),
        [one] if masters == 1 || one.port() == 0 => vec![*one; masters],
        several => several.to_vec(),
    };
    ensure!(given.len() == masters, "--listen names {} addresses for {masters} masters", given.len());
    // All sockets stay open until every port is chosen, so that none is chosen twice.
    let mut open = Vec::new();
    let mut chosen = Vec::new();
    for address in given {
        if address.port() == 0 {
            let socket = UdpSocket::bind(address).with_context(|| format!("--listen {address}"))?;
            chosen.push(socket.local_addr()?);
            open.push(socket);
        } else {
            chosen.push(address);
        }
    }
    Ok(chosen)
}

/// How others reach `listen`.
fn advertised(listen: SocketAddr, interfaces: &[Interface]) -> String {
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let own = interfaces
        .iter()
        .find(|interface| interface.gateway.is_some())
        .or_else(|| interfaces.first())
        .map_or(IpAddr::from([127, 0, 0, 1]), |interface| interface.address.into());
    SocketAddr::new(own, listen.port()).to_string()
}

fn folder(path: &Path, mode: u32) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| path.display().to_string())
}

/// Writes a file that must not exist, down to the disk.
fn write(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .with_context(|| path.display().to_string())
}

fn short_host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default().to_owned();
    if wire::names::check_name("cluster name", &name).is_ok() { name } else { "margay".to_owned() }
}

fn login_name() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| wire::names::check_name("user name", name).is_ok())
        .unwrap_or_else(|| "root".to_owned())
}

fn home() -> anyhow::Result<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).context("HOME is not set; name a folder with --admin-dir")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn arguments(dir: &Path, masters: usize) -> Init {
        Init {
            dir: Some(dir.to_owned()),
            masters,
            cluster: Some("test".into()),
            domain: "cluster.test".into(),
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            admin: Some("ann".into()),
            admin_dir: None,
            hosts: dir.join("hosts"),
            no_networks: false,
        }
    }

    #[test]
    fn domain_and_time_zone_are_those_of_the_machine() {
        let domain = |text: &str| domain_of(text);
        assert_eq!(domain("nameserver 10.0.0.1\nsearch a.example b.example\n").as_deref(), Some("a.example"));
        assert_eq!(domain("domain x.example.\n").as_deref(), Some("x.example"));
        assert_eq!(domain("search .\n"), None);
        assert_eq!(domain("# search a\n"), None);
        assert_eq!(timezone_of("/usr/share/zoneinfo/Europe/Berlin"), "Europe/Berlin");
        assert_eq!(timezone_of("../usr/share/zoneinfo/Etc/UTC"), "Etc/UTC");
        assert_eq!(timezone_of(""), "");
    }

    #[test]
    fn three_masters_get_different_ports_and_know_each_other() {
        let dir = tempfile::tempdir().unwrap();
        init(&arguments(dir.path(), 3)).unwrap();
        let configs: Vec<Config> = (1..=3)
            .map(|id| Config::read(&dir.path().join(format!("m{id}/margayd.toml"))).unwrap())
            .collect();
        assert!(configs.iter().all(|config| config.peers == configs[0].peers && config.peers.len() == 3));
        let ports: std::collections::BTreeSet<_> =
            configs.iter().map(|config| config.listen.port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(dir.path().join("admin/client.toml").exists());
        assert!(!dir.path().join(".init").exists());
    }

    #[test]
    fn a_second_run_changes_nothing_and_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        init(&arguments(dir.path(), 1)).unwrap();
        let before = std::fs::read(dir.path().join("m1/ca.key")).unwrap();
        assert!(init(&arguments(dir.path(), 1)).unwrap().contains("nothing was changed"));
        let other = Init { cluster: Some("other".into()), ..arguments(dir.path(), 1) };
        assert!(init(&other).unwrap_err().to_string().contains("not overwritten"));
        assert_eq!(std::fs::read(dir.path().join("m1/ca.key")).unwrap(), before);
    }

    #[test]
    fn the_first_user_is_allowed_by_a_policy_row() {
        let dir = tempfile::tempdir().unwrap();
        init(&arguments(dir.path(), 1)).unwrap();
        let rows = Founding::read(&dir.path().join("m1/bootstrap.json")).unwrap().rows("test");
        assert!(rows.contains(&RowChange::set("policy", &["1"], &[("name", "ann"), ("rule", "allow")])));
    }
}
