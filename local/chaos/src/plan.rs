//! The plan of a run: a sequence of faults with pauses and durations, derived from the seed.
use std::time::Duration;

use crate::fault::{CRASH_POINTS, Fault};

/// A sequence of faults. Faults of one track follow each other; tracks overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Processes and deliveries.
    Function,
    /// The ledger.
    Postgres,
    /// The ranking.
    Redis,
    /// The event source, for all batches.
    Queue,
}

/// One fault of the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Pause after the end of the previous fault.
    pub pause: Duration,
    /// The kind of fault.
    pub fault: Fault,
    /// A crash point's name and the rest of `CRASH_POINT`: passes and turns.
    pub crash: Option<(&'static str, String)>,
    /// Duration; zero for momentary faults.
    pub length: Duration,
    /// Delay of a slow store's answers.
    pub delay: Duration,
    /// Random number that chooses among the targets present at that time.
    pub pick: usize,
}

/// The endless faults of one track. Each round has every kind once, in random order.
#[derive(Debug)]
pub struct Plan {
    rng: fastrand::Rng,
    kinds: Vec<(Fault, Option<&'static str>)>,
    round: Vec<(Fault, Option<&'static str>)>,
    rounds: u32,
    outage: Duration,
}

impl Plan {
    /// Returns the plan of a track. Outages last `outage` ± 20 %.
    pub fn new(seed: u64, track: Track, faults: &[Fault], outage: Duration) -> Self {
        let ours = faults.iter().copied().filter(|fault| track_of(*fault) == Some(track));
        let kinds = ours.flat_map(|fault| match fault {
            Fault::Crash => CRASH_POINTS.iter().map(|point| (fault, Some(*point))).collect(),
            other => vec![(other, None)],
        });
        let kinds = kinds.collect();
        Self {
            rng: fastrand::Rng::with_seed(seed ^ track as u64),
            kinds,
            round: Vec::new(),
            rounds: 0,
            outage,
        }
    }
}

impl Iterator for Plan {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.round.is_empty() {
            self.round.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.round);
            self.rounds += 1;
        }
        let (fault, point) = self.round.pop()?;
        let rng = &mut self.rng;
        let length_ms = match fault {
            // Longer than the functions' timeouts, so that abandoned calls still take effect.
            Fault::PostgresHang | Fault::RedisHang => rng.u64(1_200..2_500),
            Fault::PostgresSlow | Fault::RedisSlow => rng.u64(800..2_000),
            Fault::PostgresStop
            | Fault::RedisStop
            | Fault::RedisDemote
            | Fault::ReadOnly
            | Fault::TableLock
            | Fault::CountingStopped
            | Fault::VotesBroken => {
                let outage_ms = self.outage.as_millis() as u64;
                rng.u64(outage_ms * 4 / 5..=outage_ms * 6 / 5)
            }
            Fault::Duplicate | Fault::LostAck | Fault::BadResponse => rng.u64(300..1_500),
            Fault::BadQueue => rng.u64(3_000..9_000),
            Fault::PostgresKill | Fault::RedisKill => rng.u64(0..400),
            _ => 0,
        };
        // The first round comes quickly; later pauses are longer than the faults, so that the stack can work.
        let pause_ms =
            rng.u64(200..500) + if self.rounds > 1 { rng.u64(length_ms..=2 * length_ms + 500) } else { 0 };
        let turns = if point == Some("counting") { rng.u32(0..400) } else { rng.u32(0..6) };
        Some(Event {
            pause: Duration::from_millis(pause_ms),
            fault,
            crash: point.map(|point| (point, format!("{}:{turns}", rng.u32(0..3)))),
            length: Duration::from_millis(length_ms),
            delay: Duration::from_millis(rng.u64(5..80)),
            pick: rng.usize(..),
        })
    }
}

/// Returns a fault's track; `None` for faults that begin before the load or with each process.
fn track_of(fault: Fault) -> Option<Track> {
    match fault {
        Fault::Clock | Fault::History | Fault::StatisticsStale => None,
        Fault::Kill | Fault::Crash | Fault::Duplicate | Fault::LostAck | Fault::BadResponse => {
            Some(Track::Function)
        }
        Fault::PostgresKill
        | Fault::PostgresStop
        | Fault::PostgresHang
        | Fault::PostgresSlow
        | Fault::ReadOnly
        | Fault::ConnectionsIdleKilled
        | Fault::TableLock => Some(Track::Postgres),
        Fault::BadQueue | Fault::CountingStopped | Fault::VotesBroken => Some(Track::Queue),
        Fault::RedisKill
        | Fault::RedisStop
        | Fault::RedisFlush
        | Fault::RedisDemote
        | Fault::RedisHang
        | Fault::RedisSlow => Some(Track::Redis),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::ValueEnum as _;

    use super::*;

    fn plan(seed: u64, track: Track) -> Plan {
        Plan::new(seed, track, Fault::value_variants(), Duration::from_secs(3))
    }

    #[test]
    fn a_seed_determines_the_plan() {
        let events = |seed| plan(seed, Track::Function).take(50).collect::<Vec<_>>();
        assert_eq!(events(7), events(7));
        assert_ne!(events(7), events(8));
    }

    #[test]
    fn each_round_has_every_kind() {
        for (track, kinds) in
            [(Track::Function, 9), (Track::Postgres, 7), (Track::Redis, 6), (Track::Queue, 3)]
        {
            let mut events = plan(1, track);
            for _ in 0..3 {
                let round: Vec<_> = events.by_ref().take(kinds).collect();
                let different: BTreeSet<_> = round
                    .iter()
                    .map(|event| (event.fault, event.crash.as_ref().map(|crash| crash.0)))
                    .collect();
                assert_eq!(different.len(), kinds, "{round:?}");
            }
        }
    }

    #[test]
    fn faults_that_were_not_requested_do_not_happen() {
        let mut events =
            Plan::new(1, Track::Redis, &[Fault::Kill, Fault::RedisFlush], Duration::from_secs(3));
        assert!(events.by_ref().take(20).all(|event| event.fault == Fault::RedisFlush));
        assert!(Plan::new(1, Track::Postgres, &[Fault::Kill], Duration::from_secs(3)).next().is_none());
    }
}
