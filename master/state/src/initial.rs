//! The rows of a new cluster.

use crate::change::RowChange;

/// What is known when a cluster is made.
#[derive(Debug, Clone, Copy)]
pub struct Founding<'a> {
    /// Name of the cluster, which is also a trusted name in `policy`.
    pub cluster: &'a str,
    /// Name of the first administrator.
    pub admin: &'a str,
    /// DNS domain; may be empty.
    pub domain: &'a str,
    /// Address of the first master; may be empty.
    pub master: &'a str,
    /// Time zone of the nodes; empty is universal time.
    pub timezone: &'a str,
}

/// Default rows of site, policy and postscripts.
pub fn rows(founding: &Founding<'_>) -> Vec<RowChange> {
    let timezone = if founding.timezone.is_empty() { "Universal" } else { founding.timezone };
    let site: [(&str, &str); 16] = [
        ("clustername", founding.cluster),
        ("master", founding.master),
        ("domain", founding.domain),
        ("nameservers", founding.master),
        ("dhcplease", "43200"),
        ("installdir", "/install"),
        ("tftpdir", "/tftpboot"),
        ("ipmimaxp", "64"),
        ("ipmiretries", "3"),
        ("ipmitimeout", "2"),
        ("sshbetweennodes", "ALLGROUPS"),
        ("timezone", timezone),
        ("xcatdport", "3001"),
        ("xcatiport", "3002"),
        ("auditskipcmds", ""),
        ("notifyformat", "value"),
    ];
    let mut rows: Vec<RowChange> = site
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| RowChange::set("site", &[key], &[("value", value)]))
        .collect();
    let open = [
        ("2", "getbmcconfig"),
        ("2.1", "remoteimmsetup"),
        ("2.3", "lsxcatd"),
        ("3", "nextdestiny"),
        ("4", "getdestiny"),
        ("4.4", "getpostscript"),
        ("4.5", "getcredentials"),
        ("4.6", "syncfiles"),
        ("4.7", "litefile"),
        ("4.8", "litetree"),
        ("4.9", "getadapter"),
    ];
    rows.push(RowChange::set("policy", &["1.2"], &[("name", founding.cluster), ("rule", "trusted")]));
    rows.push(RowChange::set("policy", &["1"], &[("name", founding.admin), ("rule", "allow")]));
    for (priority, command) in open {
        rows.push(RowChange::set("policy", &[priority], &[("commands", command), ("rule", "allow")]));
    }
    rows.push(RowChange::set(
        "postscripts",
        &["xcatdefaults"],
        &[("postscripts", "syslog,remoteshell,syncfiles"), ("postbootscripts", "otherpkgs")],
    ));
    rows.push(RowChange::set("postscripts", &["service"], &[("postscripts", "servicenode")]));
    rows
}
