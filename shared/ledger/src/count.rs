use std::collections::BTreeMap;

use sqlx::Row;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Error, Ledger};
use domain::Voters;
use domain::{ContestantNumber, Message, PollId, ProbeId, Rejected, Tally, Timestamp, Vote, Voter};

/// A judged batch, column by column as PostgreSQL takes it.
#[derive(Debug, Default)]
pub struct Batch {
    judged_polls: Vec<i32>,
    judged_versions: Vec<i32>,
    vote_keys: Vec<Uuid>,
    vote_messages: Vec<Uuid>,
    vote_voters: Vec<i64>,
    vote_cast_at: Vec<OffsetDateTime>,
    vote_polls: Vec<i32>,
    vote_contestants: Vec<i16>,
    vote_ballots: Vec<Option<i16>>,
    vote_message_tags: Vec<Option<i64>>,
    vote_id_tags: Vec<Option<i64>>,
    rejected_messages: Vec<Uuid>,
    rejected_voters: Vec<Option<i64>>,
    rejected_id_tags: Vec<Option<i64>>,
    rejected_cast_at: Vec<OffsetDateTime>,
    rejected_polls: Vec<Option<i64>>,
    rejected_reasons: Vec<&'static str>,
    rejected_keys: Vec<Option<Uuid>>,
    /// Of late votes, up to the last of them; empty where there is none.
    rejected_contestants: Vec<Option<i16>>,
    rejected_ballots: Vec<Option<i16>>,
    rejected_message_tags: Vec<Option<i64>>,
    probe_ids: Vec<i64>,
    probe_cast_at: Vec<OffsetDateTime>,
    redelivered: bool,
    unannounced: bool,
}

impl Batch {
    /// The definition that votes on a poll were judged by; version 0 says that there was no such poll. Once for
    /// each poll.
    pub fn judged_by(&mut self, poll: PollId, version: i32) {
        self.judged_polls.push(poll.0);
        self.judged_versions.push(version);
    }

    /// A vote that counts unless it has counted already.
    pub fn vote(&mut self, message: Uuid, vote: &Vote) {
        self.vote_keys.push(vote.key.0);
        self.vote_messages.push(message);
        self.vote_voters.push(vote.voter.ledger_column());
        self.vote_cast_at.push(vote.cast_at.into());
        self.vote_polls.push(vote.poll.0);
        self.vote_contestants.push(vote.contestant.0);
        if vote.ballot.is_some() {
            // What votes before it do not have is NULL; after the last ballot, the server takes it for NULL.
            let before = self.vote_keys.len() - 1;
            self.vote_ballots.resize(before, None);
            self.vote_message_tags.resize(before, None);
            self.vote_id_tags.resize(before, None);
            self.vote_ballots.push(vote.ballot);
            self.vote_message_tags.push(vote.message_tag.map(|tag| tag.0));
            self.vote_id_tags.push(vote.id_tag.map(|tag| tag.0));
        }
    }

    /// A message that does not count; unless its key has counted under an earlier definition of the poll: then it
    /// is a duplicate. A late vote is kept whole.
    pub fn rejection(&mut self, message: &Message, rejected: Rejected) {
        let poll = match &message.request {
            Ok(request) => Some(request.poll),
            Err(malformed) => malformed.poll,
        };
        self.rejected_messages.push(message.id);
        self.rejected_voters.push(message.voter.map(Voter::ledger_column));
        self.rejected_id_tags.push(rejected.id_tag.map(|tag| tag.0));
        self.rejected_cast_at.push(message.sent_at.into());
        self.rejected_polls.push(poll);
        self.rejected_reasons.push(rejected.reason.name());
        self.rejected_keys.push(rejected.key.map(|key| key.0));
        if let Some(late) = rejected.late {
            let before = self.rejected_keys.len() - 1;
            self.rejected_contestants.resize(before, None);
            self.rejected_ballots.resize(before, None);
            self.rejected_message_tags.resize(before, None);
            self.rejected_contestants.push(Some(late.contestant.0));
            self.rejected_ballots.push(late.ballot);
            self.rejected_message_tags.push(late.message_tag.map(|tag| tag.0));
        }
    }

