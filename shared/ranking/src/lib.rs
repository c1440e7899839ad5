//! Redis: a view of the ledger that may be lost at any time and repairs itself. All Redis commands are in this crate.
//!
//! Every key begins with the ledger's address, `{address}:`, so that a ledger restored elsewhere never meets the
//! totals and versions of the one before.
//!
//! | key | type | content |
//! |---|---|---|
//! | `poll:{id}` | hash | a definition or the absence of one, its version and its time of loading |
//! | `polls` | string | the list of current polls and its time of loading |
//! | `ranking:{id}:{epoch}` | sorted set | absolute totals by contestant |
//! | `voters:{id}` | `HyperLogLog` | voters |
//! | `voters_whole:{id}` | string | a marker: no voter is missing |
//! | `backlog` | string | the length of the votes' queue and its time of reading |
//! | `announced` | sorted set | batches in flight, by start time |
//! | `handled` | string | the counter of handled messages, without probes |
//! | `whole_since` | string | the time since when no data was lost |
//! | `lease:{name}` | string | the holder of a lease |
//!
//! Totals only grow (`ZADD GT`), so updates may arrive late, twice or in any order. A rebuild, which may lower
//! totals, moves to a new epoch. Definitions only move to a higher version.
//!
//! To add a command: 1. Write a method of [`RankingStore`]. The command must be safe to repeat, since a broken
//! connection repeats it. 2. Send it through `run` or `query`, which apply the deadline and the circuit breaker.
//! 3. Build its key with `key`, add it to this table, and let it expire. 4. Check that `AccessString` in `template.yaml` permits it.

mod backlog;
mod batches;
mod breaker;
mod error;
mod lease;
mod voters;

use std::{
    collections::BTreeMap,
    fmt::Display,
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
pub use voters::{VOTERS_ERROR, VotersUpdate};

use crate::breaker::Breaker;
use domain::{ContestantNumber, LedgerAddress, Poll, PollId, PollWithTally, Tally, Timestamp, Voters};
use runtime::{Retry, environment::Reader, telemetry::error_chain, tls::Authorities};

/// A cache entry and the time when it was loaded from the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cached<T> {
    /// The cached value.
    pub value: T,
    /// The time of loading.
    pub loaded_at: Timestamp,
}

/// A client of Redis with one connection, opened at the first use and renewed when it breaks or times out. A command
/// that finds the connection broken is sent again over a new one. While Redis hangs, a circuit breaker lets most
/// calls fail immediately instead of after their timeout.
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
    /// The ledger whose data this is: the prefix of every key.
    ledger: LedgerAddress,
}

impl std::fmt::Debug for RankingStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RankingStore")
    }
}

/// Script: caches a definition unless a newer version is cached. Version 0 means that the poll does not exist.
const CACHE_POLL: &str = "
local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'cached', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1";

