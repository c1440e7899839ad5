use std::time::Duration;

use futures_util::TryStreamExt;
use serde_json::json;
use sha2::{
    Digest, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    Error, Ledger,
    audit::extend_timeout,
    change::{LockedPoll, lock_poll},
    journal::{append_entry, conflict},
};
use domain::{Basis, Order, PollId, Status, Timestamp};

/// The outcome of freezing a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// The poll was frozen by this call.
    Now,
    /// The poll was frozen before.
    Before,
    /// The poll is not closed.
    NotClosed,
}

impl Ledger {
    /// Freezes a closed poll: from the commit on, none of its votes is counted. The call takes the definition lock
    /// and increments the version, so that no batch judged before can count one either. Idempotent. Returns `None`
    /// if the poll does not exist.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn freeze(&self, poll: PollId, basis: Basis) -> Result<Option<Frozen>, Error> {
        self.freeze_by(poll, None, basis, None).await
    }

    /// Freezes a poll like [`Self::freeze`]. If `closes_at` is given and the poll's close has moved, it returns
    /// [`Frozen::NotClosed`]. An order of the crew is journalled.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the order is for another version; [`Error::Outage`], [`Error::Defect`].
    pub async fn freeze_by(
        &self,
        poll: PollId,
        closes_at: Option<Timestamp>,
        basis: Basis,
        order: Option<&Order>,
    ) -> Result<Option<Frozen>, Error> {
        self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            let Some(LockedPoll { poll: found, now, .. }) = lock_poll(&mut transaction, poll).await? else {
                return Ok(None);
            };
            if let Some(order) = order
                && let Some(conflict) = conflict(&mut transaction, order, &found).await?
            {
                return Err(Error::Conflict(conflict));
            }
            let frozen = match (found.frozen_at.is_some(), found.status(now)) {
                (true, _) => Frozen::Before,
                (false, Status::Closed) if closes_at.is_none() || closes_at == found.closes_at => {
                    freeze_poll(&mut transaction, poll, basis).await?;
                    if let Some(order) = order {
                        let changes = json!({"basis": {"from": null, "to": basis.name()}});
                        append_entry(&mut transaction, order, poll, found.version + 1, &changes).await?;
                    }
                    Frozen::Now
                }
                (false, _) => Frozen::NotClosed,
            };
            transaction.commit().await?;
            self.keep(connection);
            Ok(Some(frozen))
        })
        .await
    }

    /// Adds at most `rows` votes to the digest of a frozen poll's certificate, and returns whether the certificate is
    /// finished. Constant memory. Idempotent, also after an unknown outcome: the last key is stored together with the
    /// digest's state. `limit` bounds the whole call.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn advance_certificate(&self, poll: PollId, rows: u32, limit: Duration) -> Result<bool, Error> {
        let done = self
            .within(limit, async {
                let mut connection = self.connection().await?;
                let mut transaction = connection.begin().await?;
                extend_timeout(&mut transaction, limit).await?;
                // The row lock serializes the pieces, since each one depends on the one before.
                let sql = "/* seal */ SELECT hashed_to, hash_state, certified_at IS NOT NULL AS is_done \
                           FROM certificates WHERE poll = $1 FOR UPDATE";
                let row = sqlx::query(sql).bind(poll.0).fetch_one(&mut *transaction).await?;
                if row.try_get("is_done")? {
                    return Ok(true);
                }
                let done = hash_piece(&mut transaction, poll, rows, &row).await?;
                transaction.commit().await?;
                self.keep(connection);
                Ok(done)
            })
            .await?;
        Ok(done)
    }
}

async fn freeze_poll(transaction: &mut PgConnection, poll: PollId, basis: Basis) -> Result<(), sqlx::Error> {
    let sql = "/* freeze */ UPDATE polls SET version = version + 1, \
               frozen_at = date_trunc('milliseconds', clock_timestamp()) WHERE id = $1";
    sqlx::query(sql).bind(poll.0).execute(&mut *transaction).await?;
    let sql = "/* freeze */ INSERT INTO certificates (poll, basis) VALUES ($1, $2)";
    sqlx::query(sql).bind(poll.0).bind(basis.name()).execute(&mut *transaction).await?;
    let sql = "/* freeze */ DELETE FROM closings WHERE poll = $1";
    sqlx::query(sql).bind(poll.0).execute(transaction).await?;
    Ok(())
}

