//! Evidence for certification: the series of probes, signs of failed batches, and the last observation of each closed
//! poll. [`Observation`] has the rules.

use std::time::Duration;

use sqlx::{Row, postgres::PgRow};
use time::OffsetDateTime;

use super::{Error, Ledger, polls::timestamp};
use domain::{Closing, Observation, PollId, Probe, ProbeId, Sign, Timestamp, Waiting, WaitsFor};

/// The retention of undecided probes: SQS's maximum retention of their messages. After that, none can be decided.
const UNDECIDED_KEPT_DAYS: i32 = 14;

/// The maximum number of probes in one observation: an hour of bursts, far more than are kept while counting works.
const OBSERVED_PROBES_MAX: i64 = 5_000;

/// An observation of one closed poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The poll.
    pub poll: PollId,
    /// The observed close.
    pub closes_at: Timestamp,
    /// The reason why certification waits. `None` if it need not wait.
    pub waiting: Option<Waiting>,
}

impl Ledger {
    /// Reads the ledger's part of an observation in one snapshot: signs, all undecided probes, and the probes of the
    /// last `kept`. The caller adds the parts of Redis and the queue.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn observe(&self, kept: Duration) -> Result<Observation, Error> {
        let sql = "/* observe */ SELECT clock_timestamp() AS now, sent_at, cast_at, decided_at, handled, failed, \
                       NULL AS kind, NULL::timestamptz AS seen_at \
                   FROM (SELECT * FROM probes \
                       WHERE decided_at IS NULL OR sent_at > clock_timestamp() - $1 * interval '1 millisecond' \
                       ORDER BY sent_at DESC, id DESC LIMIT $2) AS probe \
                   UNION ALL SELECT clock_timestamp(), NULL, NULL, NULL, NULL, NULL, kind, seen_at FROM signs \
                   UNION ALL SELECT clock_timestamp(), NULL, NULL, NULL, NULL, NULL, NULL, NULL";
        let query = sqlx::query(sql).bind(millis(kept)).bind(OBSERVED_PROBES_MAX);
        let rows = self.fetch_all(query).await?;
        let mut observation = Observation {
            now: Timestamp::MIN,
            probes: Vec::with_capacity(rows.len()),
            signs: Vec::new(),
            outstanding: Vec::new(),
            queued: None,
            handled: None,
        };
        for row in &rows {
            observation.now = timestamp(row.try_get("now")?)?;
            if let Some(sent_at) = moment(row, "sent_at")? {
                observation.probes.push(probe(row, sent_at)?);
            } else if let Some(seen_at) = moment(row, "seen_at")? {
                observation.signs.push((sign(&row.try_get::<String, _>("kind")?)?, seen_at));
            }
        }
        // The rows come newest first. Probes of one millisecond keep the order of sending.
        observation.probes.reverse();
        observation.probes.sort_by_key(|probe| probe.sent_at);
        Ok(observation)
    }

    /// Adds probes that are about to be sent, marked as unconfirmed by the queue, and deletes probes older than
    /// `kept`. Not idempotent: a probe that is added and never sent becomes a sign.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn begin_probes(
        &self,
        count: usize,
        handled: Option<u64>,
        kept: Duration,
    ) -> Result<Vec<ProbeId>, Error> {
        let sql = "/* begin_probes */ WITH deleted AS (DELETE FROM probes \
                       WHERE sent_at < clock_timestamp() - $3 * interval '1 millisecond' \
                           AND (decided_at IS NOT NULL OR failed OR sent_at < clock_timestamp() - $4 * interval '1 day')) \
                   INSERT INTO probes (handled, failed) SELECT $1, true FROM generate_series(1, $2) RETURNING id";
        let query = sqlx::query(sql)
            .bind(handled.map(u64::cast_signed))
            .bind(i64::try_from(count).unwrap_or(0))
            .bind(millis(kept))
            .bind(UNDECIDED_KEPT_DAYS);
        let rows = self.fetch_all(query).await?;
        Ok(rows.iter().map(|row| row.try_get("id").map(ProbeId)).collect::<Result<_, _>>()?)
    }

    /// Records that the queue has confirmed these probes. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn probes_sent(&self, probes: &[ProbeId]) -> Result<(), Error> {
        let ids: Vec<_> = probes.iter().map(|probe| probe.0).collect();
        let sql = "/* probes_sent */ UPDATE probes SET failed = false WHERE id = ANY ($1)";
        self.fetch_all(sqlx::query(sql).bind(ids)).await.map(drop)
    }

    /// Records a sign of the given age. Idempotent: the latest sign of each kind is kept.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn note_sign(&self, sign: Sign, ago: Duration) -> Result<(), Error> {
        let sql = "/* note_sign */ INSERT INTO signs (kind, seen_at) \
                   VALUES ($1, clock_timestamp() - $2 * interval '1 millisecond') \
                   ON CONFLICT (kind) DO UPDATE SET seen_at = greatest(signs.seen_at, excluded.seen_at)";
        self.fetch_all(sqlx::query(sql).bind(sign.name()).bind(millis(ago))).await.map(drop)
    }

    /// Records observations of closed polls in one statement. Idempotent.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn note_closings(&self, observed: &[Observed]) -> Result<(), Error> {
        let sql = "/* note_closings */ INSERT INTO closings AS closing \
                       (poll, closes_at, observed_at, waits_for, sign, until, waiting) \
                   SELECT poll, closes_at, clock_timestamp(), waits_for, sign, until, waiting \
                   FROM unnest($1::integer[], $2::timestamptz[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[]) \
                       AS seen (poll, closes_at, waits_for, sign, until, waiting) ORDER BY poll \
                   ON CONFLICT (poll) DO UPDATE SET closes_at = excluded.closes_at, observed_at = excluded.observed_at, \
                       waits_for = excluded.waits_for, sign = excluded.sign, until = excluded.until, \
                       waiting = excluded.waiting";
        let waiting = || observed.iter().map(|one| one.waiting);
        let polls: Vec<_> = observed.iter().map(|one| one.poll.0).collect();
        let closes_at: Vec<_> = observed.iter().map(|one| OffsetDateTime::from(one.closes_at)).collect();
        let waits_for: Vec<_> = waiting().map(|waiting| waiting.map(|it| it.waits_for.name())).collect();
        let signs: Vec<_> = waiting().map(|waiting| waiting.and_then(|it| it.sign).map(Sign::name)).collect();
        let until: Vec<_> =
            waiting().map(|waiting| waiting.and_then(|it| it.until).map(OffsetDateTime::from)).collect();
        let votes: Vec<_> =
            waiting().map(|waiting| waiting.and_then(|it| it.waiting).map(u64::cast_signed)).collect();
        let query =
            sqlx::query(sql).bind(polls).bind(closes_at).bind(waits_for).bind(signs).bind(until).bind(votes);
        self.fetch_all(query).await.map(drop)
    }

    /// Returns the last observation of a closed poll since this close.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn closing(&self, poll: PollId, closes_at: Timestamp) -> Result<Closing, Error> {
        let sql = "/* closing */ SELECT clock_timestamp() AS now, observed_at, waits_for, sign, until, waiting \
                   FROM closings WHERE poll = $1 AND closes_at = $2";
        let query = sqlx::query(sql).bind(poll.0).bind(OffsetDateTime::from(closes_at));
        let row = self.fetch_all(query).await?.pop();
        let unobserved = Closing { observed: None, waiting: None };
        Ok(row.as_ref().map(closing).transpose()?.unwrap_or(unobserved))
    }
}

