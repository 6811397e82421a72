//! Whatever the text: an answer within the limits, never a panic; and folding loses nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use noderange::{MAX_NAMES, Options, fold, generic, parse};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_has_an_answer(text in "[a-c0-3\\[\\](),@:^/~=!+'\" -]{0,40}") {
        let _ = parse(&text);
        if let Ok(names) = generic(&text, &Options::default()) {
            prop_assert!(names.len() <= MAX_NAMES);
            prop_assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }

    #[test]
    fn folded_names_expand_to_themselves(
        names in prop::collection::btree_set("[a-c][a-c-]{0,2}[0-9]{1,3}([a-c.][0-9]{0,2}[a-c])?", 1..40)
    ) {
        // A name with an odd number of dashes may itself be a range; the fold of names that are none is exact.
        let plain: Vec<&String> = names
            .iter()
            .filter(|name| generic(name, &Options::default()).unwrap() == [(*name).clone()])
            .collect();
        let folded = fold(&plain);
        let again = generic(&folded, &Options::default()).unwrap();
        prop_assert_eq!(again.iter().collect::<Vec<_>>(), plain, "{}", folded);
    }
}
