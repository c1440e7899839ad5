use std::collections::BTreeMap;

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Ledger};
use domain::Voters;
use domain::{
    ContestantNumber, LoggedVote, Message, PollId, ProbeId, Rejected, Tally, Timestamp, Vote, Voter,
};

/// A judged batch in the columns that the procedure `count_votes` takes.
#[derive(Debug, Default)]
pub struct Batch {
    judged_polls: Vec<i32>,
    judged_versions: Vec<i32>,
    votes: Vec<(Uuid, Vote)>,
    rejected_messages: Vec<Uuid>,
    rejected_voters: Vec<Option<i64>>,
    rejected_id_tags: Vec<Option<i64>>,
    rejected_cast_at: Vec<OffsetDateTime>,
    rejected_polls: Vec<Option<i64>>,
    rejected_reasons: Vec<&'static str>,
    rejected_keys: Vec<Option<Uuid>>,
    rejected_places: Vec<i16>,
    rejected_log_tags: Vec<Option<Uuid>>,
    /// Fields of late votes, filled up to the last late vote. Empty if there is none.
    rejected_contestants: Vec<Option<i16>>,
    rejected_counts: Vec<Option<i16>>,
    rejected_ballots: Vec<Option<i16>>,
    rejected_message_tags: Vec<Option<i64>>,
    probe_ids: Vec<i64>,
    probe_cast_at: Vec<OffsetDateTime>,
    redelivered: bool,
    unannounced: bool,
    repeats_expected: bool,
}

impl Batch {
    /// Adds the version of the definition by which votes of a poll were judged. Version 0 means that the poll did not
    /// exist. Call it once for each poll.
    pub fn judged_by(&mut self, poll: PollId, version: i32) {
        self.judged_polls.push(poll.0);
        self.judged_versions.push(version);
    }

    /// Adds one outcome of a message. A valid vote counts unless its key has been counted already. A rejected one is a
    /// duplicate instead if its key was counted under an earlier definition of the poll; a late one is stored with all
    /// its fields.
    pub fn add(&mut self, message: &Message, outcome: Result<Vote, Rejected>) {
        match outcome {
            Ok(vote) => self.vote(message.id, vote),
            Err(rejected) => self.reject(message, rejected),
        }
    }

    /// Adds a valid vote.
    pub fn vote(&mut self, message: Uuid, vote: Vote) {
        self.votes.push((message, vote));
    }

    fn reject(&mut self, message: &Message, rejected: Rejected) {
        self.rejected_messages.push(message.id);
        self.rejected_voters.push(message.voter.map(Voter::ledger_column));
        self.rejected_id_tags.push(rejected.id_tag.map(|tag| tag.0));
        self.rejected_cast_at.push(message.sent_at.into());
        self.rejected_polls.push(message.poll());
        self.rejected_reasons.push(rejected.reason.name());
        self.rejected_keys.push(rejected.key.map(|key| key.0));
        self.rejected_places.push(rejected.place);
        self.rejected_log_tags.push(rejected.log_tag.map(Uuid::from_bytes));
        if let Some(late) = rejected.late {
            let before = self.rejected_keys.len() - 1;
            self.rejected_contestants.resize(before, None);
            self.rejected_counts.resize(before, None);
            self.rejected_ballots.resize(before, None);
            self.rejected_message_tags.resize(before, None);
            self.rejected_contestants.push(Some(late.contestant.0));
            self.rejected_counts.push(Some(late.count));
            self.rejected_ballots.push(late.ballot);
            self.rejected_message_tags.push(late.message_tag.map(|tag| tag.0));
        }
    }

    /// Adds a probe with its `SentTimestamp`. Probes do not count as messages of the batch.
    pub fn probe(&mut self, probe: ProbeId, cast_at: Timestamp) {
        self.probe_ids.push(probe.0);
        self.probe_cast_at.push(cast_at.into());
    }

    /// Sets signs that an earlier batch has failed. `redelivered`: a message of this batch was delivered before.
    /// `unannounced`: an announcement of this function instance has failed since its last count.
    pub fn signs(&mut self, redelivered: bool, unannounced: bool) {
        (self.redelivered, self.unannounced) = (redelivered, unannounced);
    }

    /// Sets whether votes of the batch may be in the ledger already. It is a hint: without it, a repeated vote makes
    /// the ledger insert the batch twice.
    pub fn expect_repeats(&mut self, expected: bool) {
        self.repeats_expected = expected;
    }

    /// Returns the voters of its votes, duplicates included.
    pub fn voters(&self) -> Voters {
        let mut voters = Voters::new();
        for (_, vote) in &self.votes {
            voters.entry(vote.poll).or_default().push(vote.voter.ledger_column());
        }
        voters
    }

