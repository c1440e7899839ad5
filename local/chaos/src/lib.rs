//! `local chaos`: injects faults while votes of every kind come in, then compares the results.
//!
//! The run uses the stack of `local run` on private stores. The driver keeps a book of the votes sent; the verdict
//! compares the ledger with the book, row by row, and the three stores with each other.
//!
//! To add a fault, see the head of `fault.rs`; to add a kind of vote, that of `vote.rs`; to add a check, extend
//! `LedgerDiff` or `Verdict::differences`.
mod arguments;
mod book;
mod certificates;
mod client;
mod comparison;
mod deliveries;
mod driver;
mod failover;
mod fault;
mod finale;
mod history;
mod injector;
mod ledger_diff;
mod plan;
mod polls;
mod progress;
mod public_log;
mod settings;
mod store_proxy;
mod verdict;
mod vote;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use domain::{LedgerAddress, VoterHasher};
use ledger::Ledger;
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

pub use self::{arguments::ChaosArguments, fault::Fault};
use self::{
    book::Book,
    certificates::Certificates,
    client::{Client, Crew},
    comparison::StoreReaders,
    deliveries::{Deliveries, VOTES},
    driver::{Driver, VoteSink, now_ms},
    fault::Record,
    finale::Finale,
    history::History,
    injector::Injector,
    ledger_diff::LedgerDiff,
    polls::{Poll, Window},
    progress::{Progress, Sources},
    public_log::LogReader,
    settings::{accelerated, sign, stack_arguments},
    store_proxy::StoreProxy,
    verdict::Verdict,
    vote::{TOKEN_HOLDERS, Votes},
};
use emulator::{
    cloudwatch::CloudWatch,
    custom_resource,
    event_source::Disturbance,
    lambda::{EnvironmentHook, Functions},
    schedule,
    sqs::Queue,
};
use local_stores::{
    Given, Stores,
    upstream::{Upstream, database_through, redis_through},
};
use stack::{
    Blueprint, Machine, RunArguments, Running, Session, StopRequests, data_folder::DataFolder,
    server::Listeners,
};

/// Time to create one of the closing polls, so that none closes before the first vote.
const POLL_CREATION: Duration = Duration::from_millis(50);

/// Votes per second of a run without `--duration`.
const VOTES_PER_SECOND: u64 = 5_000;

/// A shorter run has no time for every kind of fault.
const DURATION_MIN: Duration = Duration::from_secs(25);

/// Share of the votes that go through the edge.
const HTTP_PERCENT: u32 = 20;

/// Time for the queue to shrink after the last fault; each message that leaves starts it again.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(90);

/// Interval between two changes of a window.
const MOVE_INTERVAL: Duration = Duration::from_millis(700);

/// Deadline of a change of a window; during an outage of a store it is abandoned, so that the run can end.
const MOVE_TIMEOUT: Duration = Duration::from_secs(2);

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the chaos test and prints the verdict. Returns `true` if no promise was broken and every requested fault
/// happened.
///
/// # Errors
/// The run could not be started or finished.
pub async fn run(arguments: &ChaosArguments) -> Result<bool> {
    let stop = StopRequests::listen()?;
    let mut stack = stack_arguments(arguments)?;
    let listeners = Listeners::bind(&mut stack).await?;
    let folder = DataFolder::open(&stack)?;
    let stores = Stores::start(folder.path(), &Given::default(), false).await?;
    println!("stores: {}", stores.versions().await?);
    let run = Run::prepare(arguments, &stack, &stop, &folder, listeners, stores).await?;
    let result = tokio::select! {
        verdict = run.run() => verdict,
        () = stop.reached(1) => {
            run.shut_down().await;
            bail!("stopped before the verdict");
        }
    };
    run.shut_down().await;
    let holds = result.as_ref().is_ok_and(Verdict::holds);
    if let Ok(verdict) = &result {
        println!("{verdict}");
    }
    if !holds {
        println!(
            "The functions' logs (logs/) and the ledger (postgres/) are kept in {}.",
            folder.keep().display()
        );
    }
    result.map(|_| holds)
}

