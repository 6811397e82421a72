//! A node's adapters as text: the column `nics.nicsadapter` and the lines of `getadapter`.

use wire::hardware::{Adapter, LinkState, MAX_ADAPTERS, MAX_REPORT};

/// Longest value of one attribute that is kept.
const MAX_VALUE: usize = 512;

/// Why a report of adapters is not taken; none when it is.
#[must_use]
pub fn fault(adapters: &[Adapter]) -> Option<String> {
    if adapters.is_empty() {
        return Some("the report holds no adapter".to_owned());
    }
    if adapters.len() > MAX_ADAPTERS {
        return Some(format!("{} adapters reported, the limit is {MAX_ADAPTERS}", adapters.len()));
    }
    let size: usize = adapters.iter().map(size).sum();
    (size > MAX_REPORT).then(|| format!("a report of {size} bytes, the limit is {MAX_REPORT}"))
}

fn size(adapter: &Adapter) -> usize {
    let texts = [&adapter.name, &adapter.mac, &adapter.pci, &adapter.vendor, &adapter.model, &adapter.driver];
    texts.iter().map(|text| text.len()).sum::<usize>()
        + adapter.candidate_names.iter().chain(&adapter.addresses).map(String::len).sum::<usize>()
}

/// The value for `nics.nicsadapter`; none when no adapter has a name.
#[must_use]
pub fn column_value(adapters: &[Adapter]) -> Option<String> {
    let entries: Vec<String> = adapters
        .iter()
        .filter_map(|adapter| {
            let name = clean(&adapter.name);
            if name.is_empty() {
                return None;
            }
            let attributes = [
                ("mac", clean(&adapter.mac)),
                ("linkstate", link(adapter.link).to_owned()),
                ("pci", clean(&adapter.pci)),
                ("candidatename", candidates(adapter)),
            ];
            let parts: Vec<String> = attributes
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            Some(format!("{name}!{}", parts.join(" ")))
        })
        .collect();
    (!entries.is_empty()).then(|| entries.join(","))
}

/// The output lines of fresh adapters, `n1:[0]->eno1!mac=...|pci=...`.
#[must_use]
pub fn lines(node: &str, adapters: &[Adapter]) -> Vec<String> {
    adapters
        .iter()
        .enumerate()
        .map(|(position, adapter)| {
            let attributes = [
                ("mac", clean(&adapter.mac)),
                ("pci", clean(&adapter.pci)),
                ("candidatename", candidates(adapter)),
                ("vendor", words(&adapter.vendor)),
                ("model", words(&adapter.model)),
                ("linkstate", link(adapter.link).to_owned()),
            ];
            line(node, position, &clean(&adapter.name), &attributes)
        })
        .collect()
}

/// The output lines of adapters as `nics.nicsadapter` holds them, its attributes in any order.
#[must_use]
pub fn stored_lines(node: &str, value: &str) -> Vec<String> {
    value
        .split(',')
        .filter(|entry| !entry.trim().is_empty())
        .enumerate()
        .map(|(position, entry)| {
            let (name, attributes) = entry.trim().split_once('!').unwrap_or((entry.trim(), ""));
            let value = |key: &str| {
                let found = attributes.split_whitespace().filter_map(|part| part.split_once('='));
                found
                    .filter(|(name, _)| *name == key)
                    .map(|(_, value)| value.to_owned())
                    .next()
                    .unwrap_or_default()
            };
            let attributes =
                ["mac", "pci", "candidatename", "vendor", "model", "linkstate"].map(|key| (key, value(key)));
            line(node, position, name, &attributes)
        })
        .collect()
}

fn line(node: &str, position: usize, name: &str, attributes: &[(&str, String)]) -> String {
    let parts: Vec<String> = attributes
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let bang = if name.is_empty() { "" } else { "!" };
    format!("{node}:[{position}]->{name}{bang}{}", parts.join("|"))
}

fn link(link: LinkState) -> &'static str {
    match link {
        LinkState::Unknown => "",
        LinkState::Up => "UP",
        LinkState::Down => "DOWN",
    }
}