    /// A probe, and when the queue says that it was sent. It is none of the batch's messages.
    pub fn probe(&mut self, probe: ProbeId, cast_at: Timestamp) {
        self.probe_ids.push(probe.0);
        self.probe_cast_at.push(cast_at.into());
    }

    /// Signs that a batch before this one has failed: a message of this one was delivered before; an announcement of the
    /// function that counts it has failed since its last count.
    pub fn signs(&mut self, redelivered: bool, unannounced: bool) {
        (self.redelivered, self.unannounced) = (redelivered, unannounced);
    }

    /// The voters of its votes, also of those that have been counted before.
    pub fn voters(&self) -> Voters {
        let mut voters = Voters::new();
        for (&poll, &voter) in self.vote_polls.iter().zip(&self.vote_voters) {
            voters.entry(PollId(poll)).or_default().push(voter);
        }
        voters
    }

    /// Votes of each contestant of each poll, if all of them count.
    fn added(&self) -> BTreeMap<(i32, i16), i64> {
        let mut added = BTreeMap::new();
        for (&poll, &contestant) in self.vote_polls.iter().zip(&self.vote_contestants) {
            *added.entry((poll, contestant)).or_default() += 1;
        }
        added
    }

    /// Messages in it, without probes.
    pub fn len(&self) -> usize {
        self.vote_keys.len() + self.rejected_messages.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a batch.
#[derive(Debug)]
pub enum Outcome {
    /// It is in the ledger.
    Counted(Counted),
    /// A poll's definition has changed since the batch was judged. Nothing was done: judge it again.
    Stale,
}

/// A committed batch; the default: an empty one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Votes counted now.
    pub counted: u64,
    /// Rejections recorded now, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Absolute totals: of the contestants it added to, where all of it counted now; else of all contestants of
    /// every poll in it.
    pub tallies: BTreeMap<PollId, Tally>,
}

impl Ledger {
    /// Counts a batch: one round trip, one transaction, on disk when it is answered. Idempotent: what has been counted
    /// or recorded already is left as it is, and the totals are answered all the same.
    ///
    /// # Errors
    /// [`Error::Outage`] or [`Error::Defect`]; then the batch may or may not have been committed.
    pub async fn count(&self, batch: &Batch) -> Result<Outcome, Error> {
        let sql = "/* count_votes */ CALL count_votes($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, \
                   $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28)";
        let added = batch.added();
        let (added_polls, added_contestants): (Vec<i32>, Vec<i16>) = added.keys().copied().unzip();
        let added_votes: Vec<i64> = added.into_values().collect();
        let query = sqlx::query(sql)
            .bind(&batch.judged_polls)
            .bind(&batch.judged_versions)
            .bind(&batch.vote_keys)
            .bind(&batch.vote_messages)
            .bind(&batch.vote_voters)
            .bind(&batch.vote_cast_at)
            .bind(&batch.vote_polls)
            .bind(&batch.vote_contestants)
            .bind(&batch.vote_ballots)
            .bind(&batch.vote_message_tags)
            .bind(&batch.vote_id_tags)
            .bind(added_polls)
            .bind(added_contestants)
            .bind(added_votes)
            .bind(&batch.rejected_messages)
            .bind(&batch.rejected_voters)
            .bind(&batch.rejected_id_tags)
            .bind(&batch.rejected_cast_at)
            .bind(&batch.rejected_polls)
            .bind(&batch.rejected_reasons)
            .bind(&batch.rejected_keys)
            .bind(&batch.rejected_contestants)
            .bind(&batch.rejected_ballots)
            .bind(&batch.rejected_message_tags)
            .bind(&batch.probe_ids)
            .bind(&batch.probe_cast_at)
            .bind(batch.redelivered)
            .bind(batch.unannounced);
        let row = self.fetch_all(query).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
        if !row.try_get::<bool, _>("current")? {
            return Ok(Outcome::Stale);
        }
        let mut rejected = BTreeMap::new();
        for reason in row.try_get::<Option<Vec<String>>, _>("recorded_reasons")?.unwrap_or_default() {
            *rejected.entry(reason).or_default() += 1;
        }
        let counted = row.try_get::<i64, _>("counted")?.unsigned_abs();
        Ok(Outcome::Counted(Counted { counted, rejected, tallies: tallies(&row)? }))
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
