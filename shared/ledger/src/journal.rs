use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Error, Ledger, polls::timestamp};
use domain::{Order, Poll, PollId, Timestamp};

/// What an answer's changes may come to, as text: Lambda's answers end at 6 MB, and each quote in it is two bytes.
const PAGE_BYTES_MAX: i64 = 2_000_000;

/// One change that the crew made.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// Grows with each change of any poll.
    pub id: i64,
    /// When it was made.
    pub at: Timestamp,
    /// By whom.
    pub who: String,
    /// The name of an [`Action`](domain::Action).
    pub action: String,
    /// The version that the poll is of since.
    pub version: i32,
    /// `{"field":{"from":…,"to":…}}`.
    pub changes: Value,
}

/// A change was meant for another version than the poll is of. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The version that it is of.
    pub version: i32,
    /// Who made it that, and when; `None`: it was nobody of the crew, as when a result is certified by itself.
    pub changed: Option<(String, Timestamp)>,
}

impl Ledger {
    /// Whether an order suits the poll as it was read, for an answer before any work. The change itself looks again.
    ///
    /// # Errors
    /// [`Error::Conflict`] where it does not; [`Error::Outage`], [`Error::Defect`].
    pub async fn check_version(&self, order: &Order, poll: &Poll) -> Result<(), Error> {
        if order.suits(poll.version) {
            return Ok(());
        }
        let found = self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let found = conflict(&mut connection, order, poll).await?;
            self.keep(connection);
            Ok(found)
        });
        found.await?.map_or(Ok(()), |conflict| Err(Error::Conflict(conflict)))
    }

    /// What the crew did to a poll, the last change first, below an entry's number where there is one: at most 100,
    /// fewer where they are long. Also of a poll that has been deleted. Empty: there is nothing more.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn journal(&self, poll: PollId, before: Option<i64>) -> Result<Vec<JournalEntry>, Error> {
        let sql = "/* journal */ SELECT * FROM ( \
                       SELECT *, row_number() OVER newest AS place, sum(length(changes::text)) OVER newest AS bytes \
                       FROM (SELECT * FROM journal WHERE poll = $1 AND id < $2 ORDER BY id DESC LIMIT 100) AS page \
                       WINDOW newest AS (ORDER BY id DESC) \
                   ) AS page WHERE place = 1 OR bytes <= $3 ORDER BY id DESC";
        let query = sqlx::query(sql).bind(poll.0).bind(before.unwrap_or(i64::MAX)).bind(PAGE_BYTES_MAX);
        let rows = self.fetch_all(query).await?;
        Ok(rows.iter().map(entry).collect::<Result<_, _>>()?)
    }
}

fn entry(row: &PgRow) -> Result<JournalEntry, sqlx::Error> {
    Ok(JournalEntry {
        id: row.try_get("id")?,
        at: timestamp(row.try_get("at")?)?,
        who: row.try_get("who")?,
        action: row.try_get("action")?,
        version: row.try_get("version")?,
        changes: row.try_get("changes")?,
    })
}

/// Makes an entry, in the transaction of what it tells.
pub(super) async fn enter(
    transaction: &mut PgConnection,
    order: &Order,
    poll: PollId,
    version: i32,
    changes: &Value,
) -> Result<(), sqlx::Error> {
    let sql =
        "/* enter */ INSERT INTO journal (poll, who, action, version, changes) VALUES ($1, $2, $3, $4, $5)";
    let query = sqlx::query(sql).bind(poll.0).bind(&order.who).bind(order.action.name());
    query.bind(version).bind(changes).execute(transaction).await.map(drop)
}

/// Whether an order is for another version of the poll than there is.
pub(super) async fn conflict(
    connection: &mut PgConnection,
    order: &Order,
    poll: &Poll,
) -> Result<Option<Conflict>, sqlx::Error> {
    if order.suits(poll.version) {
        return Ok(None);
    }
    let sql = "/* conflict */ SELECT who, at FROM journal WHERE poll = $1 AND version = $2 ORDER BY id DESC LIMIT 1";
    let row = sqlx::query(sql).bind(poll.id.0).bind(poll.version).fetch_optional(connection).await?;
    let changed = row.map(|row| Ok::<_, sqlx::Error>((row.try_get("who")?, timestamp(row.try_get("at")?)?)));
    Ok(Some(Conflict { version: poll.version, changed: changed.transpose()? }))
}
