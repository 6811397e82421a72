//! makehosts: entries of nodes in the hosts file of the master.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::args::{flag, head, value};
use crate::plan::{Change, Ctx, Effect, Need, Output, Plan};
use crate::registry::{Command, Range};

/// The command.
pub(crate) static COMMAND: Command = Command {
    name: "makehosts",
    aliases: &[],
    summary: "Write nodes into the hosts file of the master",
    usage: "Usage: makehosts <noderange> [-d] [-n] [-l] [-a] [-o] [-m]\n       makehosts -h\n       makehosts -v\n",
    writes: true,
    range: Range::After(&["-m"]),
    plan,
};

/// One line of the file.
struct Entry {
    ip: String,
    short: String,
    domain: String,
    aliases: String,
}

fn plan(ctx: &Ctx<'_>) -> Plan {
    make(ctx).unwrap_or_else(|plan| plan)
}

fn make(ctx: &Ctx<'_>) -> Result<Plan, Plan> {
    let given = head(
        ctx,
        COMMAND.usage,
        &[
            flag('n', "new"),
            flag('d', "delete"),
            flag('o', "otherinterfaces"),
            flag('a', "adddisplay"),
            flag('l', "longnamefirst"),
            value('m', "mactohost"),
        ],
    )?;
    let named = given.rest.first();
    let nodes = match named {
        Some(range) => ctx.nodes(range)?,
        None => all_in_order(ctx)?,
    };
    let Some(content) = &ctx.inputs.hosts else { return Err(Plan::Need(Need::Hosts)) };
    let kept = content.lines().filter(|line| !given.has("new") || keeps(line));
    let mut lines = Lines::new(kept.map(str::to_owned));
    let mut output = Output::new();
    let long_first = given.has("longnamefirst")
        || ctx.state.site("FQDNfirst").is_some_and(|v| matches!(v, "1" | "yes" | "y" | "enable"));
    for node in &nodes {
        if given.has("delete") {
            let names: BTreeSet<String> = names_of(ctx, node);
            lines.of(&names).into_iter().for_each(|at| lines.remove(at));
            continue;
        }
        let entries = entries(ctx, node);
        if entries.is_empty() {
            let known = BTreeSet::from([node.clone()]);
            if named.is_some() && lines.of(&known).is_empty() {
                output.warn(ctx, &format!("Ignoring node '{node}', it can not be resolved."));
            }
            continue;
        }
        for entry in entries {
            if entry.domain.is_empty() {
                let text = format!(
                    "No domain can be determined for node '{}'. The domain of the xCAT node must be provided in \
                     an xCAT network definition or the xCAT site definition.\n",
                    entry.short
                );
                output.warn(ctx, &text);
                continue;
            }
            let line = lines.place(&entry, long_first);
            if given.has("adddisplay") {
                output.line(&line);
            }
        }
    }
    let text = lines.text();
    let effects = if text == *content { Vec::new() } else { vec![Effect::WriteHosts(text)] };
    Ok(Plan::Change(Change { effects, output, ..Change::default() }))
}

/// All nodes: in the order of the rows of the table hosts, groups at their place, then those without one.
fn all_in_order(ctx: &Ctx<'_>) -> Result<Vec<String>, Plan> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    if let Some(table) = ctx.state.named("hosts") {
        for (_, row) in table.rows().filter(|(_, row)| table.enabled(row)) {
            let (nodes, _) = ctx.expand(row.text(0))?;
            out.extend(nodes.into_iter().filter(|node| seen.insert(node.clone())));
        }
    }
    let rest = ctx.nodes("/.*")?;
    out.extend(rest.into_iter().filter(|node| !seen.contains(node)));
    Ok(out)
}

/// The lines of the file, found by the host name they belong to.
struct Lines {
    lines: Vec<Option<String>>,
    of: HashMap<String, Vec<usize>>,
}

impl Lines {
    fn new(lines: impl Iterator<Item = String>) -> Lines {
        let mut all = Lines { lines: Vec::new(), of: HashMap::new() };
        lines.for_each(|line| all.push(line));
        all
    }

    fn push(&mut self, line: String) {
        self.index(self.lines.len(), &line);
        self.lines.push(Some(line));
    }

    fn index(&mut self, at: usize, line: &str) {
        for name in owners(line) {
            let places = self.of.entry(name.to_owned()).or_default();
            if !places.contains(&at) {
                places.push(at);
            }
        }
    }

    /// Places of the lines that belong to one of these names, in order.
    fn of(&self, names: &BTreeSet<String>) -> Vec<usize> {
        let places = names.iter().filter_map(|name| self.of.get(name)).flatten().copied();
        // A line that was replaced may belong to other names now.
        let belongs = |at: &usize| {
            let line = self.lines.get(*at).and_then(Option::as_deref);
            line.is_some_and(|line| owners(line).any(|word| names.contains(word)))
        };
        let places: BTreeSet<usize> = places.filter(belongs).collect();
        places.into_iter().collect()
    }

    fn remove(&mut self, at: usize) {
        if let Some(line) = self.lines.get_mut(at) {
            *line = None;
        }
    }

