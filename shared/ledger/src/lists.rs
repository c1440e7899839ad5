use sqlx::AssertSqlSafe;

use super::{Error, Ledger, polls::poll};
use domain::{Poll, PollId};

/// What the public may know of: no draft. A poll that has opened is none, whatever it was before.
const IS_PUBLIC: &str = "(NOT draft OR opens_at <= now())";

/// Open, then opening within a day, then closed, then scheduled. `now()` is the statement's beginning: unlike
/// `clock_timestamp()` it lets an index be used.
const PLACE: &str = "CASE WHEN closes_at <= now() THEN 2 WHEN opens_at <= now() THEN 0 \
                     WHEN opens_at <= now() + interval '1 day' THEN 1 ELSE 3 END AS place";

/// Of open polls the newest first, of those that will open the soonest, of closed ones the last.
const IN_ORDER: &str = "ORDER BY place, CASE WHEN place IN (1, 3) THEN opens_at END, \
                        CASE WHEN place = 2 THEN closes_at END DESC, id DESC LIMIT 100";

impl Ledger {
    /// The polls a viewer may care for, at most 100: open, then opening within a day, then lately closed, then the
    /// other scheduled ones. Neither drafts nor archived ones.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn current_polls(&self) -> Result<Vec<Poll>, Error> {
        let sql = format!(
            "/* current_polls */ SELECT * FROM ( \
                 SELECT *, {PLACE} FROM polls \
                 WHERE (closes_at IS NULL OR closes_at > now()) AND archived_at IS NULL AND {IS_PUBLIC} \
                 UNION ALL \
                 (SELECT *, {PLACE} FROM polls WHERE closes_at <= now() AND archived_at IS NULL AND {IS_PUBLIC} \
                  ORDER BY closes_at DESC, id DESC LIMIT 100) \
             ) AS listed {IN_ORDER}"
        );
        self.listed(sql).await
    }

    /// The polls that the crew must not lose sight of, at most 100: open, then opening within a day, then closed and
    /// not certified, the last first. Drafts and archived ones as well.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn unfinished_polls(&self) -> Result<Vec<Poll>, Error> {
        let sql = format!(
            "/* unfinished_polls */ SELECT * FROM ( \
                 SELECT *, {PLACE} FROM polls \
                 WHERE (closes_at IS NULL OR closes_at > now()) AND opens_at <= now() + interval '1 day' \
                 UNION ALL \
                 (SELECT *, {PLACE} FROM polls WHERE closes_at <= now() AND opens_at <= now() AND frozen_at IS NULL \
                  ORDER BY closes_at DESC, id DESC LIMIT 100) \
                 UNION ALL \
                 SELECT polls.*, {PLACE} FROM polls JOIN certificates ON poll = id WHERE certified_at IS NULL \
             ) AS listed {IN_ORDER}"
        );
        self.listed(sql).await
    }

    /// All polls below a number, newest first, at most 100.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn polls_before(&self, id: PollId) -> Result<Vec<Poll>, Error> {
        let sql = "/* polls_before */ SELECT * FROM polls WHERE id < $1 ORDER BY id DESC LIMIT 100";
        let rows = self.fetch_all(sqlx::query(sql).bind(id.0)).await?;
        Ok(rows.iter().map(poll).collect::<Result<_, _>>()?)
    }

    async fn listed(&self, sql: String) -> Result<Vec<Poll>, Error> {
        let rows = self.fetch_all(sqlx::query(AssertSqlSafe(sql))).await?;
        Ok(rows.iter().map(poll).collect::<Result<_, _>>()?)
    }
}