/// A run.
struct Run {
    seed: u64,
    faults: Vec<Fault>,
    votes: u64,
    duration: Duration,
    closing: u16,
    /// Votes of the earlier poll.
    history: u64,
    /// Time for which a failed batch delays certification.
    sign: Duration,
    port: u16,
    running: Running,
    injector: Injector,
    record: Arc<Record>,
    hasher: VoterHasher,
    database_url: String,
    redis_url: String,
    /// The ledger's address as the functions see it, through the proxy.
    functions_ledger: LedgerAddress,
}

impl Run {
    async fn prepare(
        arguments: &ChaosArguments,
        stack: &RunArguments,
        stop: &StopRequests,
        folder: &DataFolder,
        listeners: Listeners,
        stores: Stores,
    ) -> Result<Self> {
        let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let faults = arguments.faults.clone();
        let record = Arc::new(Record::new(faults.clone()));
        let postgres = StoreProxy::start(Upstream::of_database(&stores.database_url)?).await?;
        let redis = StoreProxy::start(Upstream::of_redis(&stores.redis_url)?).await?;
        let machine = Machine {
            database_url: database_through(&stores.functions_url, postgres.port)?,
            owner_url: stores.owner_url(),
            redis_url: redis_through(&stores.redis_url, redis.port)?,
            voter_hash_key: folder.voter_hash_key()?,
        };
        let deliveries = Deliveries::new(seed, Arc::clone(&record));
        let disturbance = Arc::clone(&deliveries) as Arc<dyn Disturbance>;
        let blueprint = Blueprint::read(stack, &machine)?;
        let logs = Arc::new(CloudWatch::new(folder.path().join("logs"))?);
        let functions =
            Functions::from_template(&blueprint.template, stack::artifacts(stack)?, Arc::clone(&logs))?;
        custom_resource::create_all(&blueprint.template, &functions).await?;
        functions.set_environment_hook(&(Arc::clone(&deliveries) as Arc<dyn EnvironmentHook>));
        let session = Session { arguments: stack, stop, folder, stores: &stores };
        let running =
            stack::start(session, listeners, blueprint, logs, &functions, Some(&disturbance)).await?;
        let queue = running.queues.get("VotesQueue").context("the template has no VotesQueue")?;
        let counting =
            running.mappings.switch(VOTES).context("the votes function has no event source mapping")?;
        let (database_url, redis_url) = (stores.database_url.clone(), stores.redis_url.clone());
        let (ledger, ranking) = stores.split();
        let injector = Injector {
            ledger: tokio::sync::Mutex::new(ledger),
            ranking: tokio::sync::Mutex::new(ranking),
            postgres,
            redis,
            deliveries,
            functions,
            record: Arc::clone(&record),
            queue,
            counting,
            database_url: database_url.clone(),
            calm: Duration::from_secs(arguments.calm),
            outage: Duration::from_secs(arguments.outage),
        };
        let spread = Duration::from_secs(arguments.votes / VOTES_PER_SECOND).max(DURATION_MIN);
        Ok(Self {
            seed,
            faults,
            votes: arguments.votes,
            duration: arguments.duration.map_or(spread, Duration::from_secs),
            closing: arguments.closing,
            history: arguments.history,
            sign: sign(arguments.redelivery),
            port: stack.port,
            running,
            injector,
            record,
            hasher: machine.voter_hash_key.parse()?,
            database_url,
            redis_url,
            functions_ledger: Ledger::new(&machine.database_url, MOVE_TIMEOUT)?.address(),
        })
    }

