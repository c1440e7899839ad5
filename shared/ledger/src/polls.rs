use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgRow, types::Json};
use time::OffsetDateTime;

use super::{Error, Ledger, journal::append_entry, take_definition_lock};
use domain::{
    Action, Contestant, ContestantNumber, Draft, Order, Pace, Poll, PollId, PollWithTally, Results, Tally,
    Timestamp, changes,
};
use runtime::telemetry::error_chain;

/// The join that adds a poll's counters, for a [`PollWithTally`]. It delays the answer until the counters are on
/// disk: otherwise a crash could lose counters that the ranking already has, and the ranking would stay ahead of its
/// tally.
pub(super) const WITH_TALLY: &str = "CROSS JOIN mark_log() CROSS JOIN LATERAL ( \
        SELECT array_agg(contestant) AS tally_contestants, array_agg(votes) AS tally_votes \
        FROM tallies WHERE tallies.poll = polls.id \
    ) AS tally";

impl Ledger {
    /// Creates a poll with a tally of zeros. A poll whose opening has passed is no draft. Not idempotent: two calls
    /// create two polls.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the definition is invalid; [`Error::Outage`] or [`Error::Defect`].
    pub async fn create_poll(&self, draft: &Draft, who: &str) -> Result<PollWithTally, Error> {
        let contestants = draft.check()?;
        let sql = "/* create_poll */ INSERT INTO polls \
                   (title, opens_at, closes_at, votes_per_voter, results, pace, contestants, taps_max, draft) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9 AND NOT coalesce($2 <= clock_timestamp(), false)) RETURNING *";
        self.within(self.timeout, async {
            let mut connection = self.connection().await?;
            let mut transaction = connection.begin().await?;
            // The lock excludes batches until the commit. So `rejected_before` knows all rejections for lack of this
            // poll.
            take_definition_lock(&mut transaction).await?;
            let row = sqlx::query(sql)
                .bind(&draft.title)
                .bind(draft.opens_at.map(OffsetDateTime::from))
                .bind(draft.closes_at.map(OffsetDateTime::from))
                .bind(draft.votes_per_voter)
                .bind(name(draft.results))
                .bind(draft.pace.seconds().map(i16::from))
                .bind(Json(&contestants))
                .bind(draft.taps_max)
                .bind(draft.draft)
                // As in `lock_poll`.
                .persistent(false)
                .fetch_one(&mut *transaction)
                .await?;
            let poll = poll(&row)?;
            update_derived_rows(&mut transaction, &poll).await?;
            let order = Order::new(who, Action::Create);
            append_entry(&mut transaction, &order, poll.id, poll.version, &changes(None, Some(&poll)))
                .await?;
            transaction.commit().await?;
            self.keep(connection);
            let tally = poll.contestants.iter().map(|contestant| (contestant.number, 0)).collect();
            Ok(PollWithTally { poll, tally })
        })
        .await
    }

    /// Returns the existing polls among these numbers. Their tallies are on disk.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn polls(&self, ids: &[PollId]) -> Result<Vec<PollWithTally>, Error> {
        let sql = format!("/* polls */ SELECT polls.*, tally.* FROM polls {WITH_TALLY} WHERE id = ANY ($1)");
        let ids: Vec<i32> = ids.iter().map(|id| id.0).collect();
        let rows = self.fetch_all(sqlx::query(AssertSqlSafe(sql)).bind(&ids)).await?;
        let polls = rows.iter().map(|row| Ok(PollWithTally { poll: poll(row)?, tally: tally(row)? }));
        Ok(polls.collect::<Result<_, sqlx::Error>>()?)
    }
}

