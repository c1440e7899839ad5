//! The supplement of a certificate: one pass over the poll's votes in the order of their keys, in pieces.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use futures_util::TryStreamExt;
use sha2::{
    Digest, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};
use sqlx::{Connection, PgConnection, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::{Error, Ledger, audit::extend_timeout};
use domain::PollId;

/// The columns of a vote's line in the digest and in the export: key, time of casting in milliseconds, voter's
/// pseudonym, contestant, ballot, count. A floating-point number holds these times exactly and is cheaper than a decimal
/// one.
pub(super) const COLUMNS: &str =
    "key, (date_part('epoch', cast_at) * 1000)::bigint, voter, contestant, ballot, count";

/// The votes of one piece, which take about a second.
pub const PIECE_ROWS: u32 = 200_000;

/// The number of characters of the key at the beginning of a line.
const KEY_LENGTH: usize = 36;
/// The contestant's and the count's place in a line.
const CONTESTANT_FIELD: usize = 3;
const COUNT_FIELD: usize = 5;

/// Memory of the server for counting the voters. Beyond it, the server uses its disk.
const VOTERS_MEMORY: &str = "64MB";

impl Ledger {
    /// Returns the polls whose certificate, or a later one, is not yet complete, oldest first. At most 100.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn unsupplemented(&self) -> Result<Vec<PollId>, Error> {
        let sql = "/* unsupplemented */ SELECT poll FROM ( \
                       SELECT poll FROM certificates WHERE supplemented_at IS NULL \
                       UNION SELECT poll FROM later_certificates WHERE certified_at IS NULL \
                   ) AS unfinished ORDER BY poll LIMIT 100";
        let rows = self.fetch_all(sqlx::query(sql)).await?;
        Ok(rows.iter().map(|row| row.try_get("poll").map(PollId)).collect::<Result<_, _>>()?)
    }

    /// Advances a poll's supplement by one piece, then, once it is finished, its oldest unfinished later certificate.
    /// Returns whether all are finished. Idempotent. `limit` bounds the whole call.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn advance_certificates(&self, poll: PollId, limit: Duration) -> Result<bool, Error> {
        self.within(limit, async {
            Ok(self.advance_supplement(poll, PIECE_ROWS, limit).await?
                && self.advance_later_certificate(poll, PIECE_ROWS, limit).await?)
        })
        .await
    }

    /// Adds at most `rows` votes to the supplement of a poll's certificate, and returns whether it is finished. The
    /// last piece also counts the voters. Constant memory. Idempotent, also after an unknown outcome: the last key is
    /// stored together with the state of the pass. `limit` bounds the whole call.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn advance_supplement(&self, poll: PollId, rows: u32, limit: Duration) -> Result<bool, Error> {
        self.within(limit, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            extend_timeout(&mut transaction, limit).await?;
            // The row lock serializes the pieces, since each one depends on the one before.
            let sql = "/* supplement */ SELECT hashed_to, hash_state, recount, supplemented_at IS NOT NULL AS is_done \
                       FROM certificates WHERE poll = $1 FOR UPDATE";
            let row = sqlx::query(sql).bind(poll.0).fetch_one(&mut *transaction).await?;
            let is_done = row.try_get("is_done")? || add_piece(&mut transaction, poll, rows, &row).await?;
            transaction.commit().await?;
            self.keep(connection);
            Ok(is_done)
        })
        .await
    }
}