    async fn run(&self) -> Result<Verdict> {
        let schedules: Vec<_> = self.running.schedules.iter().cloned().map(accelerated).collect();
        let _schedules = schedule::start(&schedules, &self.injector.functions);
        let history = self.prepare_ledger().await?;
        let creation = POLL_CREATION * u32::from(self.closing);
        let started_ms = now_ms() + creation.as_millis() as i64;
        let polls = polls::make(&mut self.crew()?, started_ms, self.duration, self.closing).await?;
        let sink = VoteSink {
            book: Arc::new(Mutex::new(Book::new(self.hasher.clone(), polls.clone()))),
            queue: Arc::clone(&self.injector.queue),
            accepted: Arc::default(),
        };
        let progress = Progress::start(Sources {
            accepted: Arc::clone(&sink.accepted),
            votes: self.votes,
            queue: Arc::clone(&sink.queue),
            logs: Arc::clone(&self.running.figures.logs),
            record: Arc::clone(&self.record),
            stage: Arc::new(Mutex::new("voting")),
        });
        println!("chaos: seed {}, {} votes in {} s", self.seed, self.votes, self.duration.as_secs());
        sleep(Duration::from_millis((started_ms - now_ms()).max(0).unsigned_abs())).await;
        let started = Instant::now();
        self.inject_faults_during(self.driver(&sink, &polls)?.run(), &polls).await?;
        progress.stage("draining");
        drain(&sink.queue).await?;
        let elapsed = started.elapsed();
        progress.stage("certifying");
        let certificates = self.certificates(&polls, started_ms).await?;
        progress.stage("last batches");
        let readers = StoreReaders::new(&self.database_url, &self.redis_url, self.functions_ledger)?;
        let unhealed = Finale { injector: &self.injector, sink: &sink }.run(&readers).await;
        progress.stage("reading");
        let lines = self.read_and_compare(&readers, &polls).await?;
        progress.stage("comparing with the ledger");
        self.judge(&sink, elapsed, lines, certificates, unhealed, history).await
    }

    /// Injects the faults that must exist before the load.
    async fn prepare_ledger(&self) -> Result<Option<History>> {
        if self.record.is_requested(Fault::StatisticsStale) {
            history::freeze_statistics(&self.database_url).await?;
            self.record.add(&Fault::StatisticsStale.name());
        }
        if !self.record.is_requested(Fault::History) {
            return Ok(None);
        }
        let made = History::make(&mut self.crew()?, &self.database_url, self.history, now_ms()).await?;
        self.record.add(&Fault::History.name());
        Ok(Some(made))
    }

    /// Waits for the certificates of the closed polls.
    async fn certificates(&self, polls: &[Poll], started_ms: i64) -> Result<Certificates> {
        let closed: Vec<_> = polls.iter().filter(|poll| poll.closes()).map(|poll| poll.id).collect();
        let found = certificates::wait_for(&self.database_url, &closed).await?;
        Ok(Certificates::of(&found, started_ms, &self.injector.deliveries.failures_ms(), self.sign))
    }

    fn driver(&self, sink: &VoteSink, polls: &[Poll]) -> Result<Driver> {
        let tokens = (0..TOKEN_HOLDERS).map(|voter| self.running.issuer.token(&book::subject(voter), None));
        Ok(Driver {
            votes: Votes::new(self.seed, polls.to_vec(), self.votes, HTTP_PERCENT),
            count: self.votes,
            duration: self.duration,
            sink: sink.clone(),
            port: self.port,
            tokens: Arc::new(tokens.collect::<Result<_>>()?),
            record: Arc::clone(&self.record),
        })
    }

    async fn judge(
        &self,
        sink: &VoteSink,
        elapsed: Duration,
        polls: Vec<comparison::PollTotals>,
        certificates: Certificates,
        unhealed: Vec<String>,
        history: Option<History>,
    ) -> Result<Verdict> {
        let dead =
            self.running.queues.get("VotesDeadLetterQueue").context("there is no VotesDeadLetterQueue")?;
        let dead = dead.counts();
        let mut book = sink.take_book();
        let received = sink.queue.counts();
        let withheld = sink.queue.withheld();
        let ids: Vec<_> = polls.iter().map(|totals| totals.poll).collect();
        let mut reader = LogReader { viewer: Client::new(self.port), ledger: self.functions_ledger };
        let logs = reader.check(&self.database_url, &ids, std::mem::take(&mut book.logged)).await?;
        let ledger_diff = LedgerDiff::make(&self.database_url, &mut book, &withheld, history).await?;
        let (early, withheld) = (ledger_diff.early.clone(), ledger_diff.withheld_late);
        Ok(Verdict {
            seed: self.seed,
            elapsed,
            accepted: book.accepted,
            messages: book.messages,
            // Messages sent by the functions themselves are no votes.
            received: received.sent_total - received.sent_by_clients,
            ledger_diff,
            logs,
            certificates: Certificates { early, withheld, ..certificates },
            by_kind: book.by_kind,
            polls,
            unhealed,
            dead: dead.visible + dead.in_flight + dead.delayed,
            injected: self.record.injected(),
            missing: self.record.missing(),
        })
    }

