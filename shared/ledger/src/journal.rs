use serde_json::Value;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{Error, Ledger, polls::timestamp};
use domain::{Order, Poll, PollId, Timestamp};

/// The maximum size of a page's changes, as text. Lambda's responses are limited to 6 MB, and escaping doubles each
/// quote.
const PAGE_BYTES_MAX: i64 = 2_000_000;

/// One journalled change by the crew.
#[derive(Debug, Clone, PartialEq)]
pub struct JournalEntry {
    /// The entry's number, ascending over all polls.
    pub id: i64,
    /// The time of the change.
    pub at: Timestamp,
    /// The author.
    pub who: String,
    /// The name of an [`Action`](domain::Action).
    pub action: String,
    /// The poll's version after the change.
    pub version: i32,
    /// The changed fields: `{"field":{"from":…,"to":…}}`.
    pub changes: Value,
}

/// A version conflict: the change was meant for another version of the poll. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The current version.
    pub version: i32,
    /// Author and time of the current version. `None` if the crew did not make it, as with an automatic
    /// certification.
    pub changed: Option<(String, Timestamp)>,
}

impl Ledger {
    /// Checks early that an order applies to the version of a poll that was read. The change itself checks again.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it does not apply; [`Error::Outage`], [`Error::Defect`].
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

    /// Returns a page of a poll's journal, newest entry first, below the entry number `before` if given: at most 100
    /// entries, fewer if they are long. Works for deleted polls, too. An empty page is the end.
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

/// Appends an entry, in the transaction of its change.
pub(super) async fn append_entry(
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

/// Returns the conflict if an order does not apply to the poll's current version.
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