/// Reads one piece and stores the state after it. Returns whether it was the last.
async fn add_piece(
    transaction: &mut PgConnection,
    poll: PollId,
    rows: u32,
    before: &PgRow,
) -> Result<bool, sqlx::Error> {
    let recount: Option<Json<BTreeMap<i16, u64>>> = before.try_get("recount")?;
    let (mut after, mut hash) = resume_hash(before)?;
    let mut recount = recount.filter(|_| !after.is_nil()).map(|Json(recount)| recount).unwrap_or_default();
    // COPY takes no parameters; numbers and UUIDs need no quoting.
    let copy = format!(
        "COPY (/* supplement */ SELECT {COLUMNS} FROM votes WHERE poll = {} AND key > '{after}' \
         ORDER BY key LIMIT {rows}) TO STDOUT (FORMAT csv)",
        poll.0
    );
    let mut read = 0;
    let last = read_lines(transaction, &copy, &mut hash, |line| {
        read += 1;
        *recount.entry(number(line, CONTESTANT_FIELD)?).or_default() += count(line)?;
        Ok(())
    });
    after = last.await?.unwrap_or(after);
    if read < rows {
        finish(transaction, poll, hash, recount).await?;
        return Ok(true);
    }
    let sql = "/* supplement */ UPDATE certificates SET hashed_to = $2, hash_state = $3, recount = $4 WHERE poll = $1";
    let update = sqlx::query(sql).bind(poll.0).bind(after).bind(hash.serialize().as_slice().to_vec());
    update.bind(Json(recount)).execute(transaction).await?;
    Ok(false)
}

/// Hashes the votes that a COPY statement returns, and passes each line to `take`. Returns the key of the last one.
pub(super) async fn read_lines(
    transaction: &mut PgConnection,
    copy: &str,
    hash: &mut Sha256,
    mut take: impl FnMut(&[u8]) -> Result<(), sqlx::Error>,
) -> Result<Option<Uuid>, sqlx::Error> {
    let mut last = None;
    let mut lines = transaction.copy_out_raw(copy).await?;
    // Each message of the protocol is one line.
    while let Some(line) = lines.try_next().await? {
        hash.update(&line);
        last = Some(key(&line)?);
        take(&line)?;
    }
    Ok(last)
}

async fn finish(
    transaction: &mut PgConnection,
    poll: PollId,
    hash: Sha256,
    recount: BTreeMap<i16, u64>,
) -> Result<(), sqlx::Error> {
    let sql = "/* supplement */ SELECT set_config('work_mem', $1, true)";
    sqlx::query(sql).bind(VOTERS_MEMORY).execute(&mut *transaction).await?;
    let sql = "/* supplement */ SELECT count(*) AS voters \
               FROM (SELECT DISTINCT voter FROM votes WHERE poll = $1) AS distinct_voters";
    let row = sqlx::query(sql).bind(poll.0).fetch_one(&mut *transaction).await?;
    let voters: i64 = row.try_get("voters")?;
    let sql = "/* supplement */ UPDATE certificates SET digest = $2, voters = $3, recount = $4, hash_state = NULL, \
               supplemented_at = date_trunc('milliseconds', clock_timestamp()) WHERE poll = $1";
    let update = sqlx::query(sql).bind(poll.0).bind(hash.finalize().as_slice().to_vec()).bind(voters);
    update.bind(Json(recount)).execute(&mut *transaction).await?;
    new_edition(transaction, poll).await
}

/// Makes a certified poll's public file due.
pub(super) async fn new_edition(transaction: &mut PgConnection, poll: PollId) -> Result<(), sqlx::Error> {
    let sql = "/* new_edition */ UPDATE polls SET edition = edition + 1 WHERE id = $1";
    sqlx::query(sql).bind(poll.0).execute(transaction).await?;
    Ok(())
}

/// Returns the last key of the digest so far and the digest's state. Without a state, or with one that this release
/// cannot read, the digest begins anew.
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

/// Returns the key of a line.
pub(super) fn key(line: &[u8]) -> Result<Uuid, sqlx::Error> {
    let key = line.get(..KEY_LENGTH).and_then(|key| Uuid::try_parse_ascii(key).ok());
    key.ok_or_else(|| unreadable(line))
}

/// Returns the number of taps of a line's vote.
pub(super) fn count(line: &[u8]) -> Result<u64, sqlx::Error> {
    number(line, COUNT_FIELD)
}

fn number<T: FromStr>(line: &[u8], field: usize) -> Result<T, sqlx::Error> {
    let field = line.trim_ascii_end().split(|&byte| byte == b',').nth(field);
    let number = field.and_then(|field| std::str::from_utf8(field).ok()?.parse().ok());
    number.ok_or_else(|| unreadable(line))
}

fn unreadable(line: &[u8]) -> sqlx::Error {
    sqlx::Error::Decode(format!("not a vote's line: {}", String::from_utf8_lossy(line)).into())
}
