//! The fields of a poll's definition and their limits, which hold in every state of the poll.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use super::{Contestant, ContestantNumber, Invalid, Pace, Results, Timestamp};

pub(super) const TITLE_CHARS_MAX: usize = 200;
pub(super) const NAME_CHARS_MAX: usize = 200;
pub(super) const URL_CHARS_MAX: usize = 2_048;
/// One batch sends the totals of every contestant to Redis. 1,000 members still cost well under 1 ms.
pub(super) const CONTESTANTS_MAX: usize = 1_000;
/// `votes/mine` looks up every possible ballot of a voter by its key: 100 index lookups.
pub(super) const VOTES_PER_VOTER_MAX: i16 = 100;
/// As many taps as a quick finger does in ten seconds. A larger number would let one request decide a small poll.
pub(super) const TAPS_MAX: i16 = 100;
/// A few paragraphs. Every viewer's page loads all errata of a poll with each of its files.
pub(super) const ERRATUM_CHARS_MAX: usize = 1_000;
/// More corrections than any result needs, and at most 80 kB in the file.
pub(super) const ERRATA_MAX: usize = 20;
/// Reopenings of one poll. Every vote is compared with each gap, and every public file lists all gaps.
pub(super) const GAPS_MAX: usize = 100;

/// The definition of a new poll: the body of `POST /admin/polls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Draft {
    /// 1 to 200 characters.
    pub title: String,
    /// The first moment whose votes count. Absent: the poll is opened by hand.
    #[serde(default)]
    pub opens_at: Option<Timestamp>,
    /// The first moment whose votes no longer count, after `opens_at`. Absent: the poll is closed by hand.
    #[serde(default)]
    pub closes_at: Option<Timestamp>,
    /// Ballots of each voter, 1 to 100. Absent: every vote counts.
    #[serde(default)]
    pub votes_per_voter: Option<i16>,
    /// The taps that one vote may stand for, 1 to 100; only 1 in a poll with a limit. Absent: 1.
    #[serde(default = "one_tap")]
    pub taps_max: i16,
    /// The visibility of the standing. Absent: live, for everyone.
    #[serde(default)]
    pub results: Results,
    /// How often pages request the poll's file. Absent: by the clock.
    #[serde(default)]
    pub pace: Pace,
    /// Whether the poll is hidden from the public until it opens. Absent: it is hidden.
    #[serde(default = "draft_by_default")]
    pub draft: bool,
    /// 1 to 1,000 contestants.
    pub contestants: Vec<DraftContestant>,
}

fn one_tap() -> i16 {
    1
}

/// Returns the default of `draft`: a new poll must not be public within seconds of being typed in.
fn draft_by_default() -> bool {
    true
}

/// A contestant of a new definition. Its number may be assigned automatically.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DraftContestant {
    /// 1 to 32,767. Absent: the lowest free number.
    #[serde(default)]
    pub(super) number: Option<i16>,
    /// 1 to 200 characters.
    pub(super) name: String,
    /// An http or https address of up to 2,048 characters.
    #[serde(default)]
    pub(super) image_url: Option<String>,
    /// Parsed and ignored, so that a client can send a list back as it received it. Only a withdrawal sets it.
    #[serde(default, rename = "withdrawnAt", deserialize_with = "ignored")]
    pub(super) _withdrawn_at: (),
}

fn ignored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    Option::<Timestamp>::deserialize(deserializer).map(drop)
}

impl Draft {
    /// Validates the whole definition and returns the contestants with their numbers, ascending by number.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn check(&self) -> Result<Vec<Contestant>, Invalid> {
        check_window(self.opens_at, self.closes_at)?;
        self.check_fields()
    }

    /// Validates all fields but the window: a poll that was opened and closed within one millisecond has an empty
    /// one.
    pub(super) fn check_fields(&self) -> Result<Vec<Contestant>, Invalid> {
        if !is_line(&self.title, TITLE_CHARS_MAX) {
            return Err(Invalid::Title);
        }
        if self.votes_per_voter.is_some_and(|limit| !(1..=VOTES_PER_VOTER_MAX).contains(&limit)) {
            return Err(Invalid::VotesPerVoter);
        }
        if !(1..=TAPS_MAX).contains(&self.taps_max) {
            return Err(Invalid::TapsMax);
        }
        if self.taps_max > 1 && self.votes_per_voter.is_some() {
            return Err(Invalid::TapsWithLimit);
        }
        numbered(&self.contestants)
    }
}

pub(super) fn check_window(opens_at: Option<Timestamp>, closes_at: Option<Timestamp>) -> Result<(), Invalid> {
    match (opens_at, closes_at) {
        (Some(opening), Some(close)) if close <= opening => Err(Invalid::ClosesBeforeOpening),
        _ => Ok(()),
    }
}

/// Returns whether a text is visible and has one line, so that an input field of one line can show it.
fn is_line(text: &str, chars_max: usize) -> bool {
    is_visible_text(text, chars_max) && !text.contains('\n')
}

/// Returns whether a text has a visible character, and no control character other than a line break.
pub(super) fn is_visible_text(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max
        && text.chars().any(is_visible)
        && !text.contains(|char: char| char.is_control() && char != '\n')
}

pub(super) fn is_visible(char: char) -> bool {
    // Zero-width characters, direction controls and blank fillers.
    let is_invisible = matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    !char.is_whitespace() && !char.is_control() && !is_invisible
}

fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty())
        && text.len() <= URL_CHARS_MAX
        && !text.contains(|char: char| char.is_whitespace() || char.is_control())
}

