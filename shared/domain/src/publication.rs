use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Basis, Contestant, Erratum, Gap, LateVotes, LaterCertificate, Poll, PollId, PublicLog, Ranking, Results,
    Standing, Status, Tally, Timestamp, late::hex,
};

/// The public file of a poll. A page that follows the poll requests this file alone. A certified file has the names
/// too, so that what is certified is one document; any other names the file that has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication<'a> {
    poll: PollId,
    next_in_seconds: u8,
    /// The version of the public list. Absent from a certified file, which never changes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    list_version: Option<i64>,
    /// The path of the names' file.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    status: Status,
    opens_at: Option<Timestamp>,
    closes_at: Option<Timestamp>,
    votes_per_voter: Option<i16>,
    taps_max: i16,
    results: Results,
    #[serde(skip_serializing_if = "Option::is_none")]
    contestants: Option<&'a [Contestant]>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gaps: &'a [Gap],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errata: &'a [Erratum],
    turnout: Turnout,
    certified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PublicCertificate<'a>>,
    /// Present if a vote arrived after the certification.
    #[serde(skip_serializing_if = "Option::is_none")]
    late: Option<LateVotes>,
    /// Where a page finds votes. Absent until some are decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<&'a PublicLog>,
    /// Paths of the later certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    later_certificates: Vec<String>,
    as_of: Timestamp,
    /// Absent, like the ranking, while the standing is not public.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_votes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ranking: Option<Vec<Standing>>,
}

/// The number of votes and voters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Turnout {
    /// Votes counted.
    pub votes: u64,
    /// Distinct voters. `None` while unknown.
    pub voters: Option<u64>,
    /// The relative standard error of `voters`. 0 if they were counted one by one.
    pub voters_error: Option<f64>,
}

/// A final result: the poll's counters at the moment of certification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The time of certification.
    pub certified_at: Timestamp,
    /// The basis for the assumption that no vote was outstanding.
    pub basis: Basis,
    /// Votes by contestant.
    pub tally: Tally,
    /// Rejected messages that named this poll, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// The findings of a pass over the votes. `None` until the pass is finished.
    pub supplement: Option<Supplement>,
}

/// The findings of a pass over all votes of a certified poll. The pass changes nothing in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supplement {
    /// The end of the pass.
    pub at: Timestamp,
    /// SHA-256 over the poll's votes in the format of the export.
    pub digest: Vec<u8>,
    /// Distinct voters, counted one by one.
    pub voters: u64,
    /// Votes by contestant, counted one by one.
    pub recount: Tally,
}

/// Whether the votes, counted one by one, are those of the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Recount {
    /// Each contestant has the same number of votes.
    Equal,
    /// Some contestant has another number: the ledger was changed by hand, or has a defect.
    Different,
}

impl Certificate {
    /// Compares the certified votes with those counted one by one. `None` until there is a supplement.
    pub fn recount(&self) -> Option<Recount> {
        let supplement = self.supplement.as_ref()?;
        let votes = |tally: &Tally, number| tally.get(number).copied().unwrap_or(0);
        let mut numbers = self.tally.keys().chain(supplement.recount.keys());
        let is_equal = numbers.all(|number| votes(&self.tally, number) == votes(&supplement.recount, number));
        Some(if is_equal { Recount::Equal } else { Recount::Different })
    }
}

impl Supplement {
    /// Returns the digest as 64 hexadecimal digits.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicCertificate<'a> {
    certified_at: Timestamp,
    basis: Basis,
    rejected: &'a BTreeMap<String, u64>,
    #[serde(flatten)]
    supplement: Option<PublicSupplement>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublicSupplement {
    digest: String,
    recount: Recount,
    supplemented_at: Timestamp,
}

impl<'a> Publication<'a> {
    /// Builds the file of an open or closed poll, complete with all names. The figures of its certificate, once there is one, replace all
    /// others. The file contains no standing while the poll withholds it at `now`.
    pub fn new(
        poll: &'a Poll,
        tally: &Tally,
        certificate: Option<&'a Certificate>,
        voters: Option<(u64, f64)>,
        as_of: Timestamp,
        now: Timestamp,
    ) -> Self {
        let tally = certificate.map_or(tally, |certificate| &certificate.tally);
        let supplement = certificate.and_then(|certificate| certificate.supplement.as_ref());
        let voters = supplement.map(|supplement| (supplement.voters, 0.0)).or(voters);
        let standing = Ranking::new(poll, tally, as_of, now);
        let turnout = Turnout {
            votes: standing.total_votes,
            voters: voters.map(|(voters, _)| voters),
            voters_error: voters.map(|(_, error)| error),
        };
        let (total_votes, ranking) =
            poll.shows_results(now).then_some((standing.total_votes, standing.ranking)).unzip();
        Self {
            poll: poll.id,
            next_in_seconds: poll.next_in_seconds(now),
            list_version: None,
            names: None,
            title: Some(&poll.title),
            status: poll.status(now),
            opens_at: poll.opens_at,
            closes_at: poll.closes_at,
            votes_per_voter: poll.votes_per_voter,
            taps_max: poll.taps_max,
            results: poll.results,
            contestants: Some(&poll.contestants),
            gaps: &poll.gaps,
            errata: &poll.errata,
            turnout,
            certified: certificate.is_some(),
            certificate: certificate.map(PublicCertificate::from),
            late: None,
            log: None,
            later_certificates: Vec::new(),
            as_of: certificate.map_or(as_of, |certificate| certificate.certified_at),
            total_votes,
            ranking,
        }
    }

