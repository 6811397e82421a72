//! Ready-made definitions, which `lsdef --template` shows and `mkdef --template` starts from. They are data:
//! stanzas in `templates/objects.txt`.

use std::sync::LazyLock;

use crate::stanza::{self, Stanza};

const TEXT: &str = include_str!("templates/objects.txt");

static TEMPLATES: LazyLock<Vec<Stanza>> = LazyLock::new(|| {
    let mut templates = stanza::parse(TEXT).unwrap_or_default();
    templates.sort_by(|a, b| a.name.cmp(&b.name));
    templates
});

/// All templates by name.
pub(crate) fn all() -> &'static [Stanza] {
    &TEMPLATES
}

/// The template of this type and name.
pub(crate) fn find(kind: &str, name: &str) -> Option<&'static Stanza> {
    all().iter().find(|template| template.name == name && template.objtype.as_deref() == Some(kind))
}

/// What an attribute of a template asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish<'t> {
    /// It must be given.
    Mandatory,
    /// It may be given.
    Optional,
    /// It has this value when nothing else is given.
    Value(&'t str),
}

/// Reads a value of a template.
pub(crate) fn wish(value: &str) -> Wish<'_> {
    match value.split_once(':') {
        Some(("MANDATORY", _)) => Wish::Mandatory,
        Some(("OPTIONAL", _)) => Wish::Optional,
        _ => Wish::Value(value),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_template_is_of_a_known_type_and_has_its_attributes() {
        assert_eq!(stanza::parse(TEXT).unwrap().len(), all().len());
        assert!(all().len() >= 10);
        for template in all() {
            let kind = state::schema().object_type(template.objtype.as_deref().unwrap()).unwrap();
            for (attribute, _) in &template.attributes {
                assert!(kind.has(attribute), "{}: {attribute}", template.name);
            }
        }
    }
}
