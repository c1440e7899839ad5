//! Carries the plan out, each track by itself, and undoes what it did.
use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout},
};

use crate::{
    deliveries::{Deliveries, VOTES},
    fault::{Fault, Record, crash_label},
    plan::{Event, Plan, Track},
    store_proxy::{Passage, StoreProxy},
};
use emulator::{
    lambda::Functions,
    sqs::{Misbehavior, Queue},
};
use local_stores::{End, Store, Stores};

/// By how much the times of the template are shorter in a run: `CERTIFY_SIGN_SECONDS` is 146 there.
pub const SCALE: u32 = 16;

/// More often than SQS, so that a run of some thousand votes has some.
const WITHHELD_ONE_IN: u64 = 500;

/// How long a fault that needs a batch waits for one. An outage may be on meanwhile; it is added to this.
const PATIENCE: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// All that can be broken.
#[derive(Debug)]
pub struct Injector {
    /// PostgreSQL's server.
    pub ledger: Mutex<Stores>,
    /// Redis's server.
    pub ranking: Mutex<Stores>,
    /// Before PostgreSQL.
    pub postgres: StoreProxy,
    /// Before Redis.
    pub redis: StoreProxy,
    /// Between the queue and the function.
    pub deliveries: Arc<Deliveries>,
    /// The processes.
    pub functions: Arc<Functions>,
    /// What has happened.
    pub record: Arc<Record>,
    /// Of votes.
    pub queue: Arc<Queue>,
    /// Of the event source of the votes function.
    pub counting: watch::Sender<bool>,
    /// PostgreSQL, past the proxy.
    pub database_url: String,
    /// How long full stops last.
    pub outage: Duration,
    /// After each [`STORM`] no fault begins for this long.
    pub calm: Duration,
}

/// How long faults begin before each calm.
const STORM: Duration = Duration::from_secs(12);

/// The end of the time for faults.
type Ending = watch::Receiver<bool>;

impl Injector {
    /// Injects faults until the `ending`; then everything is whole again.
    ///
    /// # Errors
    /// A store does not come back.
    pub async fn run(&self, seed: u64, faults: &[Fault], ending: &Ending) -> Result<()> {
        let track = |track| self.track(Plan::new(seed, track, faults, self.outage), ending.clone());
        let tracks =
            (track(Track::Function), track(Track::Postgres), track(Track::Redis), track(Track::Queue));
        tokio::try_join!(tracks.0, tracks.1, tracks.2, tracks.3)?;
        Ok(())
    }

    async fn track(&self, plan: Plan, mut ending: Ending) -> Result<()> {
        let started = Instant::now();
        for event in plan {
            if wait(&mut ending, event.pause).await || self.sit_out_calm(started, &mut ending).await {
                break;
            }
            let label =
                event.crash.as_ref().map_or_else(|| event.fault.name(), |(point, _)| crash_label(point));
            self.record.set_going_on(&label, true);
            let injected = self.inject(&event, &label, &mut ending).await;
            self.record.set_going_on(&label, false);
            injected.with_context(|| format!("after {label}"))?;
        }
        Ok(())
    }

    /// Waits until the calm is over, if it is calm; `true`: the ending has come.
    async fn sit_out_calm(&self, started: Instant, ending: &mut Ending) -> bool {
        if self.calm.is_zero() {
            return false;
        }
        let round = STORM + self.calm;
        let into_round_ms = started.elapsed().as_millis() % round.as_millis();
        let into_round = Duration::from_millis(into_round_ms as u64);
        into_round >= STORM && wait(ending, round - into_round).await
    }