    /// Returns the number of its valid votes, repeated ones included.
    pub fn casts(&self) -> u64 {
        self.votes.len() as u64
    }

    /// Returns the taps of its votes by poll, duplicates included.
    pub fn taps(&self) -> BTreeMap<PollId, u64> {
        let mut taps = BTreeMap::new();
        for (_, vote) in &self.votes {
            *taps.entry(vote.poll).or_default() += u64::from(vote.count.unsigned_abs());
        }
        taps
    }

    /// Returns the number of votes, valid or rejected.
    pub fn len(&self) -> usize {
        self.votes.len() + self.rejected_messages.len()
    }

    /// Returns whether the batch has no votes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Votes in the columns that `count_votes` takes, ascending by poll, key and time of casting.
#[derive(Default)]
struct VoteColumns {
    keys: Vec<Uuid>,
    messages: Vec<Uuid>,
    voters: Vec<i64>,
    cast_at: Vec<OffsetDateTime>,
    polls: Vec<i32>,
    contestants: Vec<i16>,
    /// Filled up to the last vote of more than one tap: the server assumes 1 after it.
    counts: Vec<Option<i16>>,
    /// Filled up to the last vote that is not the first of its request: the server assumes 0 after it.
    places: Vec<Option<i16>>,
    /// Filled up to the last vote with a ballot, like the tags: the server assumes NULL after it.
    ballots: Vec<Option<i16>>,
    message_tags: Vec<Option<i64>>,
    id_tags: Vec<Option<i64>>,
    /// One after the other, each in its stored form.
    log_entries: Vec<u8>,
    /// The entries of each poll are one piece.
    log_pieces: LogPieces,
    /// The taps and the votes of each contestant if all votes count.
    added: BTreeMap<(i32, i16), (i64, i64)>,
}

impl VoteColumns {
    fn new(votes: &[(Uuid, Vote)]) -> Self {
        let mut votes: Vec<_> = votes.iter().collect();
        votes.sort_unstable_by_key(|(_, vote)| (vote.poll, vote.key.0, vote.cast_at));
        let mut columns = Self::default();
        for (message, vote) in votes {
            columns.push(*message, vote);
        }
        columns
    }

    fn push(&mut self, message: Uuid, vote: &Vote) {
        if vote.count != 1 {
            self.counts.resize(self.keys.len(), None);
            self.counts.push(Some(vote.count));
        }
        if vote.place != 0 {
            self.places.resize(self.keys.len(), None);
            self.places.push(Some(vote.place));
        }
        if vote.ballot.is_some() {
            self.ballots.resize(self.keys.len(), None);
            self.message_tags.resize(self.keys.len(), None);
            self.id_tags.resize(self.keys.len(), None);
            self.ballots.push(vote.ballot);
            self.message_tags.push(vote.message_tag.map(|tag| tag.0));
            self.id_tags.push(vote.id_tag.map(|tag| tag.0));
        }
        self.log_pieces.push(self.keys.len(), vote);
        self.log_entries.extend(LoggedVote::stored(vote.log, vote.contestant, vote.count));
        self.keys.push(vote.key.0);
        self.messages.push(message);
        self.voters.push(vote.voter.ledger_column());
        self.cast_at.push(vote.cast_at.into());
        self.polls.push(vote.poll.0);
        self.contestants.push(vote.contestant.0);
        let (taps, casts) = self.added.entry((vote.poll.0, vote.contestant.0)).or_default();
        (*taps, *casts) = (*taps + i64::from(vote.count), *casts + 1);
    }
}

/// Where the entries of each poll are among those of all votes, and when these votes were cast.
#[derive(Default)]
struct LogPieces {
    polls: Vec<i32>,
    firsts: Vec<i32>,
    counts: Vec<i32>,
    cast_from: Vec<OffsetDateTime>,
    cast_to: Vec<OffsetDateTime>,
}

impl LogPieces {
    /// Adds the next vote. The votes of a poll come one after the other.
    fn push(&mut self, index: usize, vote: &Vote) {
        let cast_at = vote.cast_at.into();
        if self.polls.last() != Some(&vote.poll.0) {
            self.polls.push(vote.poll.0);
            self.firsts.push(i32::try_from(index).unwrap_or(i32::MAX));
            self.counts.push(0);
            self.cast_from.push(cast_at);
            self.cast_to.push(cast_at);
        }
        if let (Some(count), Some(from), Some(to)) =
            (self.counts.last_mut(), self.cast_from.last_mut(), self.cast_to.last_mut())
        {
            *count += 1;
            *from = cast_at.min(*from);
            *to = cast_at.max(*to);
        }
    }
}

/// The outcome of counting a batch.
#[derive(Debug)]
pub enum Outcome {
    /// The batch is in the ledger.
    Counted(Counted),
    /// A poll's definition has changed since the batch was judged. Nothing was counted; the caller must judge it
    /// again.
    Stale,
}

/// The result of a committed batch. The default is the result of an empty batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Newly counted votes, one for each row.
    pub counted: u64,
    /// The taps that they stand for.
    pub taps: u64,
    /// New rejections, by reason. A voter's rejections beyond 1,000 for one poll are new at every delivery.
    pub rejected: BTreeMap<String, u64>,
    /// Absolute totals: of the contestants with new votes if the whole batch is new, else of all contestants of
    /// every poll in it.
    pub tallies: BTreeMap<PollId, Tally>,
}

