use sqlx::{Row, postgres::PgRow};

use super::{Error, Ledger, polls::timestamp};
use domain::{ContestantNumber, Inquiry, Receipt};

impl Ledger {
    /// Returns the outcome of a vote. One round trip: an index lookup in the votes for each key of the inquiry, and the
    /// voter's rejections, at most 2,000.
    ///
    /// A counted vote takes precedence over a rejected one, since a retry may have been counted. Of several outcomes
    /// of one id, the last cast is returned.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn receipt(&self, inquiry: &Inquiry) -> Result<Receipt, Error> {
        let sql = "/* receipt */ SELECT contestant, cast_at, ballot, reason FROM ( \
                       SELECT contestant, cast_at, ballot, NULL AS reason FROM votes \
                       WHERE poll = $5 AND key = ANY ($1) AND voter = $2 AND (ballot IS NULL OR $3 IN (message_tag, id_tag)) \
                       UNION ALL \
                       SELECT NULL, cast_at, NULL, reason FROM rejections \
                       WHERE (message_id = $4 OR id_tag = $3) AND voter = $2 AND poll IN ($5, 0) \
                   ) AS outcome ORDER BY reason IS NOT NULL, cast_at DESC LIMIT 1";
        let keys: Vec<_> = inquiry.keys.iter().map(|key| key.0).collect();
        let query = sqlx::query(sql)
            .bind(&keys)
            .bind(inquiry.voter.ledger_column())
            .bind(inquiry.tag.0)
            .bind(inquiry.id)
            .bind(inquiry.poll.0);
        let row = self.fetch_all(query).await?.pop();
        Ok(row.as_ref().map(receipt).transpose()?.unwrap_or(Receipt::Unknown))
    }
}

fn receipt(row: &PgRow) -> Result<Receipt, sqlx::Error> {
    let cast_at = timestamp(row.try_get("cast_at")?)?;
    Ok(match row.try_get("reason")? {
        Some(reason) => Receipt::Rejected { reason, cast_at },
        None => Receipt::Counted {
            contestant: ContestantNumber(row.try_get("contestant")?),
            cast_at,
            ballot: row.try_get("ballot")?,
        },
    })
}
