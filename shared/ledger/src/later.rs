//! Late votes, which arrived after their poll's certificate, and the later certificates that include them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use sha2::{Digest, Sha256, digest::common::hazmat::SerializableState};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use super::{
    Error, Ledger,
    audit::extend_timeout,
    change::{LockedPoll, lock_poll},
    journal::{append_entry, conflict},
    polls::timestamp,
    supplement::{COLUMNS, new_edition, read_lines, resume_hash},
};
use domain::{Basis, ContestantNumber, LateVotes, LaterCertificate, Order, PollId};

/// The outcome of issuing a later certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    /// The certificate that includes all late votes so far. It may be unfinished.
    Certificate {
        /// The number, from 2.
        number: i32,
        /// Whether this call issued it.
        is_new: bool,
    },
    /// The poll has no first certificate.
    NotCertified,
    /// The poll has no late votes.
    NoLateVotes,
}

impl Ledger {
    /// Issues a certificate that includes all late votes so far, and journals a new one. Idempotent until another
    /// late vote arrives. The call takes the definition lock, so no batch in flight can add a late vote with a
    /// number below the last. The poll's definition and version stay unchanged. Returns `None` if the poll does not
    /// exist.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the order is for another version; [`Error::Outage`], [`Error::Defect`].
    pub async fn issue_later_certificate(
        &self,
        poll: PollId,
        order: &Order,
    ) -> Result<Option<Issued>, Error> {
        self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            let Some(LockedPoll { poll: found, .. }) = lock_poll(&mut transaction, poll).await? else {
                return Ok(None);
            };
            if let Some(conflict) = conflict(&mut transaction, order, &found).await? {
                return Err(Error::Conflict(conflict));
            }
            let issued = issue(&mut transaction, poll).await?;
            if let Issued::Certificate { number, is_new: true } = issued {
                let changes = json!({"certificate": {"from": number - 1, "to": number}});
                append_entry(&mut transaction, order, poll, found.version, &changes).await?;
            }
            transaction.commit().await?;
            self.keep(connection);
            Ok(Some(issued))
        })
        .await
    }

    /// Adds at most `rows` votes to the digest of a poll's oldest unfinished later certificate, and returns whether
    /// all are finished. Constant memory; idempotent like [`Ledger::advance_supplement`], which comes first. `limit`
    /// bounds the whole call.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn advance_later_certificate(
        &self,
        poll: PollId,
        rows: u32,
        limit: Duration,
    ) -> Result<bool, Error> {
        self.within(limit, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            extend_timeout(&mut transaction, limit).await?;
            let sql = "/* seal_later */ SELECT number, last_late, hashed_to, hash_state FROM later_certificates \
                       WHERE poll = $1 AND certified_at IS NULL ORDER BY number LIMIT 1 FOR UPDATE";
            let row = sqlx::query(sql).bind(poll.0).fetch_optional(&mut *transaction).await?;
            if let Some(row) = &row {
                hash_piece(&mut transaction, poll, rows, row).await?;
            }
            transaction.commit().await?;
            self.keep(connection);
            Ok(row.is_none())
        })
        .await
    }

    /// Returns the finished later certificates of a poll, by number.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn later_certificates(&self, poll: PollId) -> Result<Vec<LaterCertificate>, Error> {
        let sql = "/* later_certificates */ SELECT * FROM later_certificates \
                   WHERE poll = $1 AND certified_at IS NOT NULL ORDER BY number";
        let rows = self.fetch_all(sqlx::query(sql).bind(poll.0)).await?;
        Ok(rows.iter().map(later_certificate).collect::<Result<_, _>>()?)
    }
}

async fn issue(transaction: &mut PgConnection, poll: PollId) -> Result<Issued, sqlx::Error> {
    let sql = "/* issue_later_certificate */ SELECT frozen_at IS NOT NULL AS is_certified, \
                   (SELECT max(late_votes.number) FROM late_votes WHERE late_votes.poll = id) AS last_late, \
                   later.number, later.last_late AS included \
               FROM polls LEFT JOIN LATERAL ( \
                   SELECT number, last_late FROM later_certificates WHERE later_certificates.poll = id \
                   ORDER BY number DESC LIMIT 1) AS later ON true \
               WHERE id = $1";
    let row = sqlx::query(sql).bind(poll.0).fetch_one(&mut *transaction).await?;
    if !row.try_get::<bool, _>("is_certified")? {
        return Ok(Issued::NotCertified);
    }
    let Some(last_late) = row.try_get::<Option<i64>, _>("last_late")? else {
        return Ok(Issued::NoLateVotes);
    };
    let number: Option<i32> = row.try_get("number")?;
    if let Some(number) = number
        && row.try_get::<Option<i64>, _>("included")? == Some(last_late)
    {
        return Ok(Issued::Certificate { number, is_new: false });
    }
    let number = number.unwrap_or(1) + 1;
    let sql = "/* issue_later_certificate */ INSERT INTO later_certificates (poll, number, basis, last_late) \
               VALUES ($1, $2, $3, $4)";
    let insert = sqlx::query(sql).bind(poll.0).bind(number).bind(Basis::Forced.name()).bind(last_late);
    insert.execute(transaction).await?;
    Ok(Issued::Certificate { number, is_new: true })
}

