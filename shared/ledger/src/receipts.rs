use sqlx::{Row, postgres::PgRow};

use super::{Error, Ledger, polls::timestamp};
use domain::{ContestantNumber, Inquiry, PlacedReceipt, Receipt};

impl Ledger {
    /// Returns the outcomes of a request's votes, by their places: of those that were received and judged. One round
    /// trip: an index lookup in the votes for each key of the inquiry, and the voter's rejections, at most 2,000.
    ///
    /// A counted vote takes precedence over a rejected one, since a retry may have been counted. Of several outcomes
    /// of one id and place, the last cast is returned.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn receipts(&self, inquiry: &Inquiry) -> Result<Vec<PlacedReceipt>, Error> {
        let sql = "/* receipts */ SELECT DISTINCT ON (place) place, contestant, cast_at, ballot, count, reason FROM ( \
                       SELECT place, contestant, cast_at, ballot, count, NULL AS reason FROM votes \
                       WHERE poll = $5 AND key = ANY ($1) AND voter = $2 AND (ballot IS NULL OR $3 IN (message_tag, id_tag)) \
                       UNION ALL \
                       SELECT place, NULL, cast_at, NULL, NULL, reason FROM rejections \
                       WHERE (message_id = $4 OR id_tag = $3) AND voter = $2 AND poll IN ($5, 0) \
                   ) AS outcome ORDER BY place, reason IS NOT NULL, cast_at DESC";
        let keys: Vec<_> = inquiry.keys.iter().map(|key| key.0).collect();
        let query = sqlx::query(sql)
            .bind(&keys)
            .bind(inquiry.voter.ledger_column())
            .bind(inquiry.tag.0)
            .bind(inquiry.id)
            .bind(inquiry.poll.0);
        let rows = self.fetch_all(query).await?;
        let placed = |row| Ok(PlacedReceipt { place: PgRow::try_get(row, "place")?, receipt: receipt(row)? });
        Ok(rows.iter().map(placed).collect::<Result<_, sqlx::Error>>()?)
    }
}

fn receipt(row: &PgRow) -> Result<Receipt, sqlx::Error> {
    let cast_at = timestamp(row.try_get("cast_at")?)?;
    Ok(match row.try_get("reason")? {
        Some(reason) => Receipt::Rejected { reason, cast_at },
        None => Receipt::Counted {
            contestant: ContestantNumber(row.try_get("contestant")?),
            count: row.try_get("count")?,
            cast_at,
            ballot: row.try_get("ballot")?,
        },
    })
}
