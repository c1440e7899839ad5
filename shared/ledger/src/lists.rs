use std::time::Duration;

use sqlx::{AssertSqlSafe, Row};

use super::{
    Error, Ledger,
    polls::{poll, readable},
};
use domain::{Poll, PollId};

/// The condition of a public poll. A poll that has opened is never a draft.
const IS_PUBLIC: &str = "(NOT draft OR opens_at <= now())";

/// The rank of a poll in lists: open, then opening within a day, then closed, then scheduled. `now()` is the start
/// of the statement: unlike `clock_timestamp()`, it permits an index scan.
const PLACE: &str = "CASE WHEN closes_at <= now() THEN 2 WHEN opens_at <= now() THEN 0 \
                     WHEN opens_at <= now() + interval '1 day' THEN 1 ELSE 3 END AS place";

/// The order of lists. Open polls: newest first. Polls that will open: soonest first. Closed polls: last closed
/// first.
const IN_ORDER: &str = "ORDER BY place, CASE WHEN place IN (1, 3) THEN opens_at END, \
                        CASE WHEN place = 2 THEN closes_at END DESC, id DESC LIMIT 100";

impl Ledger {
    /// Returns the version of the public list: it is greater after each change of the list, and now and then after a
    /// change of something else. A list that is read later is at least of this version.
    ///
    /// It is a moment in milliseconds, the later of the crew's last change and the last opening, since a draft becomes
    /// public when it opens. A certification may set it back, which tells a reader nothing new.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn list_version(&self) -> Result<i64, Error> {
        let sql = "/* list_version */ SELECT coalesce(floor(1000 * extract(epoch FROM greatest( \
                       (SELECT at FROM journal ORDER BY id DESC LIMIT 1), \
                       (SELECT max(opens_at) FROM polls WHERE frozen_at IS NULL AND opens_at <= now()) \
                   ))), 0)::bigint AS version";
        let rows = self.fetch_all(sqlx::query(sql)).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.try_get("version"))?)
    }

    /// Returns at most 100 polls for viewers: open, then opening within a day, then recently closed, then the other
    /// scheduled ones. Drafts and archived polls are excluded. A poll that cannot be read is logged and left out.
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

    /// Returns at most 100 unfinished polls for the crew: open, then opening within a day, then closed and not
    /// certified, last closed first. Drafts and archived polls are included.
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
             ) AS listed {IN_ORDER}"
        );
        self.listed(sql).await
    }

    /// Returns the polls that are open, open within `soon`, or are closed and not certified: at most 1,000, last opened
    /// first. A poll that cannot be read is logged and left out.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn uncertified(&self, soon: Duration) -> Result<Vec<Poll>, Error> {
        let sql = "/* uncertified */ SELECT * FROM polls \
                   WHERE frozen_at IS NULL AND opens_at <= now() + $1 * interval '1 second' \
                   ORDER BY opens_at DESC LIMIT 1000";
        let rows = self.fetch_all(sqlx::query(sql).bind(soon.as_secs_f64())).await?;
        Ok(readable(&rows, poll))
    }

    /// Returns at most 100 polls below a number, newest first.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn polls_before(&self, id: PollId) -> Result<Vec<Poll>, Error> {
        let sql = "/* polls_before */ SELECT * FROM polls WHERE id < $1 ORDER BY id DESC LIMIT 100";
        let rows = self.fetch_all(sqlx::query(sql).bind(id.0)).await?;
        Ok(rows.iter().map(poll).collect::<Result<_, _>>()?)
    }

    /// Returns the highest number of a show's poll, and that of any poll, rehearsals included; 0 without one. Two index
    /// lookups.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn highest_numbers(&self) -> Result<(PollId, PollId), Error> {
        let sql = "/* highest_numbers */ SELECT \
                       coalesce((SELECT max(id) FROM polls WHERE id < $1), 0) AS show, \
                       coalesce((SELECT max(id) FROM polls), 0) AS highest";
        let rows = self.fetch_all(sqlx::query(sql).bind(PollId::REHEARSALS_FROM.0)).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok((PollId(row.try_get("show")?), PollId(row.try_get("highest")?)))
    }

    async fn listed(&self, sql: String) -> Result<Vec<Poll>, Error> {
        let rows = self.fetch_all(sqlx::query(AssertSqlSafe(sql))).await?;
        Ok(readable(&rows, poll))
    }
}
