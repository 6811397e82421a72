//! Bad input at the front door: named, refused, and nothing changed.

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, CORE};
use super::{Check, daily};

/// In any order.
pub const CHECKS: &[Check] = &[
    daily("unknown nodes, groups, tables, columns, commands and options are named", unknown),
    daily("a malformed noderange shows the position", malformed_range),
    daily("a file with a wrong header changes nothing", wrong_header),
    daily("a denial names the policy rule", denial),
    daily("a certificate of another cluster is refused", foreign_certificate),
    daily("a join token is good once", token_twice),
    daily("a wrong BMC password is said in the node's own line", wrong_password),
    daily("an absent BMC has its own line and delays nobody", absent_bmc),
];

fn unknown(bench: &Bench<'_>) -> Result<()> {
    for (words, text) in [
        (&["nodels", "nosuch"][..], "nosuch"),
        (&["nodels", "nosuchgroup%all"], "nosuchgroup"),
        (&["nodels", "machines", "nosuch.column"], "nosuch"),
        (&["nodels", "machines", "mac.nosuch"], "nosuch"),
        (&["tabdump", "nosuch"], "nosuch"),
        (&["chtab", "node=r1n01", "nosuch.mac=1"], "nosuch"),
        (&["chtab", "node=r1n01", "mac.nosuch=1"], "nosuch"),
        (&["nodech", "r1n01", "mac.nosuch=1"], "nosuch"),
        (&["lsdef", "-t", "nosuch"], "nosuch"),
        (&["margay", "nosuch"], "nosuch"),
        (&["rpower", "machines", "--nosuch", "stat"], "nosuch"),
        (&["nodels", "--nosuch"], "Usage"),
        (&["rpower", "machines", "nosuch"], "nosuch"),
        (&["rpower", "nosuch", "stat"], "nosuch"),
        (&["nodeset", "machines", "nosuch"], "nosuch"),
        (&["margay", "action", "show", "987654"], "987654"),
    ] {
        let said = bench.say(words)?;
        let good = said.status != 0 && said.all().contains(text);
        said.expect(good, &format!("'{}' is not refused with its name", words.join(" ")))?;
    }
    Ok(())
}

fn malformed_range(bench: &Bench<'_>) -> Result<()> {
    let said = bench.say(&["margay", "noderange", "r1n01,(r1n02"])?;
    let good = said.status == 1 && said.all().chars().any(|letter| letter.is_ascii_digit() || letter == '^');
    said.expect(good, "no position")
}

fn wrong_header(bench: &Bench<'_>) -> Result<()> {
    let before = bench.ok(&["tabdump", "networks"])?;
    let path = bench.lab.path("networks.csv").display().to_string();
    let file = std::path::Path::new(&path);
    std::fs::write(file, "#netname,nosuch,mask\n\"x\",\"10.9.0.0\",\"255.255.0.0\",,\n").context("a file")?;
    let said = bench.say(&["tabrestore", &path])?;
    said.expect(said.status == 1 && said.all().contains("nosuch"), "the column is not named")?;
    ensure!(bench.ok(&["tabdump", "networks"])? == before, "the table changed");
    Ok(())
}

fn denial(bench: &Bench<'_>) -> Result<()> {
    bench.ok(&["chtab", "priority=0.5", "policy.commands=rbeacon", "policy.rule=deny"])?;
    let said = bench.say(&["rbeacon", "r1n01", "on"]);
    bench.ok(&["chtab", "-d", "priority=0.5", "policy"])?;
    let said = said?;
    let good = said.status == 1 && said.err.contains("Permission denied") && said.err.contains("rule 0.5");
    said.expect(good, "the rule is not named")?;
    let audit = bench.ok(&["tabdump", "auditlog"])?;
    ensure!(audit.contains("rbeacon"), "the denial is not in the audit log");
    bench.ok(&["rbeacon", "r1n01", "off"]).map(drop)
}