async fn hash_piece(
    transaction: &mut PgConnection,
    poll: PollId,
    rows: u32,
    before: &PgRow,
) -> Result<(), sqlx::Error> {
    let (number, last_late): (i32, i64) = (before.try_get("number")?, before.try_get("last_late")?);
    let (after, mut hash) = resume_hash(before)?;
    let late = late_rows(poll, last_late);
    // Each of the two tables is read in the order of its key, and no further than the piece. COPY takes no parameters;
    // numbers and UUIDs need no quoting.
    let piece = format!("AND key > '{after}' ORDER BY key LIMIT {rows}");
    let copy = format!(
        "COPY (/* seal_later */ SELECT {COLUMNS} FROM ( \
             (SELECT key, cast_at, voter, contestant, ballot, count FROM votes WHERE poll = {} {piece}) UNION ALL \
             (SELECT key, cast_at, voter, contestant, ballot, count FROM {late} {piece})) AS vote ORDER BY key LIMIT {rows}) \
         TO STDOUT (FORMAT csv)",
        poll.0
    );
    let Some(last) = read_lines(transaction, &copy, &mut hash, |_| Ok(())).await? else {
        return finish(transaction, poll, number, last_late, hash).await;
    };
    let sql = "/* seal_later */ UPDATE later_certificates SET hashed_to = $3, hash_state = $4 \
               WHERE poll = $1 AND number = $2";
    let state = hash.serialize();
    let update = sqlx::query(sql).bind(poll.0).bind(number).bind(last).bind(state.as_slice());
    update.execute(transaction).await?;
    Ok(())
}

async fn finish(
    transaction: &mut PgConnection,
    poll: PollId,
    number: i32,
    last_late: i64,
    hash: Sha256,
) -> Result<(), sqlx::Error> {
    let late = late_rows(poll, last_late);
    let lines =
        format!("COPY (/* seal_later */ SELECT {COLUMNS} FROM {late} ORDER BY key) TO STDOUT (FORMAT csv)");
    let mut late_hash = Sha256::new();
    read_lines(transaction, &lines, &mut late_hash, |_| Ok(())).await?;
    let sql = format!(
        "/* seal_later */ UPDATE later_certificates SET digest = $3, late_digest = $4, hash_state = NULL, \
             certified_at = date_trunc('milliseconds', clock_timestamp()), \
             late_tally = (SELECT jsonb_object_agg(contestant, votes) FROM ( \
                 SELECT contestant, sum(count) AS votes FROM {late} GROUP BY contestant) AS counted), \
             late_first_at = (SELECT min(arrived_at) FROM {late}), \
             late_last_at = (SELECT max(arrived_at) FROM {late}) \
         WHERE poll = $1 AND number = $2"
    );
    let update = sqlx::query(AssertSqlSafe(sql)).bind(poll.0).bind(number);
    let update = update.bind(hash.finalize().as_slice()).bind(late_hash.finalize().as_slice());
    update.execute(&mut *transaction).await?;
    new_edition(transaction, poll).await
}

/// Returns a FROM clause for a poll's late votes up to a number.
fn late_rows(poll: PollId, last_late: i64) -> String {
    format!("late_votes WHERE late_votes.poll = {} AND late_votes.number <= {last_late}", poll.0)
}

fn later_certificate(row: &PgRow) -> Result<LaterCertificate, sqlx::Error> {
    let basis: String = row.try_get("basis")?;
    let tally: Json<BTreeMap<i16, u64>> = row.try_get("late_tally")?;
    let moment = |column| timestamp(row.try_get(column)?);
    Ok(LaterCertificate {
        number: row.try_get("number")?,
        certified_at: moment("certified_at")?,
        basis: Basis::of(&basis)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown basis {basis:?}").into()))?,
        late: LateVotes {
            votes: tally.0.values().sum(),
            first_at: moment("late_first_at")?,
            last_at: moment("late_last_at")?,
        },
        late_tally: tally.0.into_iter().map(|(number, votes)| (ContestantNumber(number), votes)).collect(),
        late_digest: row.try_get("late_digest")?,
        digest: row.try_get("digest")?,
    })
}

/// Decodes the columns `late_count`, `late_first_at` and `late_last_at`. Returns `None` if there are no late votes.
pub(super) fn late_votes(row: &PgRow) -> Result<Option<LateVotes>, sqlx::Error> {
    let votes = row.try_get::<Option<i64>, _>("late_count")?.unwrap_or(0).unsigned_abs();
    let moment = |column| row.try_get::<Option<OffsetDateTime>, _>(column)?.map(timestamp).transpose();
    let (first_at, last_at) = (moment("late_first_at")?, moment("late_last_at")?);
    Ok(first_at.zip(last_at).map(|(first_at, last_at)| LateVotes { votes, first_at, last_at }))
}
