use sqlx::{Connection, PgConnection, Row, types::Json};
use time::OffsetDateTime;

use super::{
    Error, Ledger,
    journal::{append_entry, conflict},
    polls::{name, poll, timestamp, update_derived_rows},
    take_definition_lock,
};
use domain::{Facts, Invalid, NameHistory, Order, Poll, PollId, PollWithTally, Timestamp, changes};

impl Ledger {
    /// Changes a poll's definition by a rule of the poll, its facts and the time. The definition lock guarantees
    /// that no batch judged by the old definition commits after the change. The change is journalled, unless it has
    /// no effect. Returns `None` if the poll does not exist.
    ///
    /// # Errors [`Error::Conflict`] if the order is for another version; [`Error::Invalid`] if the rule refuses;
    /// [`Error::Outage`] or [`Error::Defect`], also if only the answer to the commit was lost.
    pub async fn change_poll(
        &self,
        id: PollId,
        order: &Order,
        rule: impl Fn(&Poll, &Facts, Timestamp) -> Result<Poll, Invalid>,
    ) -> Result<Option<PollWithTally>, Error> {
        let changed = self
            .within(self.timeout, async {
                let mut connection = self.connection().await?;
                let mut transaction = connection.begin().await?;
                let Some(LockedPoll { poll: before, facts, now }) = lock_poll(&mut transaction, id).await?
                else {
                    return Ok(Ok(false));
                };
                if let Some(conflict) = conflict(&mut transaction, order, &before).await? {
                    return Ok(Err(Error::Conflict(conflict)));
                }
                match rule(&before, &facts, now) {
                    Err(invalid) => return Ok(Err(invalid.into())),
                    Ok(after) if after == before => {}
                    Ok(after) => {
                        let version = update(&mut transaction, &before, &after, &facts, now).await?;
                        let order = Order { action: order.action.of(&before, &after, now), ..order.clone() };
                        let changes = changes(Some(&before), Some(&after));
                        append_entry(&mut transaction, &order, id, version, &changes).await?;
                    }
                }
                transaction.commit().await?;
                self.keep(connection);
                Ok(Ok(true))
            })
            .await??;
        if changed { Ok(self.polls(&[id]).await?.pop()) } else { Ok(None) }
    }

    /// Deletes a poll that has never opened, and schedules its public file for deletion. Returns `false` if the poll
    /// does not exist.
    ///
    /// # Errors [`Error::Conflict`]; [`Error::Invalid`] from [`Poll::check_deletable`]; [`Error::Outage`] or
    /// [`Error::Defect`].
    pub async fn delete_poll(&self, id: PollId, order: &Order) -> Result<bool, Error> {
        self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            let Some(LockedPoll { poll, facts, now }) = lock_poll(&mut transaction, id).await? else {
                return Ok(Ok(false));
            };
            if let Some(conflict) = conflict(&mut transaction, order, &poll).await? {
                return Ok(Err(Error::Conflict(conflict)));
            }
            if let Err(invalid) = poll.check_deletable(&facts, now) {
                return Ok(Err(invalid.into()));
            }
            for sql in [
                "/* delete_poll */ DELETE FROM tallies WHERE poll = $1",
                "/* delete_poll */ INSERT INTO rejection_counts AS total (poll, reason, count) \
                 SELECT 0, reason, count FROM rejection_counts WHERE poll = $1 \
                 ON CONFLICT (poll, reason) DO UPDATE SET count = total.count + excluded.count",
                "/* delete_poll */ DELETE FROM rejection_counts WHERE poll = $1",
                "/* delete_poll */ DELETE FROM closings WHERE poll = $1",
                "/* delete_poll */ DELETE FROM polls WHERE id = $1",
                "/* delete_poll */ INSERT INTO deleted_files (poll) VALUES ($1)",
            ] {
                sqlx::query(sql).bind(id.0).execute(&mut *transaction).await?;
            }
            append_entry(&mut transaction, order, id, poll.version, &changes(Some(&poll), None)).await?;
            transaction.commit().await?;
            self.keep(connection);
            Ok(Ok(true))
        })
        .await?
    }
}

/// A poll read under the exclusive definition lock.
pub(super) struct LockedPoll {
    pub(super) poll: Poll,
    pub(super) facts: Facts,
    pub(super) now: Timestamp,
}

/// Takes the definition lock until the transaction ends, then reads a poll and the time.
pub(super) async fn lock_poll(
    connection: &mut PgConnection,
    id: PollId,
) -> Result<Option<LockedPoll>, sqlx::Error> {
    take_definition_lock(connection).await?;
    let sql = "/* fenced */ SELECT *, clock_timestamp() AS now, \
               EXISTS (SELECT FROM tallies WHERE poll = polls.id AND votes > 0) AS has_votes \
               FROM polls WHERE id = $1";
    // Not prepared: a transaction is not repeated, and a prepared `*` fails once after a migration that adds a column.
    let statement = sqlx::query(sql).bind(id.0).persistent(false);
    let Some(row) = statement.fetch_optional(connection).await? else {
        return Ok(None);
    };
    let names = row.try_get::<Json<NameHistory>, _>("names")?.0;
    let facts = Facts { has_votes: row.try_get("has_votes")?, names };
    Ok(Some(LockedPoll { poll: poll(&row)?, facts, now: timestamp(row.try_get("now")?)? }))
}

/// Updates the poll and returns its new version.
async fn update(
    connection: &mut PgConnection,
    before: &Poll,
    after: &Poll,
    facts: &Facts,
    now: Timestamp,
) -> Result<i32, sqlx::Error> {
    let sql = "/* change_poll */ UPDATE polls SET title = $2, opens_at = $3, closes_at = $4, \
               votes_per_voter = $5, results = $6, contestants = $7, draft = $8, archived_at = $9, gaps = $10, \
               errata = $11, names = $12, pace = $13, taps_max = $14, version = version + 1, edition = edition + 1 \
               WHERE id = $1 RETURNING version";
    let moment = |moment: Option<Timestamp>| moment.map(OffsetDateTime::from);
    // Former names are remembered: votes may have been cast for them.
    let is_remembered = facts.may_have_votes(before, now) && before.contestants != after.contestants;
    let names = if is_remembered { facts.names.with(&before.contestants) } else { facts.names.clone() };
    let row = sqlx::query(sql)
        .bind(after.id.0)
        .bind(&after.title)
        .bind(moment(after.opens_at))
        .bind(moment(after.closes_at))
        .bind(after.votes_per_voter)
        .bind(name(after.results))
        .bind(Json(&after.contestants))
        .bind(after.draft)
        .bind(moment(after.archived_at))
        .bind(Json(&after.gaps))
        .bind(Json(&after.errata))
        .bind(Json(&names))
        .bind(after.pace.seconds().map(i16::from))
        .bind(after.taps_max)
        .fetch_one(&mut *connection)
        .await?;
    update_derived_rows(connection, after).await?;
    row.try_get("version")
}
