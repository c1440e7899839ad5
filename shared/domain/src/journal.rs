use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Poll, Timestamp};

/// An action of the crew on a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Created the poll.
    Create,
    /// Changed the definition.
    Patch,
    /// Changed the definition and thereby published the poll.
    Publish,
    /// Opened the poll.
    Open,
    /// Closed the poll.
    Close,
    /// Withdrew a contestant.
    Withdraw,
    /// Removed the poll from the public list.
    Archive,
    /// Certified the result when no votes were outstanding.
    Certify,
    /// Certified the result although votes might be outstanding.
    ForceCertify,
    /// Issued another certificate that includes late votes.
    SecondCertificate,
    /// Published a correction beside the certified result.
    Erratum,
    /// Deleted the poll.
    Delete,
    /// Reset tally and ranking to the votes in the ledger.
    Rebuild,
}

impl Action {
    /// Returns the name in the journal. The name is stored, so it never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Publish => "publish",
            Self::Open => "open",
            Self::Close => "close",
            Self::Withdraw => "withdraw",
            Self::Archive => "archive",
            Self::Certify => "certify",
            Self::ForceCertify => "forceCertify",
            Self::SecondCertificate => "secondCertificate",
            Self::Erratum => "erratum",
            Self::Delete => "delete",
            Self::Rebuild => "rebuild",
        }
    }

    /// Returns the effective action of a change: a patch that ends the draft is a publication.
    #[must_use]
    pub fn of(self, before: &Poll, after: &Poll, now: Timestamp) -> Self {
        let publishes = before.is_draft(now) && !after.is_draft(now);
        if self == Self::Patch && publishes { Self::Publish } else { self }
    }
}

/// A requested change of a poll: its author, its action, and the versions of the poll that it applies to.
#[derive(Debug, Clone)]
pub struct Order {
    /// The author's name in the journal.
    pub who: String,
    /// The action.
    pub action: Action,
    /// The versions of the poll that the change applies to. `None`: any version.
    pub expected: Option<Vec<i32>>,
}

impl Order {
    /// Creates an order that applies to any version.
    pub fn new(who: impl Into<String>, action: Action) -> Self {
        Self { who: who.into(), action, expected: None }
    }

    /// Returns whether the order applies to this version.
    pub fn suits(&self, version: i32) -> bool {
        self.expected.as_ref().is_none_or(|versions| versions.contains(&version))
    }
}

/// Fields that the crew does not set, or that every change increments.
const NOT_JOURNALLED: [&str; 4] = ["id", "version", "epoch", "createdAt"];

/// Returns the differences between two states of a poll (`None`: the poll does not exist):
/// `{"field":{"from":…,"to":…}}`. Lists such as the contestants contain only the differing elements.
pub fn changes(before: Option<&Poll>, after: Option<&Poll>) -> Value {
    let (before, after) = (fields(before), fields(after));
    let mut changed = Map::new();
    let names = before.keys().chain(after.keys()).filter(|name| !NOT_JOURNALLED.contains(&name.as_str()));
    for name in names {
        let [mut from, mut to] =
            [&before, &after].map(|fields| fields.get(name).cloned().unwrap_or_default());
        if from == to || changed.contains_key(name) {
            continue;
        }
        if let (Value::Array(from), Value::Array(to)) = (&mut from, &mut to) {
            let [before, after] =
                [&*from, &*to].map(|list| list.iter().map(Value::to_string).collect::<BTreeSet<_>>());
            from.retain(|one| !after.contains(&one.to_string()));
            to.retain(|one| !before.contains(&one.to_string()));
        }
        changed.insert(name.clone(), json!({"from": from, "to": to}));
    }
    Value::Object(changed)
}

fn fields(poll: Option<&Poll>) -> Map<String, Value> {
    match poll.map(|poll| serde_json::to_value(poll).expect("a poll is plain data")) {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::tests::{at, poll};

    #[test]
    fn only_what_differs_is_told() {
        let mut after = Poll { title: "Who goes?".to_owned(), version: 2, ..poll() };
        after.contestants[1].name = "Béa".to_owned();
        let told = changes(Some(&poll()), Some(&after));
        assert_eq!(told["title"], json!({"from": "Who stays?", "to": "Who goes?"}));
        let bia = |name: &str| json!([{"number": 2, "name": name, "imageUrl": null}]);
        assert_eq!(told["contestants"], json!({"from": bia("Bia"), "to": bia("Béa")}));
        assert_eq!(told.as_object().unwrap().len(), 2, "{told}");
        assert_eq!(changes(Some(&poll()), Some(&poll())), json!({}));
    }

    #[test]
    fn a_poll_comes_from_nothing_and_goes_to_nothing() {
        let (made, deleted) = (changes(None, Some(&poll())), changes(Some(&poll()), None));
        assert_eq!(made["title"], json!({"from": null, "to": "Who stays?"}));
        assert_eq!(deleted["title"], json!({"from": "Who stays?", "to": null}));
        assert_eq!(made["contestants"]["to"].as_array().unwrap().len(), 3);
        assert!(made.get("version").is_none() && made.get("closesAt").is_some());
    }

    #[test]
    fn a_patch_that_ends_the_draft_is_a_publication() {
        let draft = Poll { draft: true, opens_at: None, closes_at: None, ..poll() };
        let public = Poll { draft: false, ..draft.clone() };
        assert_eq!(Action::Patch.of(&draft, &public, at(1)), Action::Publish);
        assert_eq!(Action::Patch.of(&draft, &draft, at(1)), Action::Patch);
        assert_eq!(Action::Open.of(&draft, &public, at(1)), Action::Open);
    }

    #[test]
    fn an_order_is_for_the_versions_it_names() {
        let order = |expected| Order { expected, ..Order::new("crew", Action::Patch) };
        assert!(order(None).suits(7) && order(Some(vec![3, 7])).suits(7));
        assert!(!order(Some(vec![3])).suits(7) && !order(Some(vec![])).suits(7));
    }
}
