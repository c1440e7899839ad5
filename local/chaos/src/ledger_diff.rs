//! Compares the ledger, row by row, with the driver's book.
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    book::{self, Book, Count, Key, Reason},
    history::History,
    polls::Poll,
};

/// Rows of rejections of one voter in one poll.
const ROWS_MAX: i64 = 1_000;

/// Examples reported for each kind of difference.
const EXAMPLES_MAX: usize = 5;

/// Totals of the ledger and its differences from the book.
#[derive(Debug, Default)]
pub struct LedgerDiff {
    /// Number of rows of votes.
    pub counted: u64,
    /// Number of rows of rejections, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Votes that are, by the book, duplicates of a counted vote.
    pub duplicates: u64,
    /// Votes cast in time that arrived after their poll's certificate, by poll.
    pub early: BTreeMap<i64, u64>,
    /// The same, of single messages that the queue had withheld.
    pub withheld_late: u64,
    /// Keys of ballots that another vote has used, as the rejections say.
    pub used_ballots: BTreeSet<Key>,
    /// Number and first examples of each kind of difference.
    pub differences: BTreeMap<&'static str, (u64, Vec<String>)>,
}

impl LedgerDiff {
    /// Reads all votes and rejections of the run. `withheld` are single messages that the queue withheld. The SQL
    /// is here and not in `shared`, so that it is independent of the code under test.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn make(
        database_url: &str,
        book: &mut Book,
        withheld: &[Uuid],
        history: Option<History>,
    ) -> Result<Self> {
        let mut connection = PgConnection::connect(database_url).await?;
        let mut ledger_diff = Self::default();
        ledger_diff
            .rejections(&mut connection, book, withheld)
            .await
            .context("the rejections cannot be read")?;
        ledger_diff.votes(&mut connection, book, history).await.context("the votes cannot be read")?;
        if let Some(history) = history {
            ledger_diff.history(&mut connection, history).await.context("the history cannot be read")?;
        }
        Ok(ledger_diff)
    }

    async fn rejections(
        &mut self,
        connection: &mut PgConnection,
        book: &mut Book,
        withheld: &[Uuid],
    ) -> Result<()> {
        let polls = by_id(book.polls());
        book.rejected.sort_unstable();
        book.either.sort_unstable_by_key(|either| either.message);
        let mut seen = vec![false; book.rejected.len()];
        let mut decided = vec![false; book.either.len()];
        let sql = "SELECT message_id, place, reason, cast_at, poll::bigint AS poll FROM rejections";
        let mut rows = sqlx::query(sql).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            let (id, name): (Uuid, String) = (row.try_get("message_id")?, row.try_get("reason")?);
            let reason = book::reason(&name);
            let message = book::message_key(id, row.try_get("place")?);
            if name == book::LATE {
                if let Ok(index) = book.either.binary_search_by_key(&message, |either| either.message) {
                    decided[index] = true;
                }
                self.note_late(row.try_get("poll")?, withheld.contains(&id));
            } else if let Ok(index) = book.rejected.binary_search_by_key(&message, |(message, _)| *message) {
                seen[index] = true;
                let expected = book.rejected[index].1;
                if reason != Some(expected) {
                    let expected = reason_name(expected);
                    self.differ("rejected for another reason", || {
                        format!("message {id}: {name}, not {expected}")
                    });
                }
            } else if let Ok(index) = book.either.binary_search_by_key(&message, |either| either.message) {
                decided[index] = true;
                let either = book.either[index];
                if !either.allows(&name) {
                    let expected = either.reason.map_or(book::BALLOT_USED, reason_name);
                    self.differ("rejected for another reason", || {
                        format!("message {id}: {name}, not {expected}")
                    });
                }
                if name == book::BALLOT_USED {
                    self.used_ballots.insert(either.count.key);
                }
                if name == book::BALLOT_USED || !either.can_count() {
                    *self.rejected.entry(name).or_default() += 1;
                    continue;
                }
                let cast_at = millis(row.try_get("cast_at")?);
                let poll = row
                    .try_get::<Option<i64>, _>("poll")?
                    .and_then(|poll| polls.get(&i32::try_from(poll).ok()?));
                if poll.is_some_and(|(_, poll)| poll.holds(cast_at, cast_at) == Some(true)) {
                    self.differ("rejected although cast in time", || {
                        format!("message {id}, cast at {cast_at}: {name}")
                    });
                }
            } else {
                self.differ("rejected instead of counted", || format!("message {id}: {name}"));
            }
            *self.rejected.entry(name).or_default() += 1;
        }
        drop(rows);
        let mut uncounted = self.counted_without_row(connection).await?;
        for ((message, reason), _) in book.rejected.iter().zip(seen).filter(|(_, seen)| !seen) {
            let reason = reason_name(*reason);
            if let Some(left) = uncounted.get_mut(reason).filter(|left| **left > 0) {
                *left -= 1;
                *self.rejected.entry(reason.to_owned()).or_default() += 1;
                continue;
            }
            self.differ("to be rejected, and not rejected", || format!("message …{message:016x}: {reason}"));
        }
        // A message that was not rejected must count or be a duplicate of a counted one.
        let counts = book.either.iter().zip(decided).filter(|(_, rejected)| !rejected);
        book.counts.extend(counts.map(|(either, _)| either.count));
        Ok(())
    }

    /// Returns the rejections that are counted and have no row, by reason. Only a voter with the maximum of rows for a
    /// poll may have such rejections; they may be counted again when they are redelivered.
    async fn counted_without_row(&mut self, connection: &mut PgConnection) -> Result<BTreeMap<String, i64>> {
        let sql = "SELECT poll, reason, count - (SELECT count(*) FROM rejections \
                           WHERE rejections.poll = counted.poll AND rejections.reason = counted.reason) AS beyond, \
                       poll IN (SELECT poll FROM rejections GROUP BY poll, voter HAVING count(*) >= $1) AS has_full \
                   FROM rejection_counts AS counted";
        let mut beyond = BTreeMap::new();
        for row in sqlx::query(sql).bind(ROWS_MAX).fetch_all(connection).await? {
            let (reason, count): (String, i64) = (row.try_get("reason")?, row.try_get("beyond")?);
            if count < 0 || count > 0 && !row.try_get::<bool, _>("has_full")? {
                let poll: i32 = row.try_get("poll")?;
                self.differ("rejections counted, and not recorded", || {
                    format!("poll {poll}: {reason}: {count}")
                });
            }
            *beyond.entry(reason).or_default() += count;
        }
        Ok(beyond)
    }

    /// Records a vote that was cast in time and is in no certificate. Only a message withheld by the queue may be.
    fn note_late(&mut self, poll: Option<i64>, is_withheld: bool) {
        if is_withheld {
            self.withheld_late += 1;
        } else {
            *self.early.entry(poll.unwrap_or_default()).or_default() += 1;
        }
    }

    async fn votes(
        &mut self,
        connection: &mut PgConnection,
        book: &mut Book,
        history: Option<History>,
    ) -> Result<()> {
        let polls = by_id(book.polls());
        let messages = book.counts.len() as u64;
        // Two messages of one vote may name different contestants; either may count.
        book.counts.sort_unstable();
        book.counts.dedup();
        let counts = &book.counts;
        let mut seen = vec![false; counts.len()];
        let mut used_ballots = std::mem::take(&mut self.used_ballots);
        let sql = "SELECT key, poll, contestant, count, cast_at FROM votes WHERE poll IS DISTINCT FROM $1";
        let mut rows = sqlx::query(sql).bind(history.map(|history| history.poll)).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            self.counted += 1;
            let taps = row.try_get("count")?;
            let id: Uuid = row.try_get("key")?;
            let (poll, contestant): (i32, i16) = (row.try_get("poll")?, row.try_get("contestant")?);
            let cast_at = millis(row.try_get("cast_at")?);
            let Some(&(index, poll)) = polls.get(&poll) else {
                self.differ("counted in an unknown poll", || format!("vote {id}: poll {poll}"));
                continue;
            };
            if poll.holds(cast_at, cast_at) == Some(false) {
                self.differ("counted although cast outside the window", || {
                    format!("vote {id}, cast at {cast_at}")
                });
            }
            let group = group(counts, book::key(id));
            used_ballots.remove(&book::key(id));
            let expected = Count { key: book::key(id), poll: index, contestant, taps };
            if counts[group.clone()].contains(&expected) {
                seen[group].fill(true);
            } else if group.is_empty() {
                self.differ("counted, but never sent or to be rejected", || format!("vote {id}"));
            } else {
                seen[group].fill(true);
                self.differ("counted for another contestant or number of taps", || {
                    format!("vote {id}: {expected:?}")
                });
            }
        }
        let mut votes = 0;
        let mut index = 0;
        while index < counts.len() {
            let group = group(counts, counts[index].key);
            votes += 1;
            if !seen[index] {
                let count = counts[index];
                self.differ("accepted, but neither counted nor rejected", || format!("{count:?}"));
            }
            index = group.end;
        }
        self.duplicates = messages - votes;
        for key in used_ballots {
            self.differ("rejected for a ballot that no vote has used", || format!("vote …{key:016x}"));
        }
        Ok(())
    }

    /// Checks that the earlier poll has its votes and no others.
    async fn history(&mut self, connection: &mut PgConnection, history: History) -> Result<()> {
        let sql = "SELECT count(*) FROM votes WHERE poll = $1";
        let votes: i64 = sqlx::query_scalar(sql).bind(history.poll).fetch_one(connection).await?;
        if votes.cast_unsigned() != history.votes {
            self.differ("an earlier poll has changed", || format!("{votes} votes, not {}", history.votes));
        }
        Ok(())
    }

    fn differ(&mut self, kind: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.differences.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example());
        }
    }
}

/// Returns the index range of one vote's entries in the sorted book.
fn group(counts: &[Count], key: Key) -> std::ops::Range<usize> {
    let start = counts.partition_point(|count| count.key < key);
    let length = counts[start..].iter().take_while(|count| count.key == key).count();
    start..start + length
}

fn by_id(polls: &[Poll]) -> BTreeMap<i32, (u16, Poll)> {
    polls.iter().zip(0..).map(|(poll, index)| (poll.id, (index, *poll))).collect()
}

fn reason_name(reason: Reason) -> &'static str {
    domain::Rejection::ALL[usize::from(reason)].name()
}

fn millis(moment: OffsetDateTime) -> i64 {
    moment.unix_timestamp() * 1_000 + i64::from(moment.millisecond())
}
