//! `local chaos`: votes of every kind, while everything that can break does, and then the books.
//!
//! The stack is the one of `local run`, on stores of its own. The driver keeps a book of what it sent; the verdict
//! holds the ledger against the book, row by row, and the three stores against each other.
mod book;
mod books_compared;
mod client;
mod deliveries;
mod driver;
mod fault;
mod finale;
mod injector;
mod plan;
mod polls;
mod progress;
mod reckoning;
mod store_proxy;
mod verdict;
mod vote;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde_json::json;
use shared::domain::VoterHasher;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

pub use self::fault::Fault;
use self::{
    book::Book,
    books_compared::Books,
    client::{Client, Crew},
    deliveries::Deliveries,
    driver::{Driver, now_ms},
    fault::Record,
    finale::Finale,
    injector::Injector,
    polls::{Poll, Window},
    progress::{Progress, Sources},
    reckoning::Reckoning,
    store_proxy::StoreProxy,
    verdict::Verdict,
    vote::{TOKEN_HOLDERS, Votes},
};
use crate::{
    cli::{ChaosArguments, RunArguments},
    event_source::Disturbance,
    lambda::Births,
    sqs::Queue,
    stack::{DataFolder, Listeners, Machine, Running, StopRequests, migrate},
    stores::{
        Given, Stores,
        upstream::{Upstream, database_through, redis_through},
    },
};

/// What is set otherwise than in the template, so that a run takes seconds and not hours: what failed comes again
/// soon, even while its batch is still being worked on; calls are given up soon; batches do not wait for long; and
/// the function may run more often than its queue calls it, for second deliveries.
const SETTINGS: [&str; 5] = [
    "VotesQueue.VisibilityTimeout=3",
    "VotesFunction.Environment.Variables.DATABASE_TIMEOUT_MS=1000",
    "VotesFunction.Events.Votes.MaximumBatchingWindowInSeconds=1",
    "VotesFunction.Events.Votes.ScalingConfig.MaximumConcurrency=6",
    "VotesFunction.ReservedConcurrentExecutions=24",
];

/// Votes a second of a run whose duration is not given.
const VOTES_PER_SECOND: u64 = 5_000;

/// Below, not every kind of fault finds its time.
const DURATION_MIN: Duration = Duration::from_secs(25);

/// Of the votes, through the edge.
const HTTP_PERCENT: u32 = 20;

/// How long the queue may stay as full as it is when all faults are over.
const DRAIN_PATIENCE: Duration = Duration::from_secs(90);

/// Between two moves of a window.
const MOVE_INTERVAL: Duration = Duration::from_millis(700);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs it and prints the verdict; `true`: everything held, and everything was tried.
///
/// # Errors
/// The run could not be made or ended.
pub async fn run(arguments: &ChaosArguments) -> Result<bool> {
    let stop = StopRequests::listen()?;
    let stack = stack_arguments(arguments)?;
    let listeners = Listeners::bind(&stack).await?;
    let folder = DataFolder::open(&stack)?;
    let stores = Stores::start(folder.path(), &Given::default(), false).await?;
    let run = Run::prepare(arguments, &stack, &folder, listeners, stores).await?;
    let result = tokio::select! {
        verdict = run.play() => verdict,
        () = stop.reached(1) => Err(anyhow!("stopped before the verdict")),
    };
    run.shut_down().await;
    let verdict = result?;
    println!("{verdict}");
    if !verdict.holds() {
        let kept = folder.keep();
        println!("Logs and the ledger's data are kept in {}.", kept.display());
    }
    Ok(verdict.holds())
}

fn stack_arguments(arguments: &ChaosArguments) -> Result<RunArguments> {
    let free_port = || -> Result<u16> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port())
    };
    Ok(RunArguments {
        template: arguments.template.clone(),
        port: free_port()?,
        aws_port: free_port()?,
        data_dir: PathBuf::new(),
        ephemeral: true,
        artifacts: None,
        set: SETTINGS.iter().map(ToString::to_string).collect(),
        parameter: Vec::new(),
        no_demo: true,
    })
}

