use super::{
    Choice, Contestant, ContestantNumber, LogEntry, LogRequest, Message, Poll, PollId, ReceiptTag, Rejection,
    Timestamp, VoteKey, Voter, VoterHasher,
};

/// A valid vote. It counts unless its key has been counted already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The key that makes the vote count once.
    pub key: VoteKey,
    /// The poll.
    pub poll: PollId,
    /// The contestant.
    pub contestant: ContestantNumber,
    /// The voter.
    pub voter: Voter,
    /// The voter's ballot, in a poll with a limit.
    pub ballot: Option<i16>,
    /// The number of taps that it stands for: 1 to the poll's `tapsMax`.
    pub count: i16,
    /// Its place in the request, from 0.
    pub place: i16,
    /// The time of casting.
    pub cast_at: Timestamp,
    /// The receipt tag of the message id, in a poll with a limit: there the key is not derived from the id.
    pub message_tag: Option<ReceiptTag>,
    /// The receipt tag of the client's id, in a poll with a limit.
    pub id_tag: Option<ReceiptTag>,
    /// Its entry in the public log.
    pub log: LogEntry,
}

/// A vote that does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// The reason.
    pub reason: Rejection,
    /// The vote's place in the request, from 0. A malformed request is rejected whole, at place 0.
    pub place: i16,
    /// The key that the vote would have, if another definition of its poll might accept it.
    pub key: Option<VoteKey>,
    /// The receipt tag of the client's id.
    pub id_tag: Option<ReceiptTag>,
    /// The vote's tag in the public log. `None` if the message has no voter or names no poll.
    pub log_tag: Option<[u8; 16]>,
    /// The remaining fields of a [`Late`](Rejection::Late) vote.
    pub late: Option<LateVote>,
}

/// The fields of a late vote that are stored beside its key, voter and time of casting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateVote {
    /// See [`Vote::contestant`].
    pub contestant: ContestantNumber,
    /// See [`Vote::ballot`].
    pub ballot: Option<i16>,
    /// See [`Vote::count`].
    pub count: i16,
    /// See [`Vote::message_tag`].
    pub message_tag: Option<ReceiptTag>,
}

impl From<Rejection> for Rejected {
    fn from(reason: Rejection) -> Self {
        Self { reason, place: 0, key: None, id_tag: None, log_tag: None, late: None }
    }
}

/// Judges the votes of a message, in their order, by the time they were cast and by the poll's definition (`None`: the
/// poll does not exist). A malformed request has one outcome.
///
/// If several reasons apply to a vote, the first of [`Rejection::ALL`] is returned: errors in the vote itself come before
/// errors of time, so that the reason does not depend on the window.
pub fn judge<'a>(
    message: &'a Message,
    poll: Option<&'a Poll>,
    hasher: &'a VoterHasher,
) -> impl Iterator<Item = Result<Vote, Rejected>> + 'a {
    let (votes, malformed) = match &message.request {
        Ok(request) => (request.votes.as_slice(), None),
        Err(malformed) => (&[][..], Some(Err(malformed.reason))),
    };
    let votes = votes.iter().copied().chain(malformed);
    let log = log_request(message);
    (0..).zip(votes).map(move |(place, choice)| {
        let ballot = choice.ok().and_then(|choice| choice.ballot).unwrap_or(0);
        let log = log.map(|request| request.entry(place, ballot));
        Casting { message, place, log, hasher }.judge(choice, poll).map_err(|rejected| Rejected {
            place,
            id_tag: id_tag(message, hasher),
            log_tag: log.map(|entry| entry.tag),
            ..rejected
        })
    })
}

fn log_request(message: &Message) -> Option<LogRequest> {
    let poll = message.poll()?;
    Some(message.voter?.log.request(poll, message.client_id().unwrap_or(message.id)))
}

fn id_tag(message: &Message, hasher: &VoterHasher) -> Option<ReceiptTag> {
    Some(hasher.receipt_tag(message.voter?, message.client_id()?))
}

/// One vote's place in its message.
#[derive(Clone, Copy)]
struct Casting<'a> {
    message: &'a Message,
    place: i16,
    log: Option<LogEntry>,
    hasher: &'a VoterHasher,
}

