use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::{Error, Ledger, journal::append_entry, later::late_votes, take_definition_lock};
use domain::{Action, ContestantNumber, LateVotes, Order, PollId, Tally};

/// A poll's figures in the ledger, from one snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The votes, added up row by row.
    pub ledger: Tally,
    /// The counters.
    pub tally: Tally,
    /// The rows of votes.
    pub ledger_casts: u64,
    /// The counters of rows.
    pub tally_casts: u64,
    /// Rejected messages that name this poll, by reason. A counter, since not every rejection has a row.
    pub rejected: BTreeMap<String, u64>,
    /// All rejected messages that name no existing poll, by reason.
    pub unattributed: BTreeMap<String, u64>,
    /// The stored votes that arrived after the poll's certificate, counted one by one.
    pub late: Option<LateVotes>,
}

/// A poll's counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The votes in the tally: the sum of the counts.
    pub votes: u64,
    /// The rows of votes.
    pub casts: u64,
    /// Rejected messages that name this poll, by reason.
    pub rejected: BTreeMap<String, u64>,
}

impl Ledger {
    /// Counts a poll's votes one by one and reads its tally, in one snapshot. It blocks no vote. `limit` bounds the
    /// whole call, which may take longer than the timeout of other calls.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn audit(&self, poll: PollId, limit: Duration) -> Result<Audit, Error> {
        let rejected_sql = "/* audit */ SELECT poll = $1 AS attributed, reason, sum(count)::bigint AS count \
            FROM rejection_counts WHERE poll IN ($1, 0) GROUP BY 1, 2";
        let late_sql = "/* audit */ SELECT sum(count) AS late_count, min(arrived_at) AS late_first_at, \
            max(arrived_at) AS late_last_at FROM late_votes WHERE poll = $1";
        self.within(limit, async {
            let mut connection = self.connection().await?;
            let mut audit = Audit::default();
            let mut snapshot =
                connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            extend_timeout(&mut snapshot, limit).await?;
            for Count { contestant, ledger, tally } in count_one_by_one(&mut snapshot, poll).await? {
                audit.ledger.insert(ContestantNumber(contestant), ledger.votes.unsigned_abs());
                audit.tally.insert(ContestantNumber(contestant), tally.votes.unsigned_abs());
                audit.ledger_casts += ledger.casts.unsigned_abs();
                audit.tally_casts += tally.casts.unsigned_abs();
            }
            for row in sqlx::query(rejected_sql).bind(poll.0).fetch_all(&mut *snapshot).await? {
                let counts =
                    if row.try_get("attributed")? { &mut audit.rejected } else { &mut audit.unattributed };
                counts.insert(row.try_get("reason")?, row.try_get::<i64, _>("count")?.unsigned_abs());
            }
            let late = sqlx::query(late_sql).bind(poll.0).fetch_one(&mut *snapshot).await?;
            audit.late = late_votes(&late)?;
            snapshot.commit().await?;
            self.keep(connection);
            Ok(audit)
        })
        .await
    }

    /// Returns a poll's counters. It reads no votes.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn progress(&self, poll: PollId) -> Result<Progress, Error> {
        let sql = "/* progress */ SELECT NULL AS reason, coalesce(sum(votes), 0)::bigint AS count, \
                coalesce(sum(casts), 0)::bigint AS casts FROM tallies WHERE poll = $1 \
            UNION ALL SELECT reason, count, 0 FROM rejection_counts WHERE poll = $1";
        let mut progress = Progress::default();
        for row in self.fetch_all(sqlx::query(sql).bind(poll.0)).await? {
            let number = |column| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
            match row.try_get::<Option<String>, _>("reason")? {
                None => (progress.votes, progress.casts) = (number("count")?, number("casts")?),
                Some(reason) => drop(progress.rejected.insert(reason, number("count")?)),
            }
        }
        Ok(progress)
    }

    /// Resets a poll's tally to its votes, and moves the poll to a new epoch, so that no earlier total reaches its
    /// ranking. The rebuild is journalled. Idempotent. Returns `false` if the poll does not exist.
    ///
    /// Counting continues meanwhile: every batch adds the same numbers to votes and tally, so the drift found in one
    /// snapshot stays valid until it is corrected. Only that last step takes the definition lock, for milliseconds.
    ///
    /// # Errors [`Error::Outage`], also after `limit`; [`Error::Defect`]. The rebuild may be done all the same, if
    /// only the answer to the commit was lost.
    pub async fn rebuild(&self, poll: PollId, who: &str, limit: Duration) -> Result<bool, Error> {
        // Without this lock, two concurrent rebuilds would correct a drift twice. Locks of two numbers do not
        // conflict with the definition lock, which has one.
        let lock_sql = "/* rebuild */ SELECT pg_advisory_xact_lock(1, $1)";
        let repair_sql = "/* rebuild */ INSERT INTO tallies AS tally (poll, contestant, votes, casts) \
            SELECT $1, found.* FROM unnest($2::smallint[], $3::bigint[], $4::bigint[]) AS found (contestant, votes, casts) \
            ORDER BY contestant ON CONFLICT (poll, contestant) DO UPDATE \
                SET votes = tally.votes + excluded.votes, casts = tally.casts + excluded.casts";
        let epoch_sql = "/* rebuild */ UPDATE polls SET epoch = epoch + 1, version = version + 1 WHERE id = $1 RETURNING version";
        self.within(limit, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            extend_timeout(&mut transaction, limit).await?;
            sqlx::query(lock_sql).bind(poll.0).execute(&mut *transaction).await?;
            let drifts = drifts(&count_one_by_one(&mut transaction, poll).await?);
            take_definition_lock(&mut transaction).await?;
            let Some(moved) = sqlx::query(epoch_sql).bind(poll.0).fetch_optional(&mut *transaction).await?
            else {
                return Ok(false);
            };
            let order = Order::new(who, Action::Rebuild);
            let repaired = json!({"drift": {"from": drifts.journalled(), "to": {}}});
            append_entry(&mut transaction, &order, poll, moved.try_get("version")?, &repaired).await?;
            sqlx::query(repair_sql)
                .bind(poll.0)
                .bind(drifts.contestants)
                .bind(drifts.votes)
                .bind(drifts.casts)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            self.keep(connection);
            Ok(true)
        })
        .await
    }
}