fn foreign_certificate(bench: &Bench<'_>) -> Result<()> {
    let dir = bench.lab.path("foreign");
    let text = dir.display().to_string();
    let daemon = bench.lab.program("margayd");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).context("clearing the other cluster")?;
    }
    bench.lab.run(
        CORE,
        &[
            &daemon,
            "init",
            "--dir",
            &text,
            "--cluster",
            "other",
            "--listen",
            "127.0.0.1:3999",
            "--no-networks",
            "--hosts",
            &format!("{text}/hosts"),
        ],
    )?;
    // Its user, but our masters: with the foreign CA our master is not believed, with ours its user is not.
    let ours = bench.lab.path("cluster/admin");
    let config = std::fs::read_to_string(ours.join("client.toml")).context("our client's settings")?;
    let address = "10.0.0.11:3001";
    ensure!(config.contains(address), "{config}");
    for ca in [dir.join("admin/ca.pem"), ours.join("ca.pem")] {
        let path = dir.join("mixed.toml");
        let text = format!(
            "cluster = \"lab\"\nmasters = [\"{address}\"]\nca = \"{}\"\ncert = \"{2}/admin/cert.pem\"\n\
             key = \"{2}/admin/key.pem\"\npatience = {1}\n",
            ca.display(),
            2,
            dir.display()
        );
        std::fs::write(&path, text).context("settings of the other user")?;
        let setting = format!("MARGAY_CONFIG={}", path.display());
        let said = bench.say(&["env", &setting, "nodeadd", "intruder", "groups=all"])?;
        said.expect(said.status == 1, "a foreign certificate was taken")?;
    }
    let nodes = bench.ok(&["nodels"])?;
    ensure!(!nodes.contains("intruder"), "the intruder made a node");
    Ok(())
}

fn token_twice(bench: &Bench<'_>) -> Result<()> {
    let said = bench.ok(&["margay", "sn", "add", "r9sn"])?;
    let word = |what: &str| {
        let mark = format!("r9sn: {what} ");
        said.lines().find_map(|line| line.strip_prefix(&mark)).map(|rest| rest.trim().to_owned())
    };
    let (token, ca, masters) = (word("token"), word("ca"), word("masters"));
    let (Some(token), Some(ca), Some(masters)) = (token, ca, masters) else {
        anyhow::bail!("'margay sn add' printed:\n{said}");
    };
    let daemon = bench.lab.program("margay-sn");
    let join = |token: &str, folder: &str| {
        let state = bench.lab.path(folder).display().to_string();
        bench.say(&[
            &daemon, "join", "--name", "r9sn", "--token", token, "--ca-pin", &ca, "--master", &masters,
            "--state", &state,
        ])
    };
    let wrong = join(&"0".repeat(token.len()), "racks/wrong")?;
    wrong.expect(wrong.status != 0, "a wrong token was taken")?;
    let first = join(&token, "racks/first")?;
    first.expect(first.status == 0, "the token was not taken")?;
    let second = join(&token, "racks/second")?;
    second.expect(second.status != 0, "the token was taken twice")?;
    let audit = bench.ok(&["tabdump", "auditlog"])?;
    ensure!(audit.contains("r9sn"), "the refusal is not in the audit log");
    bench.ok(&["margay", "sn", "remove", "r9sn"]).map(drop)
}

fn wrong_password(bench: &Bench<'_>) -> Result<()> {
    let machine = bench.lab.place_of("r1n03")?;
    bench.ok(&["chdef", "r1n03", "bmcpassword=nonsense"])?;
    let said = bench.say(&["rpower", "machines", "stat"]);
    bench.ok(&["chdef", "r1n03", &format!("bmcpassword={}", machine.password)])?;
    let said = said?;
    let line = said.err.lines().find(|line| line.starts_with("r1n03: ")).unwrap_or_default();
    let good = line.contains("assword") && line.contains(&machine.bmc);
    said.expect(good && said.status == 1 && said.err.lines().count() == 1, "no own line with the reason")?;
    said.expect(said.out.lines().all(|line| line.ends_with(": on")), "the others did not answer")?;
    ensure!(bench.ok(&["rpower", "r1n03", "stat"])? == "r1n03: on\n", "the right password is not taken");
    Ok(())
}

fn absent_bmc(bench: &Bench<'_>) -> Result<()> {
    let machine = bench.lab.place_of("r1n03")?;
    bench.ok(&["chdef", "r1n03", "bmc=10.101.9.9"])?;
    let others = bench.column("machines", "nodelist.node")?.len() - 1;
    let result = (|| {
        let command = bench.begin(&["rpower", "machines", "stat"])?;
        super::bench::until("the others", 3, || {
            Ok((command.so_far().out.lines().count() == others).then_some(()))
        })?;
        command.wait(std::time::Duration::from_secs(60))
    })();
    // The group's row gives the address again.
    bench.ok(&["chdef", "r1n03", &format!("bmc={}", machine.bmc)])?;
    let said = result?;
    let line = said.err.lines().find(|line| line.starts_with("r1n03: ")).unwrap_or_default();
    said.expect(line.contains("10.101.9.9") && said.status == 1, "no own line with the address")
}