fn closing(row: &PgRow) -> Result<Closing, sqlx::Error> {
    let (now, observed_at): (OffsetDateTime, OffsetDateTime) =
        (row.try_get("now")?, row.try_get("observed_at")?);
    let waits_for = row.try_get::<Option<String>, _>("waits_for")?;
    let waiting = waits_for.map(|name| {
        let waits_for = WaitsFor::of(&name).ok_or_else(|| unknown(&name))?;
        let sign = row.try_get::<Option<String>, _>("sign")?.as_deref().map(sign).transpose()?;
        let waiting = row.try_get::<Option<i64>, _>("waiting")?.map(i64::unsigned_abs);
        Ok::<_, sqlx::Error>(Waiting { waits_for, sign, until: moment(row, "until")?, waiting })
    });
    Ok(Closing {
        observed: Some((now - observed_at).try_into().unwrap_or(Duration::ZERO)),
        waiting: waiting.transpose()?,
    })
}

fn probe(row: &PgRow, sent_at: Timestamp) -> Result<Probe, sqlx::Error> {
    Ok(Probe {
        sent_at,
        cast_at: moment(row, "cast_at")?,
        decided_at: moment(row, "decided_at")?,
        handled: row.try_get::<Option<i64>, _>("handled")?.map(i64::unsigned_abs),
        failed: row.try_get("failed")?,
    })
}

fn sign(name: &str) -> Result<Sign, sqlx::Error> {
    Sign::of(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("unknown name {name:?}").into())
}

fn moment(row: &PgRow, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
    row.try_get::<Option<_>, _>(column)?.map(timestamp).transpose()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
