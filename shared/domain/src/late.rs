use serde::Serialize;

use super::{Basis, Certificate, ContestantNumber, Poll, PollId, Tally, Timestamp};

/// A certified poll's votes that were cast in time and arrived after its certification. They are kept, and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LateVotes {
    /// How many; a vote sent twice is one.
    pub votes: u64,
    /// When the first of them arrived.
    pub first_at: Timestamp,
    /// When the last of them arrived.
    pub last_at: Timestamp,
}

/// A certificate beside the first: the crew issued it, and it includes the late votes that had arrived by then. The
/// first one stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterCertificate {
    /// 2 for the first of them.
    pub number: i32,
    /// Since when.
    pub certified_at: Timestamp,
    /// [`Basis::Forced`]: nothing shows that no further vote is late.
    pub basis: Basis,
    /// The late votes that it includes.
    pub late: LateVotes,
    /// These, by contestant.
    pub late_tally: Tally,
    /// SHA-256 over their lines, as the export writes votes.
    pub late_digest: Vec<u8>,
    /// SHA-256 over the lines of all votes, those of the first certificate and the late ones.
    pub digest: Vec<u8>,
    /// Whether its file, and the poll's file that names it, have been written.
    pub is_published: bool,
}

impl LaterCertificate {
    /// Where its file is, relative to the bucket.
    pub fn object_key(&self, poll: PollId) -> String {
        format!("results/{}.certificate-{}.json", poll.0, self.number)
    }
}

/// A later certificate as a document of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaterDocument {
    poll: PollId,
    number: i32,
    certified_at: Timestamp,
    basis: Basis,
    first: First,
    late: Included,
    /// With the late ones.
    votes: u64,
    digest: String,
    /// Absent where the standing is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    contestants: Option<Vec<Line>>,
}

/// The certificate that stays beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct First {
    certified_at: Timestamp,
    basis: Basis,
    digest: String,
}

/// The late votes that are in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Included {
    #[serde(flatten)]
    votes: LateVotes,
    digest: String,
    /// Absent where the standing is withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    contestants: Option<Vec<Line>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Line {
    number: ContestantNumber,
    votes: u64,
}

impl LaterDocument {
    /// The document as the public may read it at `now`: without the standing where the poll withholds it.
    pub fn public(poll: &Poll, first: &Certificate, later: &LaterCertificate, now: Timestamp) -> Self {
        Self::new(poll, first, later, poll.shows_results(now))
    }

    /// The whole document, for the crew.
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
            first: First { certified_at: first.certified_at, basis: first.basis, digest: first.digest_hex() },
            late: Included {
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

/// Two hexadecimal digits for each byte.
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
            digest: vec![0xab, 0x01],
            tally: tally(&[(1, 3), (7, 1)]),
            rejected: BTreeMap::new(),
            voters: 3,
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
            is_published: false,
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