/// The corrections of the counters that differ from the ledger, by contestant.
#[derive(Default)]
struct Drifts {
    contestants: Vec<i16>,
    votes: Vec<i64>,
    casts: Vec<i64>,
}

impl Drifts {
    /// Returns the corrections of the votes in the journal's format.
    fn journalled(&self) -> Value {
        let drifts = self.contestants.iter().zip(&self.votes).filter(|(_, drift)| **drift != 0);
        drifts.map(|(number, drift)| (number.to_string(), json!(drift))).collect()
    }
}

fn drifts(counts: &[Count]) -> Drifts {
    let mut drifts = Drifts::default();
    for Count { contestant, ledger, tally } in counts.iter().filter(|count| count.ledger != count.tally) {
        drifts.contestants.push(*contestant);
        drifts.votes.push(ledger.votes - tally.votes);
        drifts.casts.push(ledger.casts - tally.casts);
    }
    drifts
}

/// A contestant's votes, counted one by one, and the counters' values.
struct Count {
    contestant: i16,
    ledger: Sums,
    tally: Sums,
}

#[derive(PartialEq, Eq)]
struct Sums {
    /// The sum of the counts.
    votes: i64,
    /// The rows.
    casts: i64,
}

/// Counts votes and reads counters in one statement, so in one snapshot.
async fn count_one_by_one(connection: &mut PgConnection, poll: PollId) -> Result<Vec<Count>, sqlx::Error> {
    let sql = "/* count_one_by_one */ SELECT contestant, \
            coalesce(ledger.votes, 0) AS ledger_votes, coalesce(ledger.casts, 0) AS ledger_casts, \
            coalesce(tally.votes, 0) AS tally_votes, coalesce(tally.casts, 0) AS tally_casts \
        FROM (SELECT contestant, sum(count) AS votes, count(*) AS casts FROM votes WHERE poll = $1 GROUP BY contestant) \
            AS ledger \
        FULL JOIN (SELECT contestant, votes, casts FROM tallies WHERE poll = $1) AS tally USING (contestant)";
    let rows = sqlx::query(sql).bind(poll.0).fetch_all(connection).await?;
    let count = |row: &PgRow| {
        let sums = |votes, casts| -> Result<Sums, sqlx::Error> {
            Ok(Sums { votes: row.try_get(votes)?, casts: row.try_get(casts)? })
        };
        Ok(Count {
            contestant: row.try_get("contestant")?,
            ledger: sums("ledger_votes", "ledger_casts")?,
            tally: sums("tally_votes", "tally_casts")?,
        })
    };
    rows.iter().map(count).collect()
}

/// Sets the server's statement timeout to `limit` until the transaction ends.
pub(super) async fn extend_timeout(
    transaction: &mut PgConnection,
    limit: Duration,
) -> Result<(), sqlx::Error> {
    let sql = "/* allow */ SELECT set_config('statement_timeout', $1, true)";
    sqlx::query(sql).bind(format!("{}ms", limit.as_millis())).execute(transaction).await?;
    Ok(())
}