fn candidates(adapter: &Adapter) -> String {
    let names: Vec<String> = adapter
        .candidate_names
        .iter()
        .map(|name| clean(name).replace('/', "_"))
        .filter(|name| !name.is_empty())
        .collect();
    names.join("/")
}

/// A value that cannot break the column: blanks, separators and what does not print become `_`.
fn clean(value: &str) -> String {
    let safe = |letter: char| {
        if letter.is_control() || letter.is_whitespace() || ",!|=\"".contains(letter) { '_' } else { letter }
    };
    value.trim().chars().take(MAX_VALUE).map(safe).collect()
}

/// A text with blanks that cannot break the line.
fn words(value: &str) -> String {
    let safe = |letter: char| if letter.is_control() || letter == '|' { ' ' } else { letter };
    value.trim().chars().take(MAX_VALUE).map(safe).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn eno1() -> Adapter {
        Adapter {
            name: "eno1".into(),
            candidate_names: vec!["eno1".into(), "enp2s0".into()],
            mac: "34:40:b5:be:6a:84".into(),
            pci: "/pci0000:00/0000:00:01.0".into(),
            vendor: "Intel Corporation".into(),
            model: "I350 Gigabit | Network".into(),
            link: LinkState::Up,
            ..Adapter::default()
        }
    }

    #[test]
    fn adapters_are_stored_in_the_present_order_without_vendor_and_model() {
        assert_eq!(
            column_value(&[eno1(), Adapter::default()]).unwrap(),
            "eno1!mac=34:40:b5:be:6a:84 linkstate=UP pci=/pci0000:00/0000:00:01.0 candidatename=eno1/enp2s0"
        );
        assert_eq!(column_value(&[Adapter { pci: "x".into(), ..Adapter::default() }]), None);
    }

    #[test]
    fn fresh_adapters_are_shown_with_vendor_and_model_and_nameless_ones_too() {
        let nameless = Adapter { pci: "0000:03:00.0".into(), model: "Card".into(), ..Adapter::default() };
        assert_eq!(
            lines("n1", &[eno1(), nameless]),
            [
                "n1:[0]->eno1!mac=34:40:b5:be:6a:84|pci=/pci0000:00/0000:00:01.0|candidatename=eno1/enp2s0|\
                 vendor=Intel Corporation|model=I350 Gigabit   Network|linkstate=UP",
                "n1:[1]->pci=0000:03:00.0|model=Card",
            ]
        );
    }

    #[test]
    fn stored_adapters_are_shown_whatever_the_order_of_their_attributes() {
        let seed = "enp12s0f1!pci=/pci0000:00/0000:0c:00.1 mac=34:40:b5:be:6a:84 linkstate=DOWN,\
                    enp0s29u1!linkstate=UP mac=36:40:b5:bf:44:33";
        assert_eq!(
            stored_lines("n1", seed),
            [
                "n1:[0]->enp12s0f1!mac=34:40:b5:be:6a:84|pci=/pci0000:00/0000:0c:00.1|linkstate=DOWN",
                "n1:[1]->enp0s29u1!mac=36:40:b5:bf:44:33|linkstate=UP",
            ]
        );
    }

    #[test]
    fn a_hostile_value_leaves_a_column_that_still_parses() {
        let hostile = Adapter {
            name: "e,t!h\n0".into(),
            mac: "a b,c!d=e".into(),
            candidate_names: vec!["x/y".into(), " ".into()],
            ..Adapter::default()
        };
        let value = column_value(&[hostile, eno1()]).unwrap();
        assert!(value.starts_with("e_t_h_0!mac=a_b_c_d_e candidatename=x_y,eno1!"), "{value}");
        assert_eq!(stored_lines("n1", &value).len(), 2);
    }

    #[test]
    fn empty_and_oversized_reports_are_refused_with_the_limit() {
        assert!(fault(&[]).unwrap().contains("no adapter"));
        assert!(fault(&vec![eno1(); MAX_ADAPTERS + 1]).unwrap().contains("1024"));
        assert!(
            fault(&[Adapter { model: "x".repeat(MAX_REPORT + 1), ..eno1() }]).unwrap().contains("1048576")
        );
        assert_eq!(fault(&vec![eno1(); 64]), None);
    }
}
