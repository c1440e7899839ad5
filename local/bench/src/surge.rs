//! A surge: a quiet poll, a peak of votes, and quiet again.
use std::time::Duration;

use anyhow::Result;
use emulator::clock;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    cell::{CONTESTANTS, POLLS},
    lag::{self, Lag},
    pipeline::{Load, Pipeline},
    plan::{Plan, TEMPLATE_LOAD},
    test_bed::TestBed,
};

/// Phases of the surge: votes per second and seconds.
const COURSE: [(f64, f64); 5] =
    [(100.0, 8.0), (5_000.0, 4.0), (20_000.0, 12.0), (5_000.0, 4.0), (100.0, 12.0)];

/// Interval of sending: short compared with the batching window.
const TICK: Duration = Duration::from_millis(10);

/// The figures of the surge.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Surge {
    /// Start, in milliseconds since 1970.
    pub started_ms: u64,
    /// Start in seconds and votes per second of each phase.
    pub course: Vec<(f64, f64)>,
    /// Number of cast votes.
    pub votes: u64,
    /// Batches that reached the ranking.
    pub batches: Vec<Lag>,
}

/// Sends votes to the queue at the rates of the course, with the template's batch size and window.
///
/// # Errors
/// A batch failed, or a vote was not counted.
pub async fn run(test_bed: &TestBed, plan: &Plan) -> Result<Surge> {
    let database = test_bed.database(POLLS, CONTESTANTS).await?;
    let pipeline = Pipeline::new(
        test_bed,
        &database,
        Load { concurrency: TEMPLATE_LOAD.0, batch: TEMPLATE_LOAD.1 },
        &test_bed.artifacts,
    )
    .await?;
    let mappings = pipeline.map()?;
    let started_ms = clock::now_ms();
    let (start, mut cast) = (Instant::now(), 0);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let seconds: f64 = COURSE.iter().map(|(_, seconds)| seconds * plan.surge_share).sum();
    while start.elapsed().as_secs_f64() < seconds {
        ticks.tick().await;
        let due = votes_until(start.elapsed().as_secs_f64() / plan.surge_share, plan.surge_share);
        database.ballots.cast(cast, due - cast, None, &pipeline.queue)?;
        cast = due;
    }
    mappings.drained().await;
    mappings.stop().await;
    let log = pipeline.log();
    pipeline.close().await?;
    let counted = database.votes(false).await?;
    anyhow::ensure!(counted == cast as i64, "{cast} votes were cast, {counted} were counted");
    test_bed.remove(database).await?;
    let mut at = 0.0;
    let course = COURSE.map(|(rate, seconds)| {
        at += seconds * plan.surge_share;
        (at - seconds * plan.surge_share, rate)
    });
    Ok(Surge { started_ms, course: course.to_vec(), votes: cast, batches: lag::read(&log)? })
}

/// Returns the votes due after some seconds of the course, for a surge shortened to `share`.
fn votes_until(seconds: f64, share: f64) -> u64 {
    let mut left = seconds;
    let due = COURSE.iter().map(|(rate, length)| {
        let elapsed = left.clamp(0.0, *length);
        left -= elapsed;
        rate * elapsed
    });
    (due.sum::<f64>() * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_course_is_followed() {
        assert_eq!(votes_until(1.0, 1.0), 100);
        assert_eq!(votes_until(9.0, 1.0), 800 + 5_000);
        assert_eq!(votes_until(9.0, 0.5), 400 + 2_500);
        assert_eq!(votes_until(1e9, 1.0), 800 + 20_000 + 240_000 + 20_000 + 1_200);
    }
}
