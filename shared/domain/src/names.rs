use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use super::{Contestant, ContestantNumber, Invalid, definition::is_visible};

/// The names that each number of a poll has had since its opening or first vote. They prevent that a vote for "Ana"
/// becomes a vote for "Bia" because the crew swaps the names, in any number of steps.
///
/// Names are compared as people read them: normalised (NFC), trimmed, case-insensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameHistory(BTreeMap<String, BTreeSet<ContestantNumber>>);

impl NameHistory {
    /// Adds the current names of the contestants.
    #[must_use]
    pub fn with(&self, contestants: &[Contestant]) -> Self {
        let mut all = self.0.clone();
        for contestant in contestants {
            all.entry(folded(&contestant.name)).or_default().insert(contestant.number);
        }
        Self(all)
    }

    /// Checks that each contestant has one of its own names or a new name, and that no two share a new name.
    ///
    /// # Errors
    /// [`Invalid::NameTaken`] for the first contestant with a name of another number.
    pub(super) fn check(&self, contestants: &[Contestant]) -> Result<(), Invalid> {
        let mut new = BTreeSet::new();
        for contestant in contestants {
            let name = folded(&contestant.name);
            let is_free = match self.0.get(&name) {
                Some(owners) => owners.contains(&contestant.number),
                None => new.insert(name),
            };
            if !is_free {
                return Err(Invalid::NameTaken(contestant.number.0));
            }
        }
        Ok(())
    }
}

/// Returns a name's form for comparisons, without invisible characters. The text is mapped to lower, upper and lower
/// case again, so that `ẞ`, `ß` and `SS`, and `ς` and `σ`, are equal, as in Unicode's case folding.
pub(super) fn folded(name: &str) -> String {
    let shown = name.nfc().filter(|&char| char.is_whitespace() || is_visible(char));
    let normalised: String = shown.collect();
    let upper = normalised.trim().chars().flat_map(char::to_lowercase).flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).nfc().collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contestants(names: &[(i16, &str)]) -> Vec<Contestant> {
        let contestant = |&(number, name): &(i16, &str)| Contestant {
            number: ContestantNumber(number),
            name: name.to_owned(),
            image_url: None,
            withdrawn_at: None,
        };
        names.iter().map(contestant).collect()
    }

    #[test]
    fn names_are_compared_as_people_read_them() {
        for (one, other) in [
            ("Zoë", "Zoe\u{308}"),
            ("ana", " ANA "),
            ("Ana", "\u{a0}Ana"),
            ("ΣΑΣ", "σας"),
            ("Groß", "GROSS"),
            ("Groß", "GROẞ"),
            ("Ana", "An\u{200b}a"),
            ("Ana", "\u{feff}Ana\u{fe0f}"),
            ("Åsa", "\u{212b}sa"),
        ] {
            assert_eq!(folded(one), folded(other), "{one:?} and {other:?}");
        }
        assert_ne!(folded("Ana"), folded("Aná"));
    }

    #[test]
    fn a_name_stays_with_the_numbers_that_bore_it() {
        let history = NameHistory::default().with(&contestants(&[(1, "Ana"), (2, "Bia")]));
        let after = history.with(&contestants(&[(1, "Anna"), (2, "Bia")]));
        assert_eq!(after.check(&contestants(&[(1, "ana"), (2, "Bia")])), Ok(()), "taken back");
        assert_eq!(after.check(&contestants(&[(1, "Anna"), (2, "Ana")])), Err(Invalid::NameTaken(2)));
        assert_eq!(
            after.check(&contestants(&[(1, "Anna"), (2, "Bia"), (3, "BIA")])),
            Err(Invalid::NameTaken(3))
        );
    }

    #[test]
    fn one_new_name_is_not_given_twice() {
        let history = NameHistory::default().with(&contestants(&[(1, "Ana"), (2, "Bia")]));
        assert_eq!(history.check(&contestants(&[(1, "Dora"), (2, "dora")])), Err(Invalid::NameTaken(2)));
    }

    #[test]
    fn two_of_one_name_can_be_renamed_one_at_a_time() {
        let both = contestants(&[(1, "Ana"), (2, "Ana")]);
        let history = NameHistory::default().with(&both);
        assert_eq!(history.check(&both), Ok(()), "they may stay");
        assert_eq!(history.check(&contestants(&[(1, "Ana"), (2, "Ana B.")])), Ok(()));
    }

    #[test]
    fn it_is_kept_as_json() {
        let history = NameHistory::default().with(&contestants(&[(1, "Ana"), (2, "ANA")]));
        let json = serde_json::to_value(&history).unwrap();
        assert_eq!(json, serde_json::json!({"ana": [1, 2]}));
        assert_eq!(serde_json::from_value::<NameHistory>(json).unwrap(), history);
    }
}