async fn hash_piece(
    transaction: &mut PgConnection,
    poll: PollId,
    rows: u32,
    before: &PgRow,
) -> Result<bool, sqlx::Error> {
    let (after, mut hash) = resume_hash(before)?;
    let sql = "/* seal */ SELECT key AS last FROM ( \
               SELECT key FROM votes WHERE poll = $1 AND key > $2 ORDER BY key LIMIT $3) AS piece \
               ORDER BY key DESC LIMIT 1";
    let last = sqlx::query(sql).bind(poll.0).bind(after).bind(i64::from(rows));
    let Some(last) = last.fetch_optional(&mut *transaction).await? else {
        finish(transaction, poll, hash).await?;
        return Ok(true);
    };
    let last: Uuid = last.try_get("last")?;
    let mut lines = transaction.copy_out_raw(&csv(poll, after, last)).await?;
    while let Some(line) = lines.try_next().await? {
        hash.update(&line);
    }
    drop(lines);
    let sql = "/* seal */ UPDATE certificates SET hashed_to = $2, hash_state = $3 WHERE poll = $1";
    let state = hash.serialize();
    sqlx::query(sql).bind(poll.0).bind(last).bind(state.as_slice()).execute(transaction).await?;
    Ok(false)
}

/// The columns of a vote's line in the digest and in the export: key, time of casting in milliseconds, voter's
/// pseudonym, contestant, ballot.
pub(super) const COLUMNS: &str =
    "key, (extract(epoch FROM cast_at) * 1000)::bigint, voter, contestant, ballot";

/// Returns the COPY statement for the votes of a poll after one key up to and including another, ascending by key.
fn csv(poll: PollId, after: Uuid, last: Uuid) -> String {
    // COPY takes no parameters; numbers and UUIDs need no quoting.
    format!(
        "COPY (/* seal */ SELECT {COLUMNS} FROM votes WHERE poll = {} AND key > '{after}' AND key <= '{last}' ORDER BY key) TO STDOUT (FORMAT csv)",
        poll.0
    )
}

async fn finish(transaction: &mut PgConnection, poll: PollId, hash: Sha256) -> Result<(), sqlx::Error> {
    let sql = "/* seal */ UPDATE certificates SET digest = $2, certified_at = date_trunc('milliseconds', clock_timestamp()), \
                   hash_state = NULL, \
                   tally = (SELECT coalesce(jsonb_object_agg(contestant, votes), '{}') FROM ( \
                       SELECT contestant, count(*) AS votes FROM votes WHERE votes.poll = $1 GROUP BY contestant) AS counted), \
                   voters = (SELECT count(DISTINCT voter) FROM votes WHERE votes.poll = $1), \
                   rejected = (SELECT coalesce(jsonb_object_agg(reason, count), '{}') FROM ( \
                       SELECT reason, count(*) AS count FROM rejections WHERE rejections.poll = $1 GROUP BY reason) AS found) \
               WHERE poll = $1";
    sqlx::query(sql).bind(poll.0).bind(hash.finalize().as_slice()).execute(transaction).await?;
    Ok(())
}

/// Returns the last key of the digest so far and the digest's state. Without a state, or with one that this release cannot
/// read, the digest begins anew.
pub(super) fn resume_hash(row: &PgRow) -> Result<(Uuid, Sha256), sqlx::Error> {
    let last: Option<Uuid> = row.try_get("hashed_to")?;
    let state: Option<Vec<u8>> = row.try_get("hash_state")?;
    let Some((last, state)) = last.zip(state) else { return Ok((Uuid::nil(), Sha256::new())) };
    let state = SerializedState::<Sha256>::try_from(state.as_slice()).ok();
    let hash = state.and_then(|state| Sha256::deserialize(&state).ok());
    Ok(hash.map_or_else(
        || {
            tracing::warn!("certificate.digest_begun_anew");
            (Uuid::nil(), Sha256::new())
        },
        |hash| (last, hash),
    ))
}
