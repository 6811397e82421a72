//! The names under which the client can be called: one link per command, all to the same binary.
//!
//! The client interprets none of them; the list only says which links an installation makes.

/// Every command name that has a link, in byte order.
pub const LINKS: &[&str] = &[
    "chdef",
    "chtab",
    "ctab",
    "dumpxCATdb",
    "getadapter",
    "getadapters",
    "gettab",
    "lsdef",
    "lsxcatd",
    "makedhcp",
    "makehosts",
    "makeknownhosts",
    "makenetworks",
    "makentp",
    "makesshgkh",
    "mkdef",
    "mknb",
    "monadd",
    "moncfg",
    "mondecfg",
    "monls",
    "monrm",
    "monstart",
    "monstop",
    "nodeadd",
    "nodech",
    "nodediscoverdef",
    "nodediscoverls",
    "nodegrpch",
    "nodels",
    "nodepurge",
    "noderm",
    "nodeset",
    "nodestat",
    "pping",
    "psh",
    "rbeacon",
    "regnotif",
    "restorexCATdb",
    "rinv",
    "rmdef",
    "rpower",
    "rsetboot",
    "rspreset",
    "rsreset",
    "startmon",
    "stopmon",
    "tabch",
    "tabdump",
    "tabedit",
    "tabgrep",
    "tabprune",
    "tabrestore",
    "unregnotif",
    "xcoll",
    "xdsh",
    "xdshbak",
    "xdshcoll",
];

/// The name of the client itself, with verbs as its first argument.
pub const MULTICALL: &str = "margay";

#[cfg(test)]
mod tests {
    use super::LINKS;

    #[test]
    fn the_names_are_in_order_and_unique() {
        assert!(LINKS.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
