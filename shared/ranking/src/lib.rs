//! Redis: a view of the ledger that may be lost at any time, and heals. All Redis commands are here.
//!
//! | key | type | content |
//! |---|---|---|
//! | `poll:{id}` | hash | a definition, or that there is none, its version and when it was loaded |
//! | `polls` | string | the list of current polls and when it was loaded |
//! | `ranking:{id}:{epoch}` | sorted set | absolute totals by contestant |
//! | `voters:{id}` | `HyperLogLog` | voters |
//! | `backlog` | string | how much the votes' queue holds, and when it was asked |
//! | `announced` | sorted set | batches that are under way, by when they began |
//! | `handled` | string | messages handled, probes not among them |
//! | `whole_since` | string | since when nothing has been lost |
//! | `lease:{name}` | string | who is doing what is enough to be done once |
//!
//! Totals only ever grow (`ZADD GT`), so they may arrive late, twice or in any order. What must shrink, a rebuild,
//! moves on to another epoch. Definitions only ever move to a higher version.

mod backlog;
mod batches;
mod breaker;
mod error;
mod lease;
mod voters;

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    Client, Cmd, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult,
    TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

pub use backlog::Backlog;
pub use batches::Batches;
pub use error::{AddressError, Defect, Error, Outage};
pub use lease::Lease;
pub use voters::VOTERS_ERROR;

use crate::breaker::Breaker;
use domain::{ContestantNumber, Poll, PollId, PollWithTally, Tally, Timestamp, Voters};
use runtime::{Retry, environment::Reader, tls::Authorities};

/// Something read from Redis, and when it was read from the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cached<T> {
    /// What it is.
    pub value: T,
    /// When the ledger was asked.
    pub loaded_at: Timestamp,
}

/// Redis, through one connection that is opened when first used and renewed when it breaks or is silent. A command that
/// finds the connection broken is sent again over a new one. While Redis hangs, most calls fail at once instead of after
/// their timeout.
#[derive(Clone)]
pub struct RankingStore {
    client: Client,
    config: ConnectionManagerConfig,
    connection: Arc<Mutex<ConnectionManager>>,
    /// Whether the connection has answered since it was opened.
    has_answered: Arc<AtomicBool>,
    breaker: Arc<Mutex<Breaker>>,
    timeout: Duration,
    lifetime_seconds: u64,
}

impl std::fmt::Debug for RankingStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RankingStore")
    }
}

/// Keeps a definition unless a newer one is there. Version 0 says that there is no such poll.
const KEEP_POLL: &str = "
local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'cached', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1";