impl Ledger {
    /// Counts a batch in one round trip and one transaction, which is on disk before the answer. Idempotent: votes
    /// and rejections that are already stored stay unchanged, and the totals are returned all the same.
    ///
    /// # Errors
    /// [`Error::Outage`] or [`Error::Defect`]; then the batch may or may not have been committed.
    pub async fn count(&self, batch: &Batch) -> Result<Outcome, Error> {
        let sql = "/* count_votes */ CALL count_votes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
                   $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, \
                   $34, $35, $36, $37, $38, $39, $40, $41)";
        let votes = VoteColumns::new(&batch.votes);
        let (added_polls, added_contestants): (Vec<i32>, Vec<i16>) = votes.added.keys().copied().unzip();
        let (added_votes, mut added_casts): (Vec<i64>, Vec<i64>) = votes.added.into_values().unzip();
        if votes.counts.is_empty() {
            added_casts.clear();
        }
        let query = sqlx::query(sql)
            .bind(&batch.judged_polls)
            .bind(&batch.judged_versions)
            .bind(votes.keys)
            .bind(votes.messages)
            .bind(votes.voters)
            .bind(votes.cast_at)
            .bind(votes.polls)
            .bind(votes.contestants)
            .bind(votes.counts)
            .bind(votes.places)
            .bind(votes.ballots)
            .bind(votes.message_tags)
            .bind(votes.id_tags)
            .bind(votes.log_entries)
            .bind(votes.log_pieces.polls)
            .bind(votes.log_pieces.firsts)
            .bind(votes.log_pieces.counts)
            .bind(votes.log_pieces.cast_from)
            .bind(votes.log_pieces.cast_to)
            .bind(added_polls)
            .bind(added_contestants)
            .bind(added_votes)
            .bind(added_casts)
            .bind(&batch.rejected_messages)
            .bind(&batch.rejected_voters)
            .bind(&batch.rejected_id_tags)
            .bind(&batch.rejected_cast_at)
            .bind(&batch.rejected_polls)
            .bind(&batch.rejected_reasons)
            .bind(&batch.rejected_keys)
            .bind(&batch.rejected_places)
            .bind(&batch.rejected_log_tags)
            .bind(&batch.rejected_contestants)
            .bind(&batch.rejected_counts)
            .bind(&batch.rejected_ballots)
            .bind(&batch.rejected_message_tags)
            .bind(&batch.probe_ids)
            .bind(&batch.probe_cast_at)
            .bind(batch.redelivered)
            .bind(batch.unannounced)
            .bind(batch.repeats_expected);
        let row = self.fetch_all(query).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        if !row.try_get::<bool, _>("current")? {
            return Ok(Outcome::Stale);
        }
        let mut rejected = BTreeMap::new();
        for reason in row.try_get::<Option<Vec<String>>, _>("recorded_reasons")?.unwrap_or_default() {
            *rejected.entry(reason).or_default() += 1;
        }
        let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
        let (counted, taps) = (number("counted")?, number("counted_taps")?);
        Ok(Outcome::Counted(Counted { counted, taps, rejected, tallies: tallies(&row)? }))
    }
}

fn tallies(row: &sqlx::postgres::PgRow) -> Result<BTreeMap<PollId, Tally>, sqlx::Error> {
    let polls = row.try_get::<Option<Vec<i32>>, _>("tally_polls")?.unwrap_or_default();
    let contestants = row.try_get::<Option<Vec<i16>>, _>("tally_contestants")?.unwrap_or_default();
    let votes = row.try_get::<Option<Vec<i64>>, _>("tally_votes")?.unwrap_or_default();
    let mut tallies = BTreeMap::<_, Tally>::new();
    for ((poll, contestant), votes) in polls.into_iter().zip(contestants).zip(votes) {
        tallies.entry(PollId(poll)).or_default().insert(ContestantNumber(contestant), votes.unsigned_abs());
    }
    Ok(tallies)
}
