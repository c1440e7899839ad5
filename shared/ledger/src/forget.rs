use std::time::Duration;

use super::{Error, Ledger};

/// How long the rows of a certified poll's rejections are kept: SQS redelivers a message for 14 days.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

impl Ledger {
    /// Deletes at most `rows` rejections of the poll that has been certified for the longest time, 30 days at least,
    /// and as many of messages without a poll that were cast 30 days ago. Their counters stay. Returns whether it found
    /// any. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn forget_rejections(&self, rows: u32) -> Result<bool, Error> {
        let sql = "/* forget_rejections */ WITH old AS ( \
                SELECT poll FROM certificates \
                WHERE has_rejections AND certified_at < now() - $2 * interval '1 second' ORDER BY certified_at LIMIT 1 \
            ), forgotten AS ( \
                DELETE FROM rejections WHERE message_id = ANY (ARRAY( \
                    (SELECT message_id FROM rejections WHERE poll = (SELECT poll FROM old) LIMIT $1) UNION ALL \
                    (SELECT message_id FROM rejections WHERE poll = 0 AND cast_at < now() - $2 * interval '1 second' \
                     ORDER BY cast_at LIMIT $1))) \
                RETURNING poll \
            ), emptied AS ( \
                UPDATE certificates SET has_rejections = false WHERE poll = (SELECT poll FROM old) \
                    AND NOT EXISTS (SELECT FROM forgotten WHERE forgotten.poll = certificates.poll) \
                RETURNING poll \
            ) SELECT poll FROM forgotten UNION SELECT poll FROM emptied LIMIT 1";
        let query = sqlx::query(sql).bind(i64::from(rows)).bind(KEPT.as_secs_f64());
        Ok(!self.fetch_all(query).await?.is_empty())
    }
}