impl RankingStore {
    /// Prepares the connection without opening it, so that a function starts while Redis is away. `timeout`
    /// bounds each call; what is not written again for `lifetime_seconds` is forgotten, since the ledger has it.
    /// With `rediss://` the server's certificate must come from one of Amazon's authorities.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn new(url: &str, timeout: Duration, lifetime_seconds: u64) -> Result<Self, AddressError> {
        Self::trusting(&Authorities::amazon(), url, timeout, lifetime_seconds)
    }

    /// The same, with authorities of your own.
    ///
    /// # Errors
    /// When the URL is not one of Redis.
    pub fn trusting(
        authorities: &Authorities,
        url: &str,
        timeout: Duration,
        lifetime_seconds: u64,
    ) -> Result<Self, AddressError> {
        let address = url.into_connection_info()?;
        if matches!(address.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(AddressError::Unverified);
        }
        let client = if matches!(address.addr(), ConnectionAddr::TcpTls { .. }) {
            let root_cert = Some(authorities.pem().to_vec());
            Client::build_with_tls(address, TlsCertificates { client_tls: None, root_cert })?
        } else {
            Client::open(address)?
        };
        // One attempt a call: the caller goes on without Redis rather than wait.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self {
            client,
            config,
            connection,
            has_answered: Arc::default(),
            breaker: Arc::default(),
            timeout,
            lifetime_seconds,
        })
    }

    /// Reads `REDIS_URL`, `REDIS_TIMEOUT_MS`, `RANKING_TTL_SECONDS` and `TLS_CA_FILE`. Connects to nothing. What is missing
    /// or wrong is reported by the reader.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let authorities = Authorities::read(reader);
        let url = reader.text("REDIS_URL");
        let timeout_ms = reader.parsed("REDIS_TIMEOUT_MS");
        let ttl_seconds = reader.parsed("RANKING_TTL_SECONDS");
        let timeout = Duration::from_millis(timeout_ms?);
        let ranking = Self::trusting(authorities.as_ref()?, &url?, timeout, ttl_seconds?);
        reader.built("REDIS_URL", ranking)
    }

    /// The definitions that are known here, in the order asked for; `value: None` says that there is no such poll.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn polls(&self, ids: &[PollId]) -> Result<Vec<Option<Cached<Option<Poll>>>>, Error> {
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.hget(poll_key(*id), "cached");
        }
        let found: Vec<Option<String>> = self.run(&pipeline).await?;
        Ok(found.into_iter().map(decoded).collect())
    }

    /// The list of current polls, if it is known here.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn current_polls(&self) -> Result<Option<Cached<Vec<Poll>>>, Error> {
        Ok(decoded(self.ask(&Cmd::get("polls")).await?))
    }

    /// Every total of a poll; `None` where there are none.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn tally(&self, poll: &Poll) -> Result<Option<Tally>, Error> {
        let command = Cmd::zrange_withscores(ranking_key(poll.id, poll.epoch), 0, -1);
        let members: Vec<(i16, f64)> = self.ask(&command).await?;
        // A score is a double: whole numbers are exact up to 2⁵³.
        let tally: Tally =
            members.into_iter().map(|(number, votes)| (ContestantNumber(number), votes as u64)).collect();
        Ok((!tally.is_empty()).then_some(tally))
    }

    /// Raises totals and adds voters, of any number of polls, in one round trip. Idempotent, and indifferent to order.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; some totals may have been raised.
    pub async fn raise(&self, totals: &BTreeMap<(PollId, i32), Tally>, voters: &Voters) -> Result<(), Error> {
        self.run(&self.raising(totals, voters)).await
    }

    /// Keeps definitions as loaded from the ledger at `loaded_at`, and raises their totals: whoever loads a poll
    /// heals its ranking.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; some may have been kept.
    pub async fn keep_polls(&self, polls: &[PollWithTally], loaded_at: Timestamp) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        for PollWithTally { poll, tally } in polls {
            add_keep(&mut pipeline, poll.id, poll.version, &encoded(poll, loaded_at), self.lifetime_seconds);
            self.add_raise(&mut pipeline, poll.id, poll.epoch, tally);
        }
        self.run(&pipeline).await
    }

    /// Keeps for a while that the ledger, at `loaded_at`, had no such poll. `was_here`: Redis had it, so it has been
    /// deleted, and its number will not come again; else a poll that was made meanwhile stays.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn keep_absence(
        &self,
        id: PollId,
        was_here: bool,
        loaded_at: Timestamp,
        lifetime: Duration,
    ) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        if was_here {
            pipeline.del(poll_key(id)).ignore();
        }
        add_keep(&mut pipeline, id, 0, &encoded(&None::<Poll>, loaded_at), lifetime.as_secs().max(1));
        self.run(&pipeline).await
    }

    /// Keeps the list of current polls as loaded from the ledger at `loaded_at`.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn keep_current_polls(&self, polls: &[Poll], loaded_at: Timestamp) -> Result<(), Error> {
        self.ask(&Cmd::set_ex("polls", encoded(&polls, loaded_at), self.lifetime_seconds)).await
    }

    /// Forgets a poll that the ledger does not have.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn forget_poll(&self, id: PollId) -> Result<(), Error> {
        self.ask(&Cmd::del(poll_key(id))).await
    }

    fn raising(&self, totals: &BTreeMap<(PollId, i32), Tally>, voters: &Voters) -> Pipeline {
        let mut pipeline = redis::pipe();
        for (&(poll, epoch), tally) in totals {
            self.add_raise(&mut pipeline, poll, epoch, tally);
        }
        self.add_voters(&mut pipeline, voters);
        pipeline
    }

    fn add_raise(&self, pipeline: &mut Pipeline, poll: PollId, epoch: i32, tally: &Tally) {
        if tally.is_empty() {
            return;
        }
        let key = ranking_key(poll, epoch);
        let command = pipeline.cmd("ZADD").arg(&key).arg("GT");
        for (number, votes) in tally {
            command.arg(votes).arg(number.0);
        }
        command.ignore();
        pipeline.expire(&key, self.lifetime_seconds.cast_signed()).ignore();
    }

    /// A pipeline with nothing in it is not sent: Redis's client takes it for a mistake.
    async fn run<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        if pipeline.is_empty() {
            return Ok(redis::from_redis_value(redis::Value::Array(Vec::new())).map_err(RedisError::from)?);
        }
        self.bounded(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.bounded(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// The connection's own timeouts add up (connect, then answer); this is the sum a caller can count on, a second
    /// attempt included.
    async fn bounded<T, F>(&self, send: impl Fn(ConnectionManager) -> F) -> Result<T, Error>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.breaker().is_resting(Instant::now()) {
            return Err(Outage::Resting.into());
        }
        let answer = timeout(self.timeout, self.sent(send)).await;
        let timed_out = match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => error.is_timeout(),
            Err(_) => true,
        };
        self.breaker().note(timed_out, Instant::now());
        if timed_out {
            self.renew_connection();
        }
        Ok(answer.map_err(|_| Outage::Timeout(self.timeout))??)
    }

    /// Sends commands, and once more where a connection that has answered before turns out to be broken: every command
    /// here is safe to repeat. The manager opens the new connection. One that has never answered is not tried twice:
    /// then Redis is away.
    async fn sent<T, F>(&self, send: impl Fn(ConnectionManager) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut answer = send(self.connection()).await;
        let is_broken = answer.as_ref().is_err_and(|error| error::retry(error) == Retry::AtOnce);
        if is_broken && self.has_answered.swap(false, Ordering::Relaxed) {
            tracing::info!("ranking.connection_replaced");
            answer = send(self.connection()).await;
        }
        if answer.is_ok() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A server that was replaced leaves connections that are silent for a quarter of an hour and not known to be
    /// broken until then.
    fn renew_connection(&self) {
        if let Ok(renewed) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())
        {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
            self.has_answered.store(false, Ordering::Relaxed);
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add_keep(pipeline: &mut Pipeline, id: PollId, version: i32, entry: &str, lifetime_seconds: u64) {
    let command = pipeline.cmd("EVAL").arg(KEEP_POLL).arg(1).arg(poll_key(id));
    command.arg(version).arg(entry).arg(lifetime_seconds).ignore();
}

fn poll_key(id: PollId) -> String {
    format!("poll:{}", id.0)
}

fn ranking_key(poll: PollId, epoch: i32) -> String {
    format!("ranking:{}:{epoch}", poll.0)
}

fn encoded<T: Serialize>(value: &T, loaded_at: Timestamp) -> String {
    serde_json::to_string(&Cached { value, loaded_at }).expect("definitions are plain data")
}

/// What another release wrote and this one cannot read counts as absent.
fn decoded<T: for<'de> Deserialize<'de>>(text: Option<String>) -> Option<Cached<T>> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}
