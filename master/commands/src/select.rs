//! Conditions of the definition commands: `-w attribute==value`.

use noderange::{Matcher, Selector};
use state::State;
use state::schema::TypeDef;

/// Conditions, all of which must hold.
pub(crate) struct Conditions {
    tests: Vec<(String, Matcher)>,
}

impl Conditions {
    /// Reads conditions; the error is a text for the admin.
    pub(crate) fn parse(texts: &[&str]) -> Result<Conditions, String> {
        let mut tests = Vec::new();
        for text in texts {
            let selector = Selector::parse(text, false)
                .ok_or_else(|| format!("Invalid string '{text}' specified with the '-w' flag."))?;
            let matcher = selector.matcher().map_err(|error| error.to_string())?;
            tests.push((selector.attribute, matcher));
        }
        Ok(Conditions { tests })
    }

    /// Whether an object meets them. Without a value an object meets none, whatever the comparison.
    pub(crate) fn hold(&self, state: &State, kind: &TypeDef, name: &str) -> bool {
        self.tests.iter().all(|(attribute, matcher)| {
            let value = match attribute == kind.key {
                true => Some(name.to_owned()),
                false => state.object_attribute(kind, name, attribute),
            };
            value.is_some() && matcher.matches(value.as_deref())
        })
    }
}