    async fn inject(&self, event: &Event, label: &str, ending: &mut Ending) -> Result<()> {
        match event.fault {
            Fault::Kill => {
                let kill = || self.functions.kill_busy(VOTES, event.pick);
                if self.until(ending, kill).await {
                    self.record.add(label);
                }
            }
            Fault::Crash => {
                let before = self.record.count(label);
                let mut again = Instant::now();
                let armed = || {
                    // A process may lie idle below others, or be through before its point comes: then another one.
                    if Instant::now() >= again {
                        again += Duration::from_secs(1);
                        self.deliveries.arm(event.crash.clone());
                        self.functions.start_next_anew(VOTES);
                    }
                    self.record.count(label) > before
                };
                self.until(ending, armed).await;
                self.deliveries.arm(None);
            }
            Fault::Duplicate | Fault::LostAck | Fault::BadResponse => {
                let before = self.record.count(label);
                self.deliveries.set(Some(event.fault));
                wait(ending, event.length).await;
                self.until(ending, || self.record.count(label) > before).await;
                self.deliveries.set(None);
            }
            Fault::CountingStopped => {
                self.counting.send_replace(false);
                self.record.add(label);
                wait(ending, event.length).await;
                self.counting.send_replace(true);
            }
            Fault::VotesBroken => self.break_votes(event, label, ending).await,
            Fault::TableLock => self.lock_votes(event, label, ending).await?,
            Fault::BadQueue => {
                let how = Misbehavior { withheld_one_in: WITHHELD_ONE_IN, ..Misbehavior::WORST };
                self.queue.misbehave(how.scaled(SCALE), event.pick as u64);
                self.record.add(label);
                wait(ending, event.length).await;
                self.queue.misbehave(Misbehavior::default(), 0);
            }
            Fault::PostgresKill => self.away(Store::Postgres, End::Killed, event, ending).await?,
            Fault::PostgresStop => self.away(Store::Postgres, End::Stopped, event, ending).await?,
            Fault::RedisKill => self.away(Store::Redis, End::Killed, event, ending).await?,
            Fault::RedisStop => self.away(Store::Redis, End::Stopped, event, ending).await?,
            Fault::RedisFlush => {
                flush(&self.ranking.lock().await.redis_url).await?;
                self.record.add(label);
            }
            Fault::PostgresHang => self.through(&self.postgres, Passage::Held, event, ending).await,
            Fault::RedisHang => self.through(&self.redis, Passage::Held, event, ending).await,
            Fault::PostgresSlow => {
                self.through(&self.postgres, Passage::Late(event.delay), event, ending).await;
            }
            Fault::RedisSlow => self.through(&self.redis, Passage::Late(event.delay), event, ending).await,
            Fault::Clock => {}
        }
        Ok(())
    }

    /// Every process that is not in mid-batch ends, and no new one starts.
    async fn break_votes(&self, event: &Event, label: &str, ending: &mut Ending) {
        let before = self.record.count(label);
        self.deliveries.set_broken(true);
        let over = Instant::now() + event.length;
        let broken = || {
            self.functions.end_idle(VOTES);
            Instant::now() > over && self.record.count(label) > before
        };
        self.until(ending, broken).await;
        self.deliveries.set_broken(false);
    }

    /// No batch can count; what `CREATE INDEX` without `CONCURRENTLY` does.
    async fn lock_votes(&self, event: &Event, label: &str, ending: &mut Ending) -> Result<()> {
        // No other fault takes PostgreSQL away meanwhile.
        let _there = self.ledger.lock().await;
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let mut transaction = connection.begin().await?;
        sqlx::query("LOCK TABLE votes IN SHARE MODE").execute(&mut *transaction).await?;
        self.record.add(label);
        wait(ending, event.length).await;
        transaction.rollback().await?;
        Ok(())
    }

    async fn away(&self, store: Store, end: End, event: &Event, ending: &mut Ending) -> Result<()> {
        let mut server = match store {
            Store::Postgres => self.ledger.lock().await,
            Store::Redis => self.ranking.lock().await,
        };
        server.take_down(store, end).await?;
        self.record.add(&event.fault.name());
        wait(ending, event.length).await;
        server.bring_back(store).await
    }

    async fn through(&self, proxy: &StoreProxy, passage: Passage, event: &Event, ending: &mut Ending) {
        proxy.set(passage);
        self.record.add(&event.fault.name());
        wait(ending, event.length).await;
        proxy.set(Passage::Free);
    }

    /// Waits until it is so, or has become too late; `true`: it is so.
    async fn until(&self, ending: &mut Ending, mut is_so: impl FnMut() -> bool) -> bool {
        let give_up = Instant::now() + PATIENCE + self.outage * 2;
        loop {
            if is_so() {
                return true;
            }
            if Instant::now() > give_up || wait(ending, POLL_INTERVAL).await {
                return false;
            }
        }
    }
}

/// Waits for this time, or until the ending; `true`: it has come.
async fn wait(ending: &mut Ending, time: Duration) -> bool {
    if time.is_zero() {
        return *ending.borrow();
    }
    match timeout(time, ending.wait_for(|ending| *ending)).await {
        Ok(Ok(_)) => true,
        // Whoever would tell the ending is gone.
        Ok(Err(_)) => {
            sleep(time).await;
            true
        }
        Err(_) => false,
    }
}

/// `FLUSHALL`, past the proxy.
async fn flush(redis_url: &str) -> Result<()> {
    let mut connection = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("FLUSHALL").query_async(&mut connection).await?)
}