    /// Replaces the first line of the host, or adds one; further lines of it go. The answer is its line.
    fn place(&mut self, entry: &Entry, long_first: bool) -> String {
        let Entry { ip, short, domain, aliases } = entry;
        let full = format!("{short}.{domain}");
        let line = match long_first {
            true => format!("{ip} {full} {short} {aliases}"),
            false => format!("{ip} {short} {full} {aliases}"),
        };
        let places = self.of(&BTreeSet::from([short.clone(), full]));
        let Some((&first, rest)) = places.split_first() else {
            self.push(line.clone());
            return line;
        };
        rest.iter().for_each(|at| self.remove(*at));
        self.index(first, &line);
        if let Some(old) = self.lines.get_mut(first) {
            *old = Some(line.clone());
        }
        line
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines.iter().flatten() {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// The names of a line's host: the first two, aliases aside.
fn owners(line: &str) -> impl Iterator<Item = &str> {
    let mut words = line.split('#').next().unwrap_or("").split_whitespace();
    words.next();
    words.take(2)
}

/// What `-n` leaves in the file: comments and the machine's loopback.
fn keeps(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or("#");
    first.starts_with('#')
        || first.parse::<IpAddr>().is_ok_and(|ip| match ip {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_multicast() || ip.segments()[0] & 0xffc0 == 0xfe80,
        })
}

/// The content of the file without these nodes.
pub(crate) fn without(ctx: &Ctx<'_>, nodes: &[String], content: &str) -> String {
    let names: BTreeSet<String> = nodes.iter().flat_map(|node| names_of(ctx, node)).collect();
    let belongs = |line: &&str| owners(line).any(|word| names.contains(word));
    content.lines().filter(|line| !belongs(line)).map(|line| format!("{line}\n")).collect()
}

/// The names of a node and of its interfaces, short and with the domain.
pub(crate) fn names_of(ctx: &Ctx<'_>, node: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::from([node.to_owned()]);
    for entry in entries(ctx, node) {
        if !entry.domain.is_empty() {
            names.insert(format!("{}.{}", entry.short, entry.domain));
        }
        names.insert(entry.short);
    }
    names
}

/// The main address, the other interfaces and the nics of a node.
fn entries(ctx: &Ctx<'_>, node: &str) -> Vec<Entry> {
    let text = |column: &str| ctx.state.text(node, column);
    let entry = |ip: &str, short: &str, aliases: &str| Entry {
        ip: ip.to_owned(),
        short: short.to_owned(),
        domain: domain(ctx, ip),
        aliases: aliases.to_owned(),
    };
    let mut out = Vec::new();
    let ip = text("hosts.ip");
    if ip.parse::<IpAddr>().is_ok() {
        let aliases = text("hosts.hostnames").replace(',', " ");
        let domain = domain(ctx, &ip);
        // A node may be defined by its full name.
        let short = match node.strip_suffix(&domain).and_then(|n| n.strip_suffix('.')) {
            Some(short) if !domain.is_empty() => short,
            _ => node,
        };
        out.push(entry(&ip, short, &aliases));
    }
    for part in text("hosts.otherinterfaces").split(',') {
        let Some((name, ip)) = part.split_once(['!', ':']) else { continue };
        let name = if name.starts_with('-') { format!("{node}{name}") } else { name.to_owned() };
        if ip.parse::<IpAddr>().is_ok() {
            out.push(entry(ip, &name, ""));
        }
    }
    let of_nic = |list: &str, nic: &str| {
        let part = list.split(',').find_map(|part| part.split_once('!').filter(|(name, _)| *name == nic));
        part.map(|(_, value)| value.to_owned())
    };
    let (suffixes, prefixes, aliases) =
        (text("nics.nichostnamesuffixes"), text("nics.nichostnameprefixes"), text("nics.nicaliases"));
    for part in text("nics.nicips").split(',') {
        let Some((nic, ips)) = part.split_once('!') else { continue };
        let suffix = of_nic(&suffixes, nic).unwrap_or_else(|| format!("-{nic}"));
        let prefix = of_nic(&prefixes, nic).unwrap_or_default();
        let (suffixes, prefixes): (Vec<&str>, Vec<&str>) =
            (suffix.split('|').collect(), prefix.split('|').collect());
        for (index, ip) in ips.split('|').enumerate() {
            if ip.parse::<IpAddr>().is_err() {
                continue;
            }
            let suffix = suffixes.get(index).or(suffixes.first()).unwrap_or(&"");
            let prefix = prefixes.get(index).or(prefixes.first()).unwrap_or(&"");
            let aliases = of_nic(&aliases, nic).unwrap_or_default().replace('|', " ");
            out.push(entry(ip, &format!("{prefix}{node}{suffix}"), &aliases));
        }
    }
    out
}

/// The domain of the network the address is in, else that of the site.
fn domain(ctx: &Ctx<'_>, ip: &str) -> String {
    let own = ctx.state.named("networks").and_then(|table| {
        let def = table.def();
        let (net, mask, domain) = (def.column("net")?, def.column("mask")?, def.column("domain")?);
        let address = u32::from(ip.parse::<std::net::Ipv4Addr>().ok()?);
        table.rows().filter(|(_, row)| table.enabled(row)).find_map(|(_, row)| {
            let net = u32::from(row.text(net).parse::<std::net::Ipv4Addr>().ok()?);
            let mask = u32::from(row.text(mask).parse::<std::net::Ipv4Addr>().ok()?);
            (address & mask == net & mask).then(|| row.get(domain)).flatten().map(str::to_owned)
        })
    });
    own.or_else(|| ctx.state.site("domain").map(str::to_owned)).unwrap_or_default()
}
