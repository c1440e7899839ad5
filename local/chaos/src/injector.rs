//! Injects the planned faults, with the tracks in parallel, and undoes each of them.
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

/// Factor by which a run shortens the template's times; `CERTIFY_SIGN_SECONDS` is 146 in the template.
pub const SCALE: u32 = 16;

/// One message in this many is withheld: more than by SQS, so that a run of some thousand votes has some.
const WITHHELD_ONE_IN: u64 = 500;

/// Time that a fault waits for a batch; twice the length of an outage is added.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The targets of the faults.
#[derive(Debug)]
pub struct Injector {
    /// PostgreSQL's server.
    pub ledger: Mutex<Stores>,
    /// Redis's server.
    pub ranking: Mutex<Stores>,
    /// Proxy in front of PostgreSQL.
    pub postgres: StoreProxy,
    /// Proxy in front of Redis.
    pub redis: StoreProxy,
    /// Faults between the queue and the function.
    pub deliveries: Arc<Deliveries>,
    /// The functions' processes.
    pub functions: Arc<Functions>,
    /// Record of the injected faults.
    pub record: Arc<Record>,
    /// The queue of votes.
    pub queue: Arc<Queue>,
    /// Switch of the votes function's event source.
    pub counting: watch::Sender<bool>,
    /// URL of PostgreSQL that bypasses the proxy.
    pub database_url: String,
    /// Length of an outage.
    pub outage: Duration,
    /// Time without new faults after each [`FAULT_PHASE`].
    pub calm: Duration,
}

/// Time with new faults before each calm.
const FAULT_PHASE: Duration = Duration::from_secs(12);

/// Signals the end of fault injection.
pub(crate) type Ending = watch::Receiver<bool>;

impl Injector {
    /// Injects faults until `ending` and undoes them.
    ///
    /// # Errors
    /// A store does not restart.
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
            if wait(&mut ending, event.pause).await || self.wait_out_calm(started, &mut ending).await {
                break;
            }
            let label =
                event.crash.as_ref().map_or_else(|| event.fault.name(), |(point, _)| crash_label(point));
            self.record.set_active(&label, true);
            let injected = self.inject(&event, &label, &mut ending).await;
            self.record.set_active(&label, false);
            injected.with_context(|| format!("after {label}"))?;
        }
        Ok(())
    }

    /// Waits for the end of a calm, if there is one. Returns `true` at the `ending`.
    async fn wait_out_calm(&self, started: Instant, ending: &mut Ending) -> bool {
        if self.calm.is_zero() {
            return false;
        }
        let round = FAULT_PHASE + self.calm;
        let into_round_ms = started.elapsed().as_millis() % round.as_millis();
        let into_round = Duration::from_millis(into_round_ms as u64);
        into_round >= FAULT_PHASE && wait(ending, round - into_round).await
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
                    // The process may stay idle or end before its crash point: arm another one each second.
                    if Instant::now() >= again {
                        again += Duration::from_secs(1);
                        self.deliveries.arm(event.crash.clone());
                        self.functions.force_cold_start(VOTES);
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
            Fault::PostgresKill => self.stop_store(Store::Postgres, End::Killed, event, ending).await?,
            Fault::PostgresStop => self.stop_store(Store::Postgres, End::Stopped, event, ending).await?,
            Fault::RedisKill => self.stop_store(Store::Redis, End::Killed, event, ending).await?,
            Fault::RedisStop => self.stop_store(Store::Redis, End::Stopped, event, ending).await?,
            Fault::RedisFlush => {
                flush(&self.ranking.lock().await.redis_url).await?;
                self.record.add(label);
            }
            Fault::PostgresHang => self.disturb(&self.postgres, Passage::Held, event, ending).await,
            Fault::RedisHang => self.disturb(&self.redis, Passage::Held, event, ending).await,
            Fault::PostgresSlow => {
                self.disturb(&self.postgres, Passage::Delayed(event.delay), event, ending).await;
            }
            Fault::RedisSlow => self.disturb(&self.redis, Passage::Delayed(event.delay), event, ending).await,
            Fault::RedisDemote => self.demote_redis(event, label, ending).await?,
            Fault::ReadOnly => self.refuse_writes(event, label, ending).await?,
            Fault::ConnectionsIdleKilled => self.kill_connections(label).await?,
            Fault::Clock | Fault::History | Fault::StatisticsStale => {}
        }
        Ok(())
    }

    /// Ends every idle process and makes new ones fail at start.
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

    /// Blocks counting by the lock of `CREATE INDEX` without `CONCURRENTLY`.
    async fn lock_votes(&self, event: &Event, label: &str, ending: &mut Ending) -> Result<()> {
        // Keeps other faults from stopping PostgreSQL.
        let _running = self.ledger.lock().await;
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let mut transaction = connection.begin().await?;
        sqlx::query("LOCK TABLE votes IN SHARE MODE").execute(&mut *transaction).await?;
        self.record.add(label);
        wait(ending, event.length).await;
        transaction.rollback().await?;
        Ok(())
    }

    async fn stop_store(&self, store: Store, end: End, event: &Event, ending: &mut Ending) -> Result<()> {
        let mut server = match store {
            Store::Postgres => self.ledger.lock().await,
            Store::Redis => self.ranking.lock().await,
        };
        server.take_down(store, end).await?;
        self.record.add(&event.fault.name());
        wait(ending, event.length).await;
        server.bring_back(store).await
    }

    async fn disturb(&self, proxy: &StoreProxy, passage: Passage, event: &Event, ending: &mut Ending) {
        proxy.set(passage);
        self.record.add(&event.fault.name());
        wait(ending, event.length).await;
        proxy.set(Passage::Immediate);
    }

    /// Waits until the condition holds and returns `true`, or `false` at the timeout or the `ending`.
    async fn until(&self, ending: &mut Ending, mut condition: impl FnMut() -> bool) -> bool {
        let give_up = Instant::now() + BATCH_TIMEOUT + self.outage * 2;
        loop {
            if condition() {
                return true;
            }
            if Instant::now() > give_up || wait(ending, POLL_INTERVAL).await {
                return false;
            }
        }
    }
}

/// Waits for this time. Returns `true` at the `ending`.
pub(crate) async fn wait(ending: &mut Ending, time: Duration) -> bool {
    if time.is_zero() {
        return *ending.borrow();
    }
    match timeout(time, ending.wait_for(|ending| *ending)).await {
        Ok(Ok(_)) => true,
        // The sender is gone: treat this as the ending.
        Ok(Err(_)) => {
            sleep(time).await;
            true
        }
        Err(_) => false,
    }
}

/// Sends `FLUSHALL`, bypassing the proxy.
async fn flush(redis_url: &str) -> Result<()> {
    let mut connection = redis::Client::open(redis_url)?.get_multiplexed_async_connection().await?;
    Ok(redis::cmd("FLUSHALL").query_async(&mut connection).await?)
}
