//! The stanza form of objects: `name:`, then indented `attribute=value` lines.

use std::collections::BTreeMap;

/// First line of a stanza file.
pub(crate) const HEADER: &str = "# <xCAT data object stanza file>";

/// An object as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stanza {
    pub name: String,
    pub objtype: Option<String>,
    pub attributes: Vec<(String, String)>,
    /// The line of its name.
    pub line: usize,
}

/// Reads stanzas; defaults of `default-<type>:` are filled in. The error names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<Stanza>, String> {
    let mut defaults: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut out: Vec<Stanza> = Vec::new();
    let mut open: Option<Stanza> = None;
    let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with('<') {
            continue;
        }
        let indented = line.starts_with([' ', '\t']);
        match trimmed.strip_suffix(':').filter(|_| !indented) {
            Some(name) => {
                close(open.take(), &mut defaults, &mut out);
                let (name, line) = (name.trim().to_owned(), number + 1);
                open = Some(Stanza { name, objtype: None, attributes: Vec::new(), line });
            }
            None => {
                let (Some(stanza), Some((attribute, value))) = (open.as_mut(), trimmed.split_once('='))
                else {
                    return Err(format!(
                        "line {} of the stanza input is not understood: {trimmed}",
                        number + 1
                    ));
                };
                let (attribute, value) = (attribute.trim(), value.trim());
                match attribute {
                    "objtype" => stanza.objtype = Some(value.to_owned()),
                    _ if stanza.attributes.iter().any(|(known, _)| known == attribute) => {
                        return Err(format!(
                            "line {} of the stanza input gives '{attribute}' of '{}' again",
                            number + 1,
                            stanza.name
                        ));
                    }
                    _ => stanza.attributes.push((attribute.to_owned(), value.to_owned())),
                }
            }
        }
    }
    close(open, &mut defaults, &mut out);
    for stanza in &out {
        let key = (stanza.objtype.clone().unwrap_or_default(), stanza.name.clone());
        if let Some(first) = seen.insert(key, stanza.line) {
            return Err(format!(
                "line {} of the stanza input defines '{}' again, which line {first} does already",
                stanza.line, stanza.name
            ));
        }
    }
    Ok(out)
}

fn close(
    stanza: Option<Stanza>,
    defaults: &mut BTreeMap<String, Vec<(String, String)>>,
    out: &mut Vec<Stanza>,
) {
    let Some(mut stanza) = stanza else { return };
    if let Some(kind) = stanza.name.strip_prefix("default-") {
        let known = defaults.entry(kind.to_owned()).or_default();
        for (attribute, value) in stanza.attributes {
            known.retain(|(name, _)| *name != attribute);
            if !value.is_empty() {
                known.push((attribute, value));
            }
        }
        return;
    }
    let filled = stanza.objtype.as_ref().and_then(|kind| defaults.get(kind));
    for (attribute, value) in filled.into_iter().flatten() {
        if !stanza.attributes.iter().any(|(name, _)| name == attribute) {
            stanza.attributes.push((attribute.clone(), value.clone()));
        }
    }
    out.push(stanza);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::parse;

    #[test]
    fn defaults_fill_in_what_follows_and_are_unset_by_a_blank_value() {
        let text = "# <xCAT data object stanza file>\n\ndefault-node:\n    arch=x86_64\n    os=a\n\nn1:\n    \
                    objtype=node\n    os=b\n\ndefault-node:\n    arch=\n\nn2:\n    objtype=node\n    nicips.ib0=1\n";
        let stanzas = parse(text).unwrap();
        let pairs = |i: usize| {
            let list = &stanzas[i].attributes;
            list.iter().map(|(a, v)| format!("{a}={v}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((stanzas[0].name.as_str(), pairs(0).as_str()), ("n1", "os=b arch=x86_64"));
        assert_eq!((stanzas[1].name.as_str(), pairs(1).as_str()), ("n2", "nicips.ib0=1 os=a"));
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        assert!(parse("n1:\n    objtype=node\n    nonsense\n").unwrap_err().contains("line 3"));
        assert!(parse("    a=b\n").is_err());
        let twice = "n1:\n    objtype=node\nn1:\n    objtype=group\nn1:\n    objtype=node\n";
        assert!(
            parse(twice).unwrap_err().contains("line 5 of the stanza input defines 'n1' again, which line 1")
        );
        assert!(parse("n1:\n    os=a\n    os=b\n").unwrap_err().contains("line 3"));
    }
}