    /// Replaces all names by the path of their file, and adds the version of the public list, for a page that has
    /// both already.
    #[must_use]
    pub fn with_names_at(mut self, path: &'a str, list_version: i64) -> Self {
        for line in self.ranking.iter_mut().flatten() {
            line.name = None;
        }
        Self { names: Some(path), list_version: Some(list_version), title: None, contestants: None, ..self }
    }

    /// Adds what the file says of the poll's log.
    #[must_use]
    pub fn with_log(self, log: Option<&'a PublicLog>) -> Self {
        Self { log, ..self }
    }

    /// Adds the late votes and the later certificates of a certified poll.
    #[must_use]
    pub fn with_late(self, late: Option<LateVotes>, later: &[LaterCertificate]) -> Self {
        let later_certificates =
            later.iter().map(|later| format!("/{}", later.object_key(self.poll))).collect();
        Self { late, later_certificates, ..self }
    }
}

impl<'a> From<&'a Certificate> for PublicCertificate<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self {
            certified_at: certificate.certified_at,
            basis: certificate.basis,
            rejected: &certificate.rejected,
            supplement: certificate.supplement.as_ref().zip(certificate.recount()).map(
                |(supplement, recount)| PublicSupplement {
                    digest: supplement.digest_hex(),
                    recount,
                    supplemented_at: supplement.at,
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ContestantNumber, Pace,
        poll::tests::{at, poll},
    };

    fn tally(votes: [u64; 3]) -> Tally {
        [1, 2, 7].map(ContestantNumber).into_iter().zip(votes).collect()
    }

    fn file(results: Results, now: i64, certificate: Option<&Certificate>) -> Value {
        let poll = Poll { results, ..poll() };
        let publication =
            Publication::new(&poll, &tally([3, 0, 2]), certificate, Some((4, 0.01)), at(now), at(now));
        serde_json::to_value(publication).unwrap()
    }

    fn certificate() -> Certificate {
        Certificate {
            certified_at: at(9_000),
            basis: Basis::Evidence,
            tally: tally([3, 0, 1]),
            rejected: BTreeMap::from([("afterClosing".to_owned(), 2)]),
            supplement: Some(Supplement {
                at: at(9_100),
                digest: vec![0xab, 0x01],
                voters: 3,
                recount: tally([3, 0, 1]),
            }),
        }
    }

    #[test]
    fn an_open_poll_has_a_standing_and_an_estimate() {
        let file = file(Results::Live, 1_500, None);
        assert_eq!(file["turnout"], json!({"votes": 5, "voters": 4, "votersError": 0.01}));
        assert_eq!((&file["certified"], &file["totalVotes"]), (&json!(false), &json!(5)));
        assert_eq!(file["ranking"][0]["contestant"], 1);
    }

    #[test]
    fn a_certified_poll_has_the_certificates_figures() {
        let certificate = certificate();
        let file = file(Results::Live, 9_500, Some(&certificate));
        assert_eq!(file["turnout"], json!({"votes": 4, "voters": 3, "votersError": 0.0}));
        assert_eq!(file["asOf"], json!(at(9_000)));
        let shown = json!({
            "certifiedAt": at(9_000), "basis": "evidence", "rejected": {"afterClosing": 2},
            "digest": "ab01", "recount": "equal", "supplementedAt": at(9_100),
        });
        assert_eq!(file["certificate"], shown);
    }

    #[test]
    fn a_certificate_needs_no_supplement() {
        let certificate = Certificate { supplement: None, ..certificate() };
        let file = file(Results::Live, 9_500, Some(&certificate));
        assert_eq!(file["turnout"], json!({"votes": 4, "voters": 4, "votersError": 0.01}), "an estimate");
        let shown = json!({"certifiedAt": at(9_000), "basis": "evidence", "rejected": {"afterClosing": 2}});
        assert_eq!((&file["certified"], &file["certificate"]), (&json!(true), &shown));
    }

    #[test]
    fn a_recount_is_of_each_contestant() {
        let recount = |votes: Tally| {
            let mut certificate = certificate();
            certificate.supplement.as_mut().unwrap().recount = votes;
            certificate.recount()
        };
        assert_eq!(recount(tally([3, 0, 1])), Some(Recount::Equal));
        assert_eq!(recount(tally([2, 1, 1])), Some(Recount::Different));
        let without_zero = [(ContestantNumber(1), 3), (ContestantNumber(7), 1)].into_iter().collect();
        assert_eq!(recount(without_zero), Some(Recount::Equal), "a contestant without votes has no row");
        assert_eq!(recount(Tally::new()), Some(Recount::Different));
    }

    #[test]
    fn an_open_polls_file_has_figures_and_the_path_of_its_names() {
        let poll = Poll { pace: Pace::Every5, ..poll() };
        let full = Publication::new(&poll, &tally([3, 0, 2]), None, None, at(1_500), at(1_500));
        let file = serde_json::to_value(full.with_names_at("/results/1.names-ab.json", 7)).unwrap();
        assert_eq!(file["names"], "/results/1.names-ab.json");
        assert_eq!((&file["listVersion"], &file["nextInSeconds"]), (&json!(7), &json!(5)));
        assert_eq!(file["ranking"][0], json!({"rank": 1, "contestant": 1, "votes": 3, "share": 0.6}));
        for text in ["Ana", "Bia", "Caio", "Who stays?", "title", "contestants"] {
            assert!(!file.to_string().contains(text), "{file}");
        }
    }

    #[test]
    fn a_certified_file_is_one_document_with_all_names() {
        let (poll, certificate) = (Poll { frozen_at: Some(at(9_000)), ..poll() }, certificate());
        let file = Publication::new(&poll, &tally([3, 0, 2]), Some(&certificate), None, at(9_500), at(9_500));
        let file = serde_json::to_value(file).unwrap();
        assert_eq!((&file["title"], &file["contestants"][2]["name"]), (&json!("Who stays?"), &json!("Caio")));
        assert_eq!((&file["ranking"][0]["name"], &file["nextInSeconds"]), (&json!("Ana"), &json!(10)));
        assert!(file.get("names").is_none() && file.get("listVersion").is_none(), "{file}");
    }

    #[test]
    fn gaps_errata_and_withdrawals_are_in_the_file_where_there_are_some() {
        let file = |poll: &Poll| {
            let publication = Publication::new(poll, &tally([3, 0, 2]), None, None, at(1_500), at(1_500));
            serde_json::to_value(publication).unwrap()
        };
        let plain = file(&poll());
        assert!(plain.get("gaps").is_none() && plain.get("errata").is_none());
        let mut changed = Poll {
            gaps: vec![Gap { from: at(1_200), to: at(1_300) }],
            errata: vec![Erratum { at: at(1_400), text: "Ana had 4.".to_owned() }],
            ..poll()
        };
        changed.contestants[0].withdrawn_at = Some(at(1_100));
        let told = file(&changed);
        assert_eq!(told["gaps"], json!([{"from": at(1_200), "to": at(1_300)}]));
        assert_eq!(told["errata"], json!([{"at": at(1_400), "text": "Ana had 4."}]));
        assert_eq!(told["contestants"][0]["withdrawnAt"], json!(at(1_100)));
    }

    #[test]
    fn what_came_after_the_certificate_is_beside_it() {
        let (poll, certificate) = (poll(), certificate());
        let file = Publication::new(&poll, &tally([3, 0, 1]), Some(&certificate), None, at(9_500), at(9_500));
        let before = serde_json::to_value(file.clone()).unwrap();
        assert!(before.get("late").is_none() && before.get("laterCertificates").is_none(), "{before}");
        let late = LateVotes { votes: 3, first_at: at(9_100), last_at: at(9_400) };
        let later = LaterCertificate {
            number: 2,
            certified_at: at(9_450),
            basis: Basis::Forced,
            late,
            late_tally: tally([3, 0, 0]),
            late_digest: vec![1],
            digest: vec![2],
        };
        let after = serde_json::to_value(file.with_late(Some(late), &[later])).unwrap();
        assert_eq!(after["late"], json!({"votes": 3, "firstAt": at(9_100), "lastAt": at(9_400)}));
        assert_eq!(after["laterCertificates"], json!(["/results/1.certificate-2.json"]));
        assert_eq!((&after["certificate"], &after["ranking"]), (&before["certificate"], &before["ranking"]));
    }

    #[test]
    fn a_withheld_standing_is_nowhere_in_the_file() {
        let certificate = certificate();
        for (results, now, certificate) in [
            (Results::AfterClose, 1_999, None),
            (Results::Hidden, 1_999, None),
            (Results::Hidden, 9_500, Some(&certificate)),
        ] {
            let text = file(results, now, certificate).to_string();
            for word in ["ranking", "totalVotes", "share", "rank"] {
                assert!(!text.contains(&format!("\"{word}\"")), "{text}");
            }
        }
        assert_eq!(file(Results::AfterClose, 2_000, None)["totalVotes"], 5);
    }
}