    fn crew(&self) -> Result<Crew> {
        Ok(Crew::new(self.port, self.running.issuer.token("crew", Some("admin"))?))
    }

    /// Injects faults and changes windows until all votes are sent, then undoes the faults.
    async fn inject_faults_during(
        &self,
        votes: impl Future<Output = Result<()>>,
        polls: &[Poll],
    ) -> Result<()> {
        let (end, ending) = watch::channel(false);
        let votes = async {
            let sent = votes.await;
            end.send_replace(true);
            sent
        };
        let moves = move_windows(self.crew()?, polls, ending.clone());
        // A store that does not restart ends the run at once: nothing could be counted any more.
        tokio::try_join!(votes, self.injector.run(self.seed, &self.faults, &ending), async {
            moves.await;
            Ok(())
        })?;
        Ok(())
    }

    /// Reads each ranking as a viewer does and compares the stores. The read repairs a ranking that lost its data
    /// after its last batch.
    async fn read_and_compare(
        &self,
        readers: &StoreReaders,
        polls: &[Poll],
    ) -> Result<Vec<comparison::PollTotals>> {
        let mut viewer = Client::new(self.port);
        let mut lines = Vec::with_capacity(polls.len());
        for poll in polls {
            let path = format!("/polls/{}/ranking", poll.id);
            let (status, body) = viewer.send("GET", &path, "", String::new()).await?;
            ensure!(status.is_success(), "GET {path} answered {status}: {}", String::from_utf8_lossy(&body));
            lines.push(readers.compare(poll.id).await?);
        }
        Ok(lines)
    }

    async fn shut_down(self) {
        self.running.servers.stop().await;
        // Running batches are aborted: the verdict is complete, or the run was stopped.
        drop(self.running.mappings);
        self.injector.functions.shut_down().await;
        self.injector.ranking.into_inner().stop().await;
        self.injector.ledger.into_inner().stop().await;
    }
}

/// Closes and reopens the moving polls, so that definitions change while votes wait in the queue, and redelivered
/// votes are judged by another definition.
async fn move_windows(mut crew: Crew, polls: &[Poll], mut ending: watch::Receiver<bool>) {
    let moving = polls.iter().filter(|poll| poll.kind.window == Window::Moving);
    let paths: Vec<_> = moving.map(|poll| format!("/admin/polls/{}", poll.id)).collect();
    let mut closes = true;
    while timeout(MOVE_INTERVAL, ending.wait_for(|ending| *ending)).await.is_err() {
        for path in &paths {
            let path = format!("{path}/{}", if closes { "close" } else { "open" });
            let _not_moved = timeout(MOVE_TIMEOUT, crew.call("POST", &path, &json!(null))).await;
        }
        closes = !closes;
    }
}

/// Waits until the queue is empty. Fails if it does not shrink for [`DRAIN_TIMEOUT`].
async fn drain(queue: &Queue) -> Result<()> {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let counts = queue.counts();
        let left = counts.visible + counts.in_flight + counts.delayed;
        if left == 0 {
            return Ok(());
        }
        if left < least {
            (least, since) = (left, Instant::now());
        } else if since.elapsed() > DRAIN_TIMEOUT {
            bail!("{left} messages do not leave the queue although all faults are over");
        }
        sleep(POLL_INTERVAL).await;
    }
}
