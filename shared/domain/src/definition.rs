//! What the show may say of a poll, whatever the poll's state: the fields and their limits.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};

use super::{Contestant, ContestantNumber, Invalid, Results, Timestamp};

pub(super) const TITLE_CHARS_MAX: usize = 200;
pub(super) const NAME_CHARS_MAX: usize = 200;
pub(super) const URL_CHARS_MAX: usize = 2_048;
/// One batch sends the totals of every contestant to Redis: 1,000 members is what still costs well under 1 ms.
pub(super) const CONTESTANTS_MAX: usize = 1_000;
/// `votes/mine` looks up every ballot a voter may have by its key: 100 index probes.
pub(super) const VOTES_PER_VOTER_MAX: i16 = 100;
/// Some paragraphs. Every viewer's page loads all errata of a poll with each of its files.
pub(super) const ERRATUM_CHARS_MAX: usize = 1_000;
/// More corrections than any result needs, and at most 80 kB in the file.
pub(super) const ERRATA_MAX: usize = 20;
/// Reopenings of one poll. Every vote is compared with each gap, and every file lists them all.
pub(super) const GAPS_MAX: usize = 100;

/// The definition of a poll before it has a number: the body of `POST /admin/polls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Draft {
    /// 1 to 200 characters.
    pub title: String,
    /// The first moment whose votes count; absent: the poll is opened by hand.
    #[serde(default)]
    pub opens_at: Option<Timestamp>,
    /// The first moment whose votes no longer count, after `opens_at`; absent: closed by hand.
    #[serde(default)]
    pub closes_at: Option<Timestamp>,
    /// Ballots of each voter, 1 to 100; absent: every vote counts.
    #[serde(default)]
    pub votes_per_voter: Option<i16>,
    /// Who may see the standing; absent: everyone, live.
    #[serde(default)]
    pub results: Results,
    /// Whether the public must not know of the poll before it opens; absent: it must not.
    #[serde(default = "unpublished")]
    pub draft: bool,
    /// 1 to 1,000.
    pub contestants: Vec<DraftContestant>,
}

/// What a poll is unless it is said otherwise: a poll that is typed in is not public four seconds later.
fn unpublished() -> bool {
    true
}

/// A contestant whose number may be left to us.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DraftContestant {
    /// 1 to 32,767; absent: the lowest number that is free.
    #[serde(default)]
    pub(super) number: Option<i16>,
    /// 1 to 200 characters.
    pub(super) name: String,
    /// http or https, up to 2,048 characters.
    #[serde(default)]
    pub(super) image_url: Option<String>,
    /// Read and ignored, so that a list can be sent back as it was answered: only withdrawing sets it.
    #[serde(default, rename = "withdrawnAt", deserialize_with = "ignored")]
    pub(super) _withdrawn_at: (),
}

fn ignored<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    Option::<Timestamp>::deserialize(deserializer).map(drop)
}

impl Draft {
    /// Checks the whole definition and numbers the contestants, which it returns ascending by number.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<Vec<Contestant>, Invalid> {
        check_window(self.opens_at, self.closes_at)?;
        self.check_fields()
    }

    /// The same without the window: a poll that was opened and closed within one millisecond has an empty one.
    pub(super) fn check_fields(&self) -> Result<Vec<Contestant>, Invalid> {
        if !is_line(&self.title, TITLE_CHARS_MAX) {
            return Err(Invalid::Title);
        }
        if self.votes_per_voter.is_some_and(|limit| !(1..=VOTES_PER_VOTER_MAX).contains(&limit)) {
            return Err(Invalid::VotesPerVoter);
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

/// Visible text in one line: a form has it as it is.
fn is_line(text: &str, chars_max: usize) -> bool {
    is_visible_text(text, chars_max) && !text.contains('\n')
}

/// Text that shows something and does nothing else: lines may be broken, and no other control character is in it.
pub(super) fn is_visible_text(text: &str, chars_max: usize) -> bool {
    text.chars().count() <= chars_max
        && text.chars().any(is_visible)
        && !text.contains(|char: char| char.is_control() && char != '\n')
}

pub(super) fn is_visible(char: char) -> bool {
    // What has no width, turns the direction of writing or fills a place with nothing.
    let shows_nothing = matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}');
    !char.is_whitespace() && !char.is_control() && !shows_nothing
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