impl Casting<'_> {
    fn judge(self, choice: Result<Choice, Rejection>, poll: Option<&Poll>) -> Result<Vote, Rejected> {
        let choice = choice?;
        let Self { message, place, log, hasher } = self;
        let (voter, log) = message.voter.zip(log).ok_or(Rejection::NoVoter)?;
        let poll = poll.filter(|poll| !poll.is_draft(message.sent_at)).ok_or(Rejection::UnknownPoll)?;
        let contestant = i16::try_from(choice.contestant)
            .ok()
            .and_then(|number| poll.contestant(ContestantNumber(number)))
            .ok_or(Rejection::UnknownContestant)?;
        let ballot = ballot(choice, poll)?;
        let count = count(choice, poll)?;
        let vote = Vote {
            key: self.key(poll, voter, ballot),
            poll: poll.id,
            contestant: contestant.number,
            voter,
            ballot,
            count,
            place,
            cast_at: message.sent_at,
            message_tag: ballot.map(|_| hasher.receipt_tag(voter, message.id)),
            id_tag: ballot.and_then(|_| id_tag(message, hasher)),
            log,
        };
        let Some(reason) = reason(&vote, poll, contestant) else { return Ok(vote) };
        let late = (reason == Rejection::Late).then_some(LateVote {
            contestant: vote.contestant,
            ballot,
            count,
            message_tag: vote.message_tag,
        });
        Err(Rejected { key: Some(vote.key), late, ..reason.into() })
    }

    fn key(self, poll: &Poll, voter: Voter, ballot: Option<i16>) -> VoteKey {
        let Self { message, place, hasher, .. } = self;
        match (ballot, message.client_id()) {
            (Some(ballot), _) => hasher.ballot_key(poll.id, poll.created_at, voter, ballot),
            (None, Some(id)) => hasher.client_key(poll.id, poll.created_at, voter, id, place),
            (None, None) => hasher.message_key(poll.id, message.sent_at, message.id),
        }
    }
}

/// Returns why a well-formed vote does not count, though another definition of its poll might accept it.
fn reason(vote: &Vote, poll: &Poll, contestant: &Contestant) -> Option<Rejection> {
    let cast_at = vote.cast_at;
    if vote.ballot > poll.votes_per_voter {
        Some(Rejection::BallotAboveLimit)
    } else if vote.count > poll.taps_max {
        Some(Rejection::CountOutOfRange)
    } else if poll.opens_at.is_none_or(|opening| cast_at < opening) {
        Some(Rejection::BeforeOpening)
    } else if poll.closes_at.is_some_and(|close| cast_at >= close) || poll.is_in_gap(cast_at) {
        Some(Rejection::AfterClosing)
    } else if contestant.withdrawn_at.is_some_and(|moment| cast_at >= moment) {
        Some(Rejection::Withdrawn)
    } else if poll.frozen_at.is_some() {
        Some(Rejection::Late)
    } else {
        None
    }
}

/// Returns the vote's ballot. The caller compares it with the poll's limit.
fn ballot(choice: Choice, poll: &Poll) -> Result<Option<i16>, Rejection> {
    match (poll.votes_per_voter, choice.ballot) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Rejection::BallotNotAllowed),
        (Some(_), None) => Err(Rejection::BallotMissing),
        (Some(_), Some(ballot)) if ballot < 1 => Err(Rejection::BallotBelowOne),
        (Some(_), Some(ballot)) => i16::try_from(ballot).map(Some).map_err(|_| Rejection::BallotAboveLimit),
    }
}