impl RankingStore {
    /// Creates the client without connecting, so that a function can start while Redis is unavailable. `timeout`
    /// bounds each call. Entries expire `lifetime_seconds` after the last write, since the ledger has the data. They
    /// are those of the ledger at this address. With `rediss://` the server's certificate must be signed by one of
    /// Amazon's authorities.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub fn new(
        url: &str,
        ledger: LedgerAddress,
        timeout: Duration,
        lifetime_seconds: u64,
    ) -> Result<Self, AddressError> {
        Self::trusting(&Authorities::amazon(), url, ledger, timeout, lifetime_seconds)
    }

    /// Creates the client with other certificate authorities.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub fn trusting(
        authorities: &Authorities,
        url: &str,
        ledger: LedgerAddress,
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
        // One attempt for each call: callers continue without Redis rather than wait.
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
            ledger,
        })
    }

    /// Reads `REDIS_URL`, `REDIS_TIMEOUT_MS`, `RANKING_TTL_SECONDS` and `TLS_CA_FILE`. Does not connect. The reader
    /// reports missing and invalid variables. `None` as well without the `ledger`.
    pub fn read(reader: &mut Reader<'_>, ledger: Option<LedgerAddress>) -> Option<Self> {
        let authorities = Authorities::read(reader);
        let url = reader.text("REDIS_URL");
        let timeout_ms = reader.parsed("REDIS_TIMEOUT_MS");
        let ttl_seconds = reader.parsed("RANKING_TTL_SECONDS");
        let timeout = Duration::from_millis(timeout_ms?);
        let ranking = Self::trusting(authorities.as_ref()?, &url?, ledger?, timeout, ttl_seconds?);
        reader.built("REDIS_URL", ranking)
    }

    /// Returns the cached definitions in the requested order. `value: None` means that the poll does not exist.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn polls(&self, ids: &[PollId]) -> Result<Vec<Option<Cached<Option<Poll>>>>, Error> {
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.hget(self.poll_key(*id), "cached");
        }
        let found: Vec<Option<String>> = self.run(&pipeline).await?;
        Ok(found.into_iter().map(decoded).collect())
    }

    /// Returns the cached list of current polls.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn current_polls(&self) -> Result<Option<Cached<Vec<Poll>>>, Error> {
        Ok(decoded(self.query(&Cmd::get(self.key("polls"))).await?))
    }

    /// Returns all totals of a poll. `None` if there are none.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn tally(&self, poll: &Poll) -> Result<Option<Tally>, Error> {
        let command = Cmd::zrange_withscores(self.ranking_key(poll.id, poll.epoch), 0, -1);
        let members: Vec<(i16, f64)> = self.query(&command).await?;
        Ok(Some(tally(members)).filter(|tally| !tally.is_empty()))
    }

    /// Returns the totals of each of these polls, each of one epoch, in the requested order. Empty where there are
    /// none.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn tallies(&self, polls: &[(PollId, i32)]) -> Result<Vec<Tally>, Error> {
        let mut pipeline = redis::pipe();
        for &(poll, epoch) in polls {
            pipeline.zrange_withscores(self.ranking_key(poll, epoch), 0, -1);
        }
        let found: Vec<Vec<(i16, f64)>> = self.run(&pipeline).await?;
        Ok(found.into_iter().map(tally).collect())
    }

    /// Deletes all data of a poll: its definition, its totals of these epochs, and its voters.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; a part may have been deleted.
    pub async fn delete_poll(&self, id: PollId, epochs: &[i32]) -> Result<(), Error> {
        let mut keys = vec![self.poll_key(id), self.voters_key(id), self.whole_key(id)];
        keys.extend(epochs.iter().map(|&epoch| self.ranking_key(id, epoch)));
        self.query(&Cmd::del(keys)).await
    }

    /// Raises totals and adds voters of any number of polls, in one round trip. Idempotent and commutative.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; some totals may have been raised.
    pub async fn raise(&self, totals: &BTreeMap<(PollId, i32), Tally>, voters: &Voters) -> Result<(), Error> {
        let update = VotersUpdate { voters: voters.clone(), ..VotersUpdate::default() };
        self.run(&self.raise_pipeline(totals, &update)).await
    }

    /// Caches definitions loaded from the ledger at `loaded_at`, and raises their totals, so that each load of a
    /// poll repairs its ranking.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; some may have been cached.
    pub async fn keep_polls(&self, polls: &[PollWithTally], loaded_at: Timestamp) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        for PollWithTally { poll, tally } in polls {
            let entry = encoded(poll, loaded_at);
            self.add_cache_entry(&mut pipeline, poll.id, poll.version, &entry, self.lifetime_seconds);
            self.add_raise(&mut pipeline, poll.id, poll.epoch, tally);
        }
        self.run(&pipeline).await
    }

    /// Caches for `lifetime` that the ledger had no such poll at `loaded_at`. `was_here`: Redis had the poll, so it
    /// was deleted and its number is never reused. Otherwise the entry does not replace a poll that was created
    /// meanwhile.
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
            pipeline.del(self.poll_key(id)).ignore();
        }
        let entry = encoded(&None::<Poll>, loaded_at);
        self.add_cache_entry(&mut pipeline, id, 0, &entry, lifetime.as_secs().max(1));
        self.run(&pipeline).await
    }

    /// Caches the list of current polls loaded from the ledger at `loaded_at`.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn keep_current_polls(&self, polls: &[Poll], loaded_at: Timestamp) -> Result<(), Error> {
        self.query(&Cmd::set_ex(self.key("polls"), encoded(&polls, loaded_at), self.lifetime_seconds)).await
    }

    /// Deletes the cache entry of a poll that the ledger does not have.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn forget_poll(&self, id: PollId) -> Result<(), Error> {
        self.query(&Cmd::del(self.poll_key(id))).await
    }

    fn raise_pipeline(&self, totals: &BTreeMap<(PollId, i32), Tally>, voters: &VotersUpdate) -> Pipeline {
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
        let key = self.ranking_key(poll, epoch);
        let command = pipeline.cmd("ZADD").arg(&key).arg("GT");
        for (number, votes) in tally {
            command.arg(votes).arg(number.0);
        }
        command.ignore();
        pipeline.expire(&key, self.lifetime_seconds.cast_signed()).ignore();
    }

    fn add_cache_entry(
        &self,
        pipeline: &mut Pipeline,
        id: PollId,
        version: i32,
        entry: &str,
        lifetime_seconds: u64,
    ) {
        let command = pipeline.cmd("EVAL").arg(CACHE_POLL).arg(1).arg(self.poll_key(id));
        command.arg(version).arg(entry).arg(lifetime_seconds).ignore();
    }

    /// Returns a key of this ledger's data.
    fn key(&self, name: impl Display) -> String {
        format!("{}:{name}", self.ledger)
    }

    fn poll_key(&self, id: PollId) -> String {
        self.key(format_args!("poll:{}", id.0))
    }

    fn ranking_key(&self, poll: PollId, epoch: i32) -> String {
        self.key(format_args!("ranking:{}:{epoch}", poll.0))
    }

    /// Runs a pipeline. An empty one is not sent, since the Redis client treats it as an error.
    async fn run<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, Error> {
        if pipeline.is_empty() {
            return Ok(redis::from_redis_value(redis::Value::Array(Vec::new())).map_err(RedisError::from)?);
        }
        self.with_deadline(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.with_deadline(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Sends commands within one deadline, a second attempt included. The connection's own timeouts for connecting
    /// and answering would add up.
    async fn with_deadline<T, F>(&self, send: impl Fn(ConnectionManager) -> F) -> Result<T, Error>
    where
        F: Future<Output = RedisResult<T>>,
    {
        if self.breaker().is_open(Instant::now()) {
            return Err(Outage::CircuitOpen.into());
        }
        let answer = timeout(self.timeout, self.sent(send)).await;
        let timed_out = match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => error.is_timeout(),
            Err(_) => true,
        };
        self.breaker().record(timed_out, Instant::now());
        if timed_out {
            self.renew_connection();
        }
        Ok(answer.map_err(|_| Outage::Timeout(self.timeout))??)
    }

    /// Sends commands, and repeats them once if a connection that has answered before is broken: every command here
    /// is safe to repeat. The connection manager replaces a broken connection by itself; an intact connection to the
    /// wrong server is replaced here. A connection that has never answered is not retried, since Redis is unavailable then.
    async fn sent<T, F>(&self, send: impl Fn(ConnectionManager) -> F) -> RedisResult<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let mut answer = send(self.connection()).await;
        if let Err(error) = &answer
            && error::retry(error) == Retry::AtOnce
        {
            let is_retried = self.has_answered.swap(false, Ordering::Relaxed);
            if error::is_other_server(error) {
                self.renew_connection();
            }
            if is_retried {
                tracing::info!(error = error_chain(error), "ranking.connection_replaced");
                answer = send(self.connection()).await;
            }
        }
        if answer.is_ok() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn connection(&self) -> ConnectionManager {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the connection. A replaced server may leave connections that stay silent for 15 minutes before they
    /// are detected as broken.
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

/// A score is a double, which represents whole numbers exactly up to 2⁵³.
fn tally(members: Vec<(i16, f64)>) -> Tally {
    members.into_iter().map(|(number, votes)| (ContestantNumber(number), votes as u64)).collect()
}

fn encoded<T: Serialize>(value: &T, loaded_at: Timestamp) -> String {
    serde_json::to_string(&Cached { value, loaded_at }).expect("definitions are plain data")
}

/// Decodes a cache entry. An entry of another release that this one cannot decode counts as absent.
fn decoded<T: for<'de> Deserialize<'de>>(text: Option<String>) -> Option<Cached<T>> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}
