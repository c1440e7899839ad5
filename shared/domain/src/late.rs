use serde::Serialize;

use super::{Basis, Certificate, ContestantNumber, Poll, PollId, Supplement, Tally, Timestamp};

/// The votes of a certified poll that were cast in time and arrived after the certification. They are stored, not
/// counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LateVotes {
    /// The number of late votes. A vote sent twice is one.
    pub votes: u64,
    /// The arrival of the first late vote.
    pub first_at: Timestamp,
    /// The arrival of the last late vote.
    pub last_at: Timestamp,
}

/// A later certificate of a poll, issued by the crew. It includes the late votes that had arrived by then. The first
/// certificate stays unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterCertificate {
    /// The number, from 2.
    pub number: i32,
    /// The time of certification.
    pub certified_at: Timestamp,
    /// Always [`Basis::Forced`]: no evidence excludes further late votes.
    pub basis: Basis,
    /// The included late votes.
    pub late: LateVotes,
    /// The included late votes by contestant.
    pub late_tally: Tally,
    /// SHA-256 over the lines of the late votes, in the format of the export.
    pub late_digest: Vec<u8>,
    /// SHA-256 over the lines of all votes: those of the first certificate and the late ones.
    pub digest: Vec<u8>,
}

impl LaterCertificate {
    /// Returns the object key of its file in the bucket.
    pub fn object_key(&self, poll: PollId) -> String {
        format!("results/{}.certificate-{}.json", poll.0, self.number)
    }
}

/// The public document of a later certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaterDocument {
    poll: PollId,
    number: i32,
    certified_at: Timestamp,
    basis: Basis,
    first: FirstCertificate,
    late: IncludedVotes,
    /// All votes, late ones included.
    votes: u64,
    digest: String,
    /// Absent while the standing is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    contestants: Option<Vec<Line>>,
}

/// The first certificate of the poll, which stays valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct FirstCertificate {
    certified_at: Timestamp,
    basis: Basis,
    /// It is known by then: the supplement of the first certificate comes before a later certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// The late votes that a later certificate includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IncludedVotes {
    #[serde(flatten)]
    votes: LateVotes,
    digest: String,
    /// Absent while the standing is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    contestants: Option<Vec<Line>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Line {
    number: ContestantNumber,
    votes: u64,
}

impl LaterDocument {
    /// Builds the public document, without the standing if the poll withholds it at `now`.
    pub fn public(poll: &Poll, first: &Certificate, later: &LaterCertificate, now: Timestamp) -> Self {
        Self::new(poll, first, later, poll.shows_results(now))
    }

    /// Builds the complete document, for the crew.
    pub fn whole(poll: &Poll, first: &Certificate, later: &LaterCertificate) -> Self {
        Self::new(poll, first, later, true)
    }

    fn new(poll: &Poll, first: &Certificate, later: &LaterCertificate, shows_standing: bool) -> Self {
        let mut tally = first.tally.clone();
        for (&number, votes) in &later.late_tally {
            *tally.entry(number).or_default() += votes;
        }
        let lines = |tally: &Tally| {
            let line = |(&number, &votes): (&ContestantNumber, &u64)| Line { number, votes };
            shows_standing.then(|| tally.iter().map(line).collect())
        };
        Self {
            poll: poll.id,
            number: later.number,
            certified_at: later.certified_at,
            basis: later.basis,
            first: FirstCertificate {
                certified_at: first.certified_at,
                basis: first.basis,
                digest: first.supplement.as_ref().map(Supplement::digest_hex),
            },
            late: IncludedVotes {
                votes: later.late,
                digest: hex(&later.late_digest),
                contestants: lines(&later.late_tally),
            },
            votes: tally.values().sum(),
            digest: hex(&later.digest),
            contestants: lines(&tally),
        }
    }
}

/// Formats bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::{
        Results,
        poll::tests::{at, poll},
    };

    fn tally(votes: &[(i16, u64)]) -> Tally {
        votes.iter().map(|&(number, votes)| (ContestantNumber(number), votes)).collect()
    }

    fn first() -> Certificate {
        Certificate {
            certified_at: at(9_000),
            basis: Basis::Forced,
            tally: tally(&[(1, 3), (7, 1)]),
            rejected: BTreeMap::new(),
            supplement: Some(Supplement {
                at: at(9_100),
                digest: vec![0xab, 0x01],
                voters: 3,
                recount: tally(&[(1, 3), (7, 1)]),
            }),
        }
    }

    fn later() -> LaterCertificate {
        LaterCertificate {
            number: 2,
            certified_at: at(20_000),
            basis: Basis::Forced,
            late: LateVotes { votes: 3, first_at: at(9_500), last_at: at(9_900) },
            late_tally: tally(&[(2, 1), (7, 2)]),
            late_digest: vec![2],
            digest: vec![3],
        }
    }

    #[test]
    fn the_document_tells_the_first_certificate_the_late_votes_and_the_totals_with_them() {
        let document = LaterDocument::public(&poll(), &first(), &later(), at(20_000));
        let expected = json!({
            "poll": 1, "number": 2, "certifiedAt": at(20_000), "basis": "forced",
            "first": {"certifiedAt": at(9_000), "basis": "forced", "digest": "ab01"},
            "late": {"votes": 3, "firstAt": at(9_500), "lastAt": at(9_900), "digest": "02",
                "contestants": [{"number": 2, "votes": 1}, {"number": 7, "votes": 2}]},
            "votes": 7, "digest": "03",
            "contestants": [{"number": 1, "votes": 3}, {"number": 2, "votes": 1}, {"number": 7, "votes": 3}],
        });
        assert_eq!(serde_json::to_value(&document).unwrap(), expected);
    }

    #[test]
    fn a_withheld_standing_is_nowhere_in_the_document() {
        let hidden = Poll { results: Results::Hidden, ..poll() };
        let document =
            serde_json::to_value(LaterDocument::public(&hidden, &first(), &later(), at(20_000))).unwrap();
        assert_eq!((&document["votes"], &document["late"]["votes"]), (&json!(7), &json!(3)), "{document}");
        assert!(!document.to_string().contains("contestants"), "{document}");
        let whole = serde_json::to_value(LaterDocument::whole(&hidden, &first(), &later())).unwrap();
        assert_eq!(whole["contestants"][2], json!({"number": 7, "votes": 3}));
    }
}
