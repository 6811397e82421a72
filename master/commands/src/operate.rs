//! The commands that operate machines and the cluster itself: their list, and what they share.

use crate::args::{Given, Opt, head, word};
use crate::plan::{Ctx, Plan};
use crate::registry::{Command, Range};
use crate::{action, hardware, nodeset, pping, remote, sn};

/// All of them.
pub static COMMANDS: &[&Command] = &[
    &action::ACTION,
    &crate::audit::AUDIT,
    &crate::getadapter::GETADAPTER,
    &crate::nodediscover::DEF,
    &crate::nodediscover::LS,
    &crate::digest::COMMAND,
    &crate::complete::COMMAND,
    &crate::dump::DUMP,
    &crate::dump::RESTORE,
    &crate::compact::COMMAND,
    &crate::export::EXPORT,
    &crate::export::IMPORT,
    &crate::help::HELP,
    &crate::help::MAN,
    &crate::log::BLAME,
    &crate::log::DIFF,
    &crate::log::LOG,
    &crate::undo::COMMAND,
    &crate::watch::COMMAND,
    &hardware::RBEACON,
    &hardware::RINV,
    &hardware::RPOWER,
    &hardware::RSETBOOT,
    &hardware::RSPRESET,
    &nodeset::NODESET,
    &hardware::NODESTAT,
    &MKNB,
    &crate::policy::POLICY,
    &crate::monitor::ADD,
    &crate::monitor::CFG,
    &crate::monitor::DECFG,
    &crate::monitor::LS,
    &crate::monitor::RM,
    &crate::monitor::START,
    &crate::monitor::STOP,
    &pping::COMMAND,
    &remote::PSH,
    &sn::SN,
    &sn::STATUS,
    &remote::XDSH,
];

/// mknb: builds the discovery image.
pub static MKNB: Command = Command {
    name: "mknb",
    aliases: &[],
    summary: "Build the discovery image that unknown machines boot",
    usage: "Usage: mknb <arch>\n       mknb [-h|--help|-v|--version]\n",
    writes: true,
    range: Range::None,
    plan: mknb,
};

fn mknb(ctx: &Ctx<'_>) -> Plan {
    let given = match read(ctx, MKNB.usage, &[]) {
        Ok(given) => given,
        Err(plan) => return plan,
    };
    match given.rest.as_slice() {
        [arch] if arch == "x86_64" => Plan::Helper(crate::plan::Helper::Genesis(arch.clone())),
        [arch] => Plan::error(
            ctx,
            &format!("Unable to find directory for architecture {arch}; only x86_64 is supported"),
        ),
        _ => Plan::usage(MKNB.usage, 1),
    }
}

/// Reads options with those that every command of this family has; `Err` is the plan to answer with.
///
/// # Errors
/// Help, the version, or what is wrong with the options.
pub(crate) fn read(ctx: &Ctx<'_>, usage: &str, own: &[Opt]) -> Result<Given, Plan> {
    head(ctx, usage, &[own, &[word("nodeps")]].concat())
}