/// Returns the number of taps that the vote stands for. The caller compares it with the poll's `tapsMax`.
fn count(choice: Choice, poll: &Poll) -> Result<i16, Rejection> {
    match (poll.votes_per_voter, choice.count) {
        (_, None) => Ok(1),
        (Some(_), Some(_)) => Err(Rejection::CountNotAllowed),
        (None, Some(count)) if count < 1 => Err(Rejection::CountOutOfRange),
        (None, Some(count)) => i16::try_from(count).map_err(|_| Rejection::CountOutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        Gap, VoteRequest,
        key::tests::hasher,
        poll::tests::{at, poll},
    };

    fn message(body: &str, sent_at: i64) -> Message {
        Message {
            id: Uuid::from_u128(9),
            sent_at: at(sent_at),
            voter: Some(hasher().voter("alice")),
            request: VoteRequest::parse(body),
        }
    }

    fn judge(message: &Message, poll: Option<&Poll>, hasher: &VoterHasher) -> Result<Vote, Rejected> {
        let mut outcomes = super::judge(message, poll, hasher);
        let outcome = outcomes.next().unwrap();
        assert!(outcomes.next().is_none());
        outcome
    }

    fn judged(body: &str, sent_at: i64, poll: &Poll) -> Result<Vote, Rejection> {
        judge(&message(body, sent_at), Some(poll), &hasher()).map_err(|rejected| rejected.reason)
    }

    const VOTE: &str = r#"{"poll":1,"contestant":7}"#;

    #[test]
    fn the_moment_of_casting_decides() {
        assert_eq!(judged(VOTE, 999, &poll()), Err(Rejection::BeforeOpening));
        assert!(judged(VOTE, 1_000, &poll()).is_ok());
        assert!(judged(VOTE, 1_999, &poll()).is_ok());
        assert_eq!(judged(VOTE, 2_000, &poll()), Err(Rejection::AfterClosing));
        let unscheduled = Poll { opens_at: None, ..poll() };
        assert_eq!(judged(VOTE, 1_500, &unscheduled), Err(Rejection::BeforeOpening));
    }

    #[test]
    fn what_a_frozen_poll_would_have_counted_is_late() {
        let frozen = Poll { frozen_at: Some(at(3_000)), ..poll() };
        assert_eq!(judged(VOTE, 1_999, &frozen), Err(Rejection::Late));
        assert_eq!(judged(VOTE, 2_000, &frozen), Err(Rejection::AfterClosing));
        assert_eq!(judged(VOTE, 999, &frozen), Err(Rejection::BeforeOpening));
        let late = judge(&message(VOTE, 1_999), Some(&frozen), &hasher()).unwrap_err();
        let vote = judge(&message(VOTE, 1_999), Some(&poll()), &hasher()).unwrap();
        assert_eq!(late.key, Some(vote.key), "what was counted before is a duplicate");
        let kept = LateVote {
            contestant: vote.contestant,
            ballot: vote.ballot,
            count: 1,
            message_tag: vote.message_tag,
        };
        assert_eq!(late.late, Some(kept), "it is kept whole");
        assert_eq!(judge(&message(VOTE, 2_000), Some(&frozen), &hasher()).unwrap_err().late, None);
    }

    #[test]
    fn what_is_cast_in_a_gap_is_after_the_close() {
        let poll = Poll { gaps: vec![Gap { from: at(1_200), to: at(1_300) }], ..poll() };
        assert!(judged(VOTE, 1_199, &poll).is_ok() && judged(VOTE, 1_300, &poll).is_ok());
        assert_eq!(judged(VOTE, 1_200, &poll), Err(Rejection::AfterClosing));
        assert_eq!(judged(VOTE, 1_299, &poll), Err(Rejection::AfterClosing));
        let frozen = Poll { frozen_at: Some(at(3_000)), ..poll };
        assert_eq!(judged(VOTE, 1_250, &frozen), Err(Rejection::AfterClosing), "never valid, so not late");
    }

    #[test]
    fn a_withdrawn_contestant_keeps_the_votes_cast_before() {
        let mut withdrawn = poll();
        withdrawn.contestants[2].withdrawn_at = Some(at(1_500));
        assert!(judged(VOTE, 1_499, &withdrawn).is_ok());
        assert_eq!(judged(VOTE, 1_500, &withdrawn), Err(Rejection::Withdrawn));
        assert_eq!(judged(VOTE, 2_000, &withdrawn), Err(Rejection::AfterClosing), "the window comes first");
        assert!(judged(r#"{"poll":1,"contestant":1}"#, 1_500, &withdrawn).is_ok(), "the others go on");
        let frozen = Poll { frozen_at: Some(at(3_000)), ..withdrawn.clone() };
        assert_eq!(judged(VOTE, 1_500, &frozen), Err(Rejection::Withdrawn), "not late");
        assert_eq!(judged(VOTE, 1_499, &frozen), Err(Rejection::Late));
        let rejected = judge(&message(VOTE, 1_500), Some(&withdrawn), &hasher()).unwrap_err();
        let key = judge(&message(VOTE, 1_500), Some(&poll()), &hasher()).unwrap().key;
        assert_eq!(rejected.key, Some(key), "what was counted before is a duplicate");
    }

    #[test]
    fn a_draft_is_unknown_until_it_opens() {
        let draft = Poll { draft: true, ..poll() };
        assert_eq!(judged(VOTE, 999, &draft), Err(Rejection::UnknownPoll));
        assert!(judged(VOTE, 1_000, &draft).is_ok(), "its opening ended the draft");
        let by_hand = Poll { opens_at: None, ..draft };
        assert_eq!(judged(VOTE, 1_500, &by_hand), Err(Rejection::UnknownPoll));
    }

    #[test]
    fn only_what_exists_can_be_voted_for() {
        let unknown = judge(&message(VOTE, 1_500), None, &hasher()).map_err(|rejected| rejected.reason);
        assert_eq!(unknown, Err(Rejection::UnknownPoll));
        for contestant in [0, 3, -7, 65_536 + 7] {
            let body = format!(r#"{{"poll":1,"contestant":{contestant}}}"#);
            assert_eq!(judged(&body, 1_500, &poll()), Err(Rejection::UnknownContestant), "{contestant}");
        }
    }

    #[test]
    fn ballots_are_counted_from_one_to_the_limit() {
        let limited = Poll { votes_per_voter: Some(2), ..poll() };
        let with = |ballot: &str| judged(&format!(r#"{{"poll":1,"contestant":7{ballot}}}"#), 1_500, &limited);
        assert_eq!(with(""), Err(Rejection::BallotMissing));
        assert_eq!(with(r#","ballot":0"#), Err(Rejection::BallotBelowOne));
        assert_eq!(with(r#","ballot":-1"#), Err(Rejection::BallotBelowOne));
        assert_eq!(with(r#","ballot":2"#).unwrap().ballot, Some(2));
        assert_eq!(with(r#","ballot":3"#), Err(Rejection::BallotAboveLimit));
        assert_eq!(with(r#","ballot":65537"#), Err(Rejection::BallotAboveLimit));
        let ballot_in_unlimited = judged(r#"{"poll":1,"contestant":7,"ballot":1}"#, 1_500, &poll());
        assert_eq!(ballot_in_unlimited, Err(Rejection::BallotNotAllowed));
    }

    #[test]
    fn a_count_is_from_one_to_the_polls_maximum() {
        let many = Poll { taps_max: 50, ..poll() };
        let with = |count: &str, poll: &Poll| {
            let body =
                r#"{"poll":1,"contestant":7,"id":"0194f0c0-0000-7000-8000-000000000000","count":COUNT}"#;
            judged(&body.replace("COUNT", count), 1_500, poll).map(|vote| vote.count)
        };
        assert_eq!(with("50", &many), Ok(50));
        assert_eq!(with("1", &poll()), Ok(1));
        for (count, poll) in [("51", &many), ("0", &many), ("-1", &many), ("65537", &many), ("2", &poll())] {
            assert_eq!(with(count, poll), Err(Rejection::CountOutOfRange), "{count}");
        }
        let limited = Poll { votes_per_voter: Some(2), ..poll() };
        let ballot =
            r#"{"poll":1,"contestant":7,"id":"0194f0c0-0000-7000-8000-000000000000","count":1,"ballot":1}"#;
        assert_eq!(judged(ballot, 1_500, &limited), Err(Rejection::CountNotAllowed));
        assert_eq!(judged(VOTE, 1_500, &many).unwrap().count, 1);
    }

    #[test]
    fn each_vote_of_a_request_has_its_own_outcome_place_and_key() {
        let body = r#"{"poll":1,"id":"0194f0c0-0000-7000-8000-000000000000","votes":[
            {"contestant":7},{"contestant":99},{},{"contestant":7,"count":2},{"contestant":1}]}"#;
        let (message, poll, hasher) = (message(body, 1_500), poll(), hasher());
        let outcomes: Vec<_> = super::judge(&message, Some(&poll), &hasher).collect();
        let reasons = outcomes.iter().map(|outcome| outcome.map_err(|rejected| rejected.reason).err());
        let expected = [None, Some(Rejection::UnknownContestant), Some(Rejection::MissingField)];
        assert!(reasons.eq(expected.into_iter().chain([Some(Rejection::CountOutOfRange), None])));
        let place = |outcome: &Result<Vote, Rejected>| {
            outcome.map_or_else(|rejected| rejected.place, |vote| vote.place)
        };
        assert!(outcomes.iter().map(place).eq(0..5));
        assert_ne!(outcomes[0].unwrap().key, outcomes[4].unwrap().key);
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.map_or_else(|rejected| rejected.id_tag.is_some(), |_| true))
        );
    }

    #[test]
    fn counted_or_not_a_vote_has_the_tag_that_its_page_derives() {
        let body = r#"{"poll":1,"id":"0194f0c0-0000-7000-8000-000000000000","votes":[
            {"contestant":7,"ballot":3},{"contestant":99,"ballot":1},{"contestant":7}]}"#;
        let limited = Poll { votes_per_voter: Some(3), ..poll() };
        let (list, hasher) = (message(body, 1_500), hasher());
        let outcomes: Vec<_> = super::judge(&list, Some(&limited), &hasher).collect();
        let request = list.voter.unwrap().log.request(1, list.client_id().unwrap());
        assert_eq!(outcomes[0].unwrap().log, request.entry(0, 3));
        let tag = |index: usize| outcomes[index].unwrap_err().log_tag;
        assert_eq!((tag(1), tag(2)), (Some(request.entry(1, 1).tag), Some(request.entry(2, 0).tag)));
        let without_id = message(VOTE, 1_500);
        let expected = without_id.voter.unwrap().log.request(1, without_id.id).entry(0, 0);
        assert_eq!(judge(&without_id, Some(&poll()), &hasher).unwrap().log, expected, "the message's own id");
        let anonymous = Message { voter: None, ..without_id };
        assert_eq!(judge(&anonymous, Some(&poll()), &hasher).unwrap_err().log_tag, None);
    }

    #[test]
    fn a_message_that_passed_no_authorizer_is_nobodys_vote() {
        let anonymous = Message { voter: None, ..message(VOTE, 1_500) };
        assert_eq!(judge(&anonymous, Some(&poll()), &hasher()), Err(Rejection::NoVoter.into()));
    }

    #[test]
    fn what_another_definition_would_count_is_rejected_with_its_key() {
        let early = judge(&message(VOTE, 999), Some(&poll()), &hasher()).unwrap_err();
        let in_time = Poll { opens_at: Some(at(0)), ..poll() };
        assert_eq!(early.key, Some(judge(&message(VOTE, 999), Some(&in_time), &hasher()).unwrap().key));
        let body = r#"{"poll":1,"contestant":7,"ballot":3}"#;
        let limited = |limit| Poll { votes_per_voter: Some(limit), ..poll() };
        let above = judge(&message(body, 1_500), Some(&limited(2)), &hasher()).unwrap_err();
        assert_eq!(above.key, Some(judge(&message(body, 1_500), Some(&limited(3)), &hasher()).unwrap().key));
    }

    #[test]
    fn a_vote_is_tagged_where_its_key_does_not_tell_its_ids() {
        let limited = Poll { votes_per_voter: Some(2), ..poll() };
        let tags = |body: &str, poll: &Poll| {
            let vote = judge(&message(body, 1_500), Some(poll), &hasher()).unwrap();
            (vote.message_tag, vote.id_tag)
        };
        let tag = |id| Some(hasher().receipt_tag(hasher().voter("alice"), Uuid::from_u128(id)));
        let id = r#"{"poll":1,"contestant":7,"id":"00000000-0000-4000-8000-000000000005"}"#;
        let both = r#"{"poll":1,"contestant":7,"ballot":1,"id":"00000000-0000-4000-8000-000000000005"}"#;
        assert_eq!(tags(id, &poll()), (None, None));
        assert_eq!(tags(r#"{"poll":1,"contestant":7,"ballot":1}"#, &limited), (tag(9), None));
        assert_eq!(tags(both, &limited), (tag(9), tag(0x4000_8000_0000_0000_0005)));
    }

    #[test]
    fn whatever_it_is_rejected_for_it_is_tagged_with_its_id() {
        let tag =
            Some(hasher().receipt_tag(hasher().voter("alice"), Uuid::from_u128(0x4000_8000_0000_0000_0005)));
        for fields in [r#""contestant":7"#, r#""contestant":99"#, r#""contestant":"7""#, r#""ballot":1"#] {
            let body = format!(r#"{{"poll":1,{fields},"id":"00000000-0000-4000-8000-000000000005"}}"#);
            let late = judge(&message(&body, 2_000), Some(&poll()), &hasher()).unwrap_err();
            assert_eq!(late.id_tag, tag, "{body}");
        }
        assert_eq!(judge(&message(VOTE, 2_000), Some(&poll()), &hasher()).unwrap_err().id_tag, None);
    }

    #[test]
    fn the_key_is_the_ballots_or_the_ids_or_the_messages() {
        let limited = Poll { votes_per_voter: Some(2), ..poll() };
        let key = |body: &str, message_id, voter: &str, poll: &Poll| {
            let message = Message {
                id: Uuid::from_u128(message_id),
                voter: Some(hasher().voter(voter)),
                ..message(body, 1_500)
            };
            judge(&message, Some(poll), &hasher()).unwrap().key
        };
        let id = r#"{"poll":1,"contestant":7,"id":"0194f0c0-0000-7000-8000-000000000000"}"#;
        let ballot = r#"{"poll":1,"contestant":7,"ballot":1}"#;
        assert_ne!(key(VOTE, 1, "alice", &poll()), key(VOTE, 2, "alice", &poll()), "two messages");
        assert_eq!(key(id, 1, "alice", &poll()), key(id, 2, "alice", &poll()), "a client's retry");
        assert_ne!(key(id, 1, "alice", &poll()), key(id, 1, "bob", &poll()), "one id of two voters");
        assert_eq!(key(ballot, 1, "alice", &limited), key(ballot, 2, "alice", &limited), "one ballot twice");
    }
}