/// A run.
struct Run {
    seed: u64,
    faults: Vec<Fault>,
    votes: u64,
    duration: Duration,
    port: u16,
    running: Running,
    injector: Injector,
    record: Arc<Record>,
    hasher: VoterHasher,
    database_url: String,
    redis_url: String,
}

impl Run {
    async fn prepare(
        arguments: &ChaosArguments,
        stack: &RunArguments,
        folder: &DataFolder,
        listeners: Listeners,
        stores: Stores,
    ) -> Result<Self> {
        let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
        let faults = arguments.faults.clone();
        let record = Arc::new(Record::new(faults.clone()));
        migrate(&stores.database_url).await?;
        let postgres = StoreProxy::start(Upstream::of_database(&stores.database_url)?).await?;
        let redis = StoreProxy::start(Upstream::of_redis(&stores.redis_url)?).await?;
        let machine = Machine {
            database_url: database_through(&stores.database_url, postgres.port)?,
            redis_url: redis_through(&stores.redis_url, redis.port)?,
            voter_hash_key: folder.voter_hash_key()?,
        };
        let deliveries = Deliveries::new(seed, Arc::clone(&record));
        let disturbance = Arc::clone(&deliveries) as Arc<dyn Disturbance>;
        let running = Running::start(stack, folder, &machine, stores.pids(), listeners, Some(&disturbance))?;
        running.functions.attend_births(&(Arc::clone(&deliveries) as Arc<dyn Births>));
        let (database_url, redis_url) = (stores.database_url.clone(), stores.redis_url.clone());
        let injector = Injector {
            stores: tokio::sync::Mutex::new(stores),
            postgres,
            redis,
            deliveries,
            functions: Arc::clone(&running.functions),
            record: Arc::clone(&record),
            outage: Duration::from_secs(arguments.outage),
        };
        let spread = Duration::from_secs(arguments.votes / VOTES_PER_SECOND).max(DURATION_MIN);
        Ok(Self {
            seed,
            faults,
            votes: arguments.votes,
            duration: arguments.duration.map_or(spread, Duration::from_secs),
            port: stack.port,
            running,
            injector,
            record,
            hasher: machine.voter_hash_key.parse()?,
            database_url,
            redis_url,
        })
    }

    async fn play(&self) -> Result<Verdict> {
        let start_ms = now_ms();
        let polls = polls::make(&mut self.crew()?, start_ms, self.duration).await?;
        let tokens = (0..TOKEN_HOLDERS).map(|voter| self.running.issuer.token(&book::subject(voter), None));
        let tokens: Arc<Vec<String>> = Arc::new(tokens.collect::<Result<_>>()?);
        let book = Arc::new(Mutex::new(Book::new(self.hasher.clone(), polls.clone())));
        let queue = self.running.queues.get("VotesQueue").context("the template has no VotesQueue")?;
        let accepted = Arc::new(AtomicU64::new(0));
        let progress = Progress::start(Sources {
            accepted: Arc::clone(&accepted),
            votes: self.votes,
            queue: Arc::clone(&queue),
            logs: Arc::clone(&self.running.logs),
            record: Arc::clone(&self.record),
            stage: Arc::new(Mutex::new("voting")),
        });
        println!("chaos: seed {}, {} votes in {} s", self.seed, self.votes, self.duration.as_secs());
        let driver = Driver {
            votes: Votes::new(self.seed, polls.clone(), HTTP_PERCENT),
            count: self.votes,
            duration: self.duration,
            queue: Arc::clone(&queue),
            port: self.port,
            tokens,
            book: Arc::clone(&book),
            record: Arc::clone(&self.record),
            accepted: Arc::clone(&accepted),
        };
        let started = Instant::now();
        self.break_things_while(driver.run(), &polls).await?;
        progress.stage("draining");
        drain(&queue).await?;
        let elapsed = started.elapsed();
        progress.stage("last batches");
        let books = Books::new(&self.database_url, &self.redis_url)?;
        let finale = Finale { injector: &self.injector, queue: &queue, book: &book, accepted: &accepted };
        let unhealed = finale.play(&books).await?;
        progress.stage("reading");
        let lines = self.read_and_compare(&books, &polls).await?;
        progress.stage("reckoning");
        let mut book = std::mem::replace(
            &mut *book.lock().unwrap_or_else(PoisonError::into_inner),
            Book::new(self.hasher.clone(), Vec::new()),
        );
        let reckoning = Reckoning::make(&self.database_url, &mut book).await?;
        progress.finish();
        let dead =
            self.running.queues.get("VotesDeadLetterQueue").context("there is no VotesDeadLetterQueue")?;
        let dead = dead.counts();
        Ok(Verdict {
            seed: self.seed,
            elapsed,
            accepted: accepted.load(Ordering::Relaxed),
            by_kind: book.by_kind,
            received: queue.counts().sent_total,
            reckoning,
            polls: lines,
            unhealed,
            dead: dead.visible + dead.in_flight + dead.delayed,
            injected: self.record.injected(),
            missing: self.record.missing(),
        })
    }