fn numbered(drafts: &[DraftContestant]) -> Result<Vec<Contestant>, Invalid> {
    if !(1..=CONTESTANTS_MAX).contains(&drafts.len()) {
        return Err(Invalid::ContestantCount(drafts.len()));
    }
    let mut taken = BTreeSet::new();
    for (index, draft) in drafts.iter().enumerate() {
        if !is_line(&draft.name, NAME_CHARS_MAX) {
            return Err(Invalid::Name(index));
        }
        if draft.image_url.as_deref().is_some_and(|url| !is_web_address(url)) {
            return Err(Invalid::ImageUrl(index));
        }
        match draft.number {
            Some(number) if number < 1 => return Err(Invalid::Number(index)),
            Some(number) if !taken.insert(number) => return Err(Invalid::NumberTaken { index, number }),
            _ => {}
        }
    }
    let mut free = (1..=i16::MAX).filter(|number| !taken.contains(number));
    let mut contestants: Vec<_> = drafts
        .iter()
        .map(|draft| Contestant {
            number: ContestantNumber(
                draft.number.or_else(|| free.next()).expect("1,000 contestants leave numbers free"),
            ),
            name: draft.name.clone(),
            image_url: draft.image_url.clone(),
            withdrawn_at: None,
        })
        .collect();
    contestants.sort_by_key(|contestant| contestant.number);
    Ok(contestants)
}

impl From<&Contestant> for DraftContestant {
    fn from(contestant: &Contestant) -> Self {
        Self {
            number: Some(contestant.number.0),
            name: contestant.name.clone(),
            image_url: contestant.image_url.clone(),
            _withdrawn_at: (),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
    fn draft(changes: Value) -> Result<Vec<Contestant>, Invalid> {
        let mut body = json!({"title": "Who stays?", "results": "live", "contestants": [{"name": "Ana"}]});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<Draft>(body).unwrap().check()
    }

    #[test]
    fn each_bad_field_is_named() {
        let contestants = |list: Value| draft(json!({ "contestants": list })).unwrap_err().to_string();
        let field = |error: String| error.split(':').next().unwrap().to_owned();
        for invisible in [" ", "\u{200b}", "\u{3164}", "\u{ad}", "a\u{7}b", "a\nb", "a\0b"] {
            assert_eq!(draft(json!({"title": invisible})), Err(Invalid::Title), "{invisible:?}");
            let nameless = json!({"contestants": [{"name": invisible}]});
            assert_eq!(draft(nameless), Err(Invalid::Name(0)), "{invisible:?}");
        }
        assert_eq!(draft(json!({"title": "x".repeat(201)})), Err(Invalid::Title));
        let window = json!({"opensAt": "2026-01-01T00:00:01Z", "closesAt": "2026-01-01T00:00:01Z"});
        assert_eq!(draft(window), Err(Invalid::ClosesBeforeOpening));
        assert_eq!(draft(json!({"votesPerVoter": 0})), Err(Invalid::VotesPerVoter));
        assert_eq!(draft(json!({"votesPerVoter": 101})), Err(Invalid::VotesPerVoter));
        assert_eq!(contestants(json!([])), "contestants: expected 1 to 1000, got 0");
        assert_eq!(field(contestants(json!([{"name": "a"}, {"name": ""}]))), "contestants[1].name");
        assert_eq!(field(contestants(json!([{"name": "a", "number": 0}]))), "contestants[0].number");
        let twice = json!([{"name": "a", "number": 3}, {"name": "b", "number": 3}]);
        assert_eq!(contestants(twice), "contestants[1].number: 3 is already taken");
        for url in ["javascript:alert(1)", "https://", "https://a b"] {
            let error = contestants(json!([{"name": "a", "imageUrl": url}]));
            assert_eq!(field(error), "contestants[0].imageUrl", "{url}");
        }
        assert!(draft(json!({"contestants": vec![json!({"name": "a"}); 1_000]})).is_ok());
        assert_eq!(
            draft(json!({"contestants": vec![json!({"name": "a"}); 1_001]})),
            Err(Invalid::ContestantCount(1_001))
        );
    }

    #[test]
    fn contestants_without_a_number_get_the_lowest_free_ones() {
        let list = json!([{"name": "a"}, {"name": "b", "number": 1}, {"name": "c"}]);
        let numbered = draft(json!({ "contestants": list })).unwrap();
        let lines: Vec<_> = numbered.iter().map(|one| (one.number.0, one.name.as_str())).collect();
        assert_eq!(lines, [(1, "b"), (2, "a"), (3, "c")]);
    }

    #[test]
    fn a_list_may_be_sent_back_as_it_was_answered_and_withdraws_nobody() {
        let list = json!([{"number": 1, "name": "Ana", "imageUrl": null, "withdrawnAt": "2026-01-01T00:00:00Z"},
            {"number": 2, "name": "Bia", "imageUrl": null, "withdrawnAt": null}]);
        let read = draft(json!({ "contestants": list })).unwrap();
        assert!(read.iter().all(|contestant| contestant.withdrawn_at.is_none()));
    }

    #[test]
    fn text_must_show_something() {
        for (text, is_shown) in [
            ("Ana had 6 votes.\nNot 5.", true),
            ("é", true),
            ("", false),
            (" \n", false),
            ("\u{200b}\u{feff}\u{2060}", false),
            ("a\u{7}", false),
            ("a\tb", false),
        ] {
            assert_eq!(is_visible_text(text, 100), is_shown, "{text:?}");
        }
        assert!(is_visible_text(&"é".repeat(1_000), 1_000) && !is_visible_text(&"é".repeat(1_001), 1_000));
    }
}
