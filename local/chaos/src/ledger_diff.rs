//! Holds the ledger, row by row, against the driver's book.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures_util::TryStreamExt as _;
use sqlx::{Connection as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    book::{self, Book, Count, Key, Reason},
    polls::Poll,
};

/// Examples of each kind of difference that are told.
const EXAMPLES_MAX: usize = 5;

/// What is in the ledger, and how it differs from the book.
#[derive(Debug, Default)]
pub struct LedgerDiff {
    /// Rows of votes.
    pub counted: u64,
    /// Rows of rejections, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Messages that the book takes for duplicates of a vote that counts.
    pub duplicates: u64,
    /// Votes that came behind their poll's certificate though they were cast in time, by poll.
    pub early: BTreeMap<i64, u64>,
    /// The same, where the queue had withheld them by themselves.
    pub withheld_late: u64,
    /// Differences, by what they are: how many, and the first of them.
    pub differences: BTreeMap<&'static str, (u64, Vec<String>)>,
}

impl LedgerDiff {
    /// Reads all votes and rejections of the run. `withheld`: messages that the queue withheld by themselves. The SQL is here and not in `shared`: it is to be another reading of
    /// the ledger than the one under test.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn make(database_url: &str, book: &mut Book, withheld: &[Uuid]) -> Result<Self> {
        let mut connection = PgConnection::connect(database_url).await?;
        let mut ledger_diff = Self::default();
        ledger_diff
            .rejections(&mut connection, book, withheld)
            .await
            .context("the rejections cannot be read")?;
        ledger_diff.votes(&mut connection, book).await.context("the votes cannot be read")?;
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
        let mut met = vec![false; book.rejected.len()];
        let mut decided = vec![false; book.either.len()];
        let sql = "SELECT message_id, reason, cast_at, poll FROM rejections";
        let mut rows = sqlx::query(sql).fetch(connection);
        while let Some(row) = rows.try_next().await? {
            let (id, name): (Uuid, String) = (row.try_get("message_id")?, row.try_get("reason")?);
            let reason = book::reason(&name);
            let message = book::message_key(id);
            if name == book::LATE {
                if let Ok(place) = book.either.binary_search_by_key(&message, |either| either.message) {
                    decided[place] = true;
                }
                self.note_late(row.try_get("poll")?, withheld.contains(&id));
            } else if let Ok(place) = book.rejected.binary_search_by_key(&message, |(message, _)| *message) {
                met[place] = true;
                let expected = book.rejected[place].1;
                if reason != Some(expected) {
                    let expected = reason_name(expected);
                    self.differ("rejected for another reason", || {
                        format!("message {id}: {name}, not {expected}")
                    });
                }
            } else if let Ok(place) = book.either.binary_search_by_key(&message, |either| either.message) {
                decided[place] = true;
                let expected = book.either[place].reason;
                if reason != Some(expected) {
                    let expected = reason_name(expected);
                    self.differ("rejected for another reason", || {
                        format!("message {id}: {name}, not {expected}")
                    });
                }
                let cast_at = millis(row.try_get("cast_at")?);
                let poll = row
                    .try_get::<Option<i64>, _>("poll")?
                    .and_then(|poll| polls.get(&i32::try_from(poll).ok()?));
                if poll.is_some_and(|(_, poll)| poll.holds(cast_at, cast_at) == Some(true)) {
                    self.differ("rejected though in time", || {
                        format!("message {id}, cast at {cast_at}: {name}")
                    });
                }
            } else {
                self.differ("rejected, and should have counted", || format!("message {id}: {name}"));
            }
            *self.rejected.entry(name).or_default() += 1;
        }
        drop(rows);
        for ((message, reason), _) in book.rejected.iter().zip(met).filter(|(_, met)| !met) {
            let reason = reason_name(*reason);
            self.differ("neither rejected nor anything else", || {
                format!("message …{message:016x}: {reason}")
            });
        }
        // Who was not rejected must count, or be the duplicate of one that does.
        let counts = book.either.iter().zip(decided).filter(|(_, rejected)| !rejected);
        book.counts.extend(counts.map(|(either, _)| either.count));
        Ok(())
    }

    /// A vote that was cast in time and is in no certificate, for which only the queue may be to blame.
    fn note_late(&mut self, poll: Option<i64>, is_withheld: bool) {
        if is_withheld {
            self.withheld_late += 1;
        } else {
            *self.early.entry(poll.unwrap_or_default()).or_default() += 1;
        }
    }

    async fn votes(&mut self, connection: &mut PgConnection, book: &mut Book) -> Result<()> {
        let polls = by_id(book.polls());
        let messages = book.counts.len() as u64;
        // Two messages of one vote may be for different contestants: either may be the one that counts.
        book.counts.sort_unstable();
        book.counts.dedup();
        let counts = &book.counts;
        let mut met = vec![false; counts.len()];
        let mut rows = sqlx::query("SELECT key, poll, contestant, cast_at FROM votes").fetch(connection);
        while let Some(row) = rows.try_next().await? {
            self.counted += 1;
            let id: Uuid = row.try_get("key")?;
            let (poll, contestant): (i32, i16) = (row.try_get("poll")?, row.try_get("contestant")?);
            let cast_at = millis(row.try_get("cast_at")?);
            let Some(&(place, poll)) = polls.get(&poll) else {
                self.differ("counted in a poll that is not of this run", || {
                    format!("vote {id}: poll {poll}")
                });
                continue;
            };
            if poll.holds(cast_at, cast_at) == Some(false) {
                self.differ("counted though out of time", || format!("vote {id}, cast at {cast_at}"));
            }
            let group = group(counts, book::key(id));
            let expected = Count { key: book::key(id), poll: place, contestant };
            if counts[group.clone()].contains(&expected) {
                met[group].fill(true);
            } else if group.is_empty() {
                self.differ("counted, and nobody sent it or it had to be rejected", || format!("vote {id}"));
            } else {
                met[group].fill(true);
                self.differ("counted for somebody else", || format!("vote {id}: {expected:?}"));
            }
        }
        let mut votes = 0;
        let mut place = 0;
        while place < counts.len() {
            let group = group(counts, counts[place].key);
            votes += 1;
            if !met[place] {
                let count = counts[place];
                self.differ("accepted, and neither counted nor rejected", || format!("{count:?}"));
            }
            place = group.end;
        }
        self.duplicates = messages - votes;
        Ok(())
    }

    fn differ(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        let (count, examples) = self.differences.entry(what).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example());
        }
    }
}

/// The places of one vote's entries in the sorted book.
fn group(counts: &[Count], key: Key) -> std::ops::Range<usize> {
    let start = counts.partition_point(|count| count.key < key);
    let length = counts[start..].iter().take_while(|count| count.key == key).count();
    start..start + length
}

fn by_id(polls: &[Poll]) -> BTreeMap<i32, (u16, Poll)> {
    polls.iter().zip(0..).map(|(poll, place)| (poll.id, (place, *poll))).collect()
}

fn reason_name(reason: Reason) -> &'static str {
    domain::Rejection::ALL[usize::from(reason)].name()
}

fn millis(moment: OffsetDateTime) -> i64 {
    moment.unix_timestamp() * 1_000 + i64::from(moment.millisecond())
}