    fn crew(&self) -> Result<Crew> {
        Ok(Crew::new(self.port, self.running.issuer.token("crew", Some("admin"))?))
    }

    /// Injects faults and moves a window until all votes are sent; then everything is whole again.
    async fn break_things_while(
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
        // A store that does not come back ends the run at once: nothing could be counted any more.
        tokio::try_join!(votes, self.injector.run(self.seed, &self.faults, &ending), async {
            moves.await;
            Ok(())
        })?;
        Ok(())
    }

    /// Reads each ranking as a viewer does, which heals what lost its data after its last batch, and compares.
    async fn read_and_compare(&self, books: &Books, polls: &[Poll]) -> Result<Vec<books_compared::Line>> {
        let mut viewer = Client::new(self.port);
        let mut lines = Vec::with_capacity(polls.len());
        for poll in polls {
            let path = format!("/polls/{}/ranking", poll.id);
            let (status, body) = viewer.send("GET", &path, "", String::new()).await?;
            ensure!(status.is_success(), "GET {path} answered {status}: {}", String::from_utf8_lossy(&body));
            lines.push(books.compare(poll.id).await?);
        }
        Ok(lines)
    }

    async fn shut_down(self) {
        self.running.servers.stop().await;
        // What runs is cut short: the verdict has been made, or nobody waits for it.
        drop(self.running.mappings);
        self.running.functions.shut_down().await;
        self.injector.stores.into_inner().stop().await;
    }
}

/// The end of a moving poll's window goes back and forth, so that votes are judged by definitions which change while
/// they wait, and come again under another one. A move that fails, because a store is away, is not made.
async fn move_windows(mut crew: Crew, polls: &[Poll], mut ending: watch::Receiver<bool>) {
    let moving = polls.iter().filter(|poll| poll.kind.window == Window::Moving);
    let paths: Vec<_> = moving.map(|poll| format!("/admin/polls/{}", poll.id)).collect();
    let mut closes = true;
    while timeout(MOVE_INTERVAL, ending.wait_for(|ending| *ending)).await.is_err() {
        for path in &paths {
            // Some seconds ago: what has been counted since would be late by the new definition.
            let closes_at =
                if closes { polls::moment(now_ms() - 3_000).unwrap_or_default() } else { json!(null) };
            let _not_moved = crew.call("PATCH", path, &json!({ "closesAt": closes_at })).await;
        }
        closes = !closes;
    }
}

/// Waits until the queue is empty, as long as it gets emptier.
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
        } else if since.elapsed() > DRAIN_PATIENCE {
            bail!("{left} messages do not leave the queue although all faults are over");
        }
        sleep(LOOK_AGAIN).await;
    }
}