/// Updates the rows that follow from a definition: adds counters of new contestants, deletes counters of removed
/// ones, which have no votes, and sets whether messages were rejected before this definition.
pub(super) async fn update_derived_rows(
    connection: &mut PgConnection,
    poll: &Poll,
) -> Result<(), sqlx::Error> {
    let numbers: Vec<i16> = poll.contestants.iter().map(|contestant| contestant.number.0).collect();
    for sql in [
        "/* settle */ INSERT INTO tallies (poll, contestant, votes) \
         SELECT $1, number, 0 FROM unnest($2::smallint[]) AS number ON CONFLICT DO NOTHING",
        "/* settle */ DELETE FROM tallies WHERE poll = $1 AND contestant <> ALL ($2) AND votes = 0",
    ] {
        sqlx::query(sql).bind(poll.id.0).bind(&numbers).execute(&mut *connection).await?;
    }
    let sql = "/* settle */ UPDATE polls SET rejected_before = true \
               WHERE id = $1 AND (EXISTS (SELECT FROM rejections WHERE poll = $1) \
               OR EXISTS (SELECT FROM rejections WHERE named = $1))";
    sqlx::query(sql).bind(poll.id.0).execute(connection).await?;
    Ok(())
}

/// Decodes the rows of polls. One that cannot be decoded is logged and left out, so that it delays no other.
pub(super) fn readable<T>(rows: &[PgRow], decode: impl Fn(&PgRow) -> Result<T, sqlx::Error>) -> Vec<T> {
    let decoded = |row: &PgRow| {
        let logged = decode(row).inspect_err(|error| {
            let poll = row.try_get::<i32, _>("id").unwrap_or_default();
            tracing::error!(error = error_chain(error), poll, "poll.unreadable");
        });
        logged.ok()
    };
    rows.iter().filter_map(decoded).collect()
}

pub(super) fn poll(row: &PgRow) -> Result<Poll, sqlx::Error> {
    let moment = |column| row.try_get::<Option<_>, _>(column)?.map(timestamp).transpose();
    Ok(Poll {
        id: PollId(row.try_get("id")?),
        title: row.try_get("title")?,
        opens_at: moment("opens_at")?,
        closes_at: moment("closes_at")?,
        votes_per_voter: row.try_get("votes_per_voter")?,
        taps_max: row.try_get("taps_max")?,
        results: results(row.try_get("results")?)?,
        pace: pace(row.try_get("pace")?)?,
        contestants: row.try_get::<Json<Vec<Contestant>>, _>("contestants")?.0,
        draft: row.try_get("draft")?,
        archived_at: moment("archived_at")?,
        gaps: row.try_get::<Json<_>, _>("gaps")?.0,
        errata: row.try_get::<Json<_>, _>("errata")?.0,
        version: row.try_get("version")?,
        epoch: row.try_get("epoch")?,
        created_at: timestamp(row.try_get("created_at")?)?,
        frozen_at: moment("frozen_at")?,
    })
}

pub(super) fn tally(row: &PgRow) -> Result<Tally, sqlx::Error> {
    let contestants = row.try_get::<Option<Vec<i16>>, _>("tally_contestants")?.unwrap_or_default();
    let votes = row.try_get::<Option<Vec<i64>>, _>("tally_votes")?.unwrap_or_default();
    Ok(contestants.into_iter().map(ContestantNumber).zip(votes.into_iter().map(i64::unsigned_abs)).collect())
}

pub(super) fn timestamp(moment: OffsetDateTime) -> Result<Timestamp, sqlx::Error> {
    Timestamp::try_from(moment).map_err(|error| sqlx::Error::Decode(error.into()))
}

pub(super) fn name(results: Results) -> &'static str {
    match results {
        Results::Live => "live",
        Results::AfterClose => "afterClose",
        Results::Hidden => "hidden",
    }
}

fn results(name: &str) -> Result<Results, sqlx::Error> {
    [Results::Live, Results::AfterClose, Results::Hidden]
        .into_iter()
        .find(|&results| self::name(results) == name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown results setting {name:?}").into()))
}

fn pace(seconds: Option<i16>) -> Result<Pace, sqlx::Error> {
    let Some(seconds) = seconds else { return Ok(Pace::Auto) };
    Pace::of_seconds(seconds.unsigned_abs().into())
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown pace {seconds}").into()))
}
