use serde_json::json;
use sqlx::{Connection, PgConnection};

use super::{
    Error, Ledger,
    change::{LockedPoll, lock_poll},
    journal::{append_entry, conflict},
};
use domain::{Basis, Order, PollId, Status, Timestamp};

/// The outcome of certifying a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certified {
    /// The poll was certified by this call.
    Now,
    /// The poll was certified before.
    Before,
    /// The poll is not closed.
    NotClosed,
}

impl Ledger {
    /// Certifies a closed poll: its counters become its result, and from the commit on none of its votes is counted.
    /// It reads no votes, so it takes as long for ten million votes as for ten. The call takes the definition lock
    /// and increments the version, so that no batch judged before can count one either. Idempotent. Returns `None`
    /// if the poll does not exist.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn certify(&self, poll: PollId, basis: Basis) -> Result<Option<Certified>, Error> {
        self.certify_by(poll, None, basis, None).await
    }

    /// Certifies a poll like [`Self::certify`]. If `closes_at` is given and the poll's close has moved, it returns
    /// [`Certified::NotClosed`]. An order of the crew is journalled.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the order is for another version; [`Error::Outage`], [`Error::Defect`].
    pub async fn certify_by(
        &self,
        poll: PollId,
        closes_at: Option<Timestamp>,
        basis: Basis,
        order: Option<&Order>,
    ) -> Result<Option<Certified>, Error> {
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
            let certified = match (found.frozen_at.is_some(), found.status(now)) {
                (true, _) => Certified::Before,
                (false, Status::Closed) if closes_at.is_none() || closes_at == found.closes_at => {
                    certify(&mut transaction, poll, basis).await?;
                    if let Some(order) = order {
                        let changes = json!({"basis": {"from": null, "to": basis.name()}});
                        append_entry(&mut transaction, order, poll, found.version + 1, &changes).await?;
                    }
                    Certified::Now
                }
                (false, _) => Certified::NotClosed,
            };
            transaction.commit().await?;
            self.keep(connection);
            Ok(Some(certified))
        })
        .await
    }
}

async fn certify(transaction: &mut PgConnection, poll: PollId, basis: Basis) -> Result<(), sqlx::Error> {
    let sql = "/* certify */ UPDATE polls SET version = version + 1, edition = edition + 1, \
               frozen_at = date_trunc('milliseconds', clock_timestamp()) WHERE id = $1";
    sqlx::query(sql).bind(poll.0).execute(&mut *transaction).await?;
    let sql = "/* certify */ INSERT INTO certificates (poll, basis, certified_at, tally, rejected) \
               SELECT id, $2, frozen_at, \
                   (SELECT coalesce(jsonb_object_agg(contestant, votes), '{}') FROM tallies WHERE poll = id), \
                   (SELECT coalesce(jsonb_object_agg(reason, count), '{}') FROM rejection_counts WHERE poll = id) \
               FROM polls WHERE id = $1";
    sqlx::query(sql).bind(poll.0).bind(basis.name()).execute(&mut *transaction).await?;
    let sql = "/* certify */ DELETE FROM closings WHERE poll = $1";
    sqlx::query(sql).bind(poll.0).execute(transaction).await?;
    Ok(())
}
