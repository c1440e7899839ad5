//! Sends the votes, spread over the run, and records each accepted one in the book.
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use emulator::clock;
use hyper::StatusCode;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use uuid::Uuid;

use crate::{
    book::{Book, subject},
    client::Client,
    fault::Record,
    vote::{Vote, Votes},
};
use emulator::sqs::{Attribute, NewMessage, Queue};

/// Connections to the edge.
const CONNECTIONS: usize = 16;

/// Votes that wait for one connection.
const WAITING_MAX: usize = 32;

/// Votes between two checks of the clock and the queue.
const STRIDE: u64 = 16;

/// Messages in the queue at which the driver pauses: about 500 MB.
const BACKLOG_MAX: u64 = 800_000;

/// Pause after a throttled request, and while the backlog is full.
const PAUSE: Duration = Duration::from_millis(50);

/// One in this many votes is held back until each kind of fault has happened: faults need votes to take effect.
const HELD_BACK: u64 = 10;

/// Pause between votes that are held back.
const TRICKLE: Duration = Duration::from_millis(8);

/// Sends votes.
#[derive(Debug)]
pub struct Driver {
    /// Generator of the votes.
    pub votes: Votes,
    /// Number of votes.
    pub count: u64,
    /// Planned duration; a slow machine takes longer.
    pub duration: Duration,
    /// Queue and book.
    pub sink: VoteSink,
    /// Port of the edge.
    pub port: u16,
    /// Tokens by the voter's number.
    pub tokens: Arc<Vec<String>>,
    /// Record of the injected faults.
    pub record: Arc<Record>,
}

/// Accepts votes into the queue and the book.
#[derive(Debug, Clone)]
pub struct VoteSink {
    /// The queue of votes.
    pub queue: Arc<Queue>,
    /// The book.
    pub book: Arc<Mutex<Book>>,
    /// Number of accepted votes, for the display.
    pub accepted: Arc<AtomicU64>,
}

impl VoteSink {
    /// Sends a vote to the queue, as the gateway's integration does.
    ///
    /// # Errors
    /// The queue rejects the message.
    pub fn enqueue(&self, vote: &Vote) -> Result<()> {
        let first_ms = now_ms();
        let sent =
            self.queue.send(message(vote)).map_err(|error| anyhow!("the queue rejected a vote: {error}"))?;
        self.enter(vote, sent.message_id, first_ms);
        Ok(())
    }

    /// Takes the book out for the comparison.
    pub fn take_book(&self) -> Book {
        self.book().take()
    }

    /// Locks the book.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a vote that has just been accepted.
    fn enter(&self, vote: &Vote, message: Uuid, first_ms: i64) {
        let is_withheld = self.queue.has_withheld(message);
        self.book().enter(vote, message, first_ms, now_ms(), is_withheld);
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }
}

fn message(vote: &Vote) -> NewMessage {
    let text = |value: String| Attribute { data_type: "String".to_owned(), value };
    let attributes = BTreeMap::from([("requestId".to_owned(), text("chaos".to_owned()))]);
    let group_id = vote.voter.map(subject);
    NewMessage { body: vote.body.clone(), attributes, group_id, delay_seconds: None }
}

impl Driver {
    /// Sends all votes and waits for the last answer.
    ///
    /// # Errors
    /// The edge or the queue failed to accept a vote.
    pub async fn run(&self) -> Result<()> {
        let mut connections = JoinSet::new();
        let mut senders = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            let (sender, votes) = mpsc::channel(WAITING_MAX);
            senders.push(sender);
            let worker = HttpWorker { tokens: Arc::clone(&self.tokens), sink: self.sink.clone() };
            connections.spawn(worker.run(Client::new(self.port), votes));
        }
        let start = Instant::now();
        for number in 0..self.count {
            self.keep_pace(start, number).await;
            let vote = self.votes.vote(number);
            if vote.by_http {
                let sender = &senders[number as usize % CONNECTIONS];
                if sender.send(vote).await.is_err() {
                    // The worker's error is returned below.
                    break;
                }
            } else {
                self.sink.enqueue(&vote)?;
            }
        }
        drop(senders);
        while let Some(ended) = connections.join_next().await {
            ended??;
        }
        Ok(())
    }

    async fn keep_pace(&self, start: Instant, number: u64) {
        let is_held_back = number >= self.count - self.count / HELD_BACK;
        if is_held_back && !self.record.missing().is_empty() {
            sleep(TRICKLE).await;
        } else if number.is_multiple_of(STRIDE) {
            let share = number as f64 / self.count as f64;
            sleep_until(start + self.duration.mul_f64(share)).await;
            while self.sink.queue.counts().visible > BACKLOG_MAX {
                sleep(PAUSE).await;
            }
        }
    }
}

/// Sends votes through the edge over one connection.
struct HttpWorker {
    tokens: Arc<Vec<String>>,
    sink: VoteSink,
}

impl HttpWorker {
    async fn run(self, mut client: Client, mut votes: mpsc::Receiver<Vote>) -> Result<()> {
        while let Some(vote) = votes.recv().await {
            let voter = vote.voter.context("a vote through the edge needs a voter")?;
            let token = &self.tokens[voter as usize];
            loop {
                let first_ms = now_ms();
                match client.send("POST", "/votes", token, vote.body.clone()).await? {
                    (StatusCode::ACCEPTED, body) => {
                        let id = message_id(&body).context("the answer to a vote has no MessageId")?;
                        self.sink.enter(&vote, id, first_ms);
                        break;
                    }
                    (StatusCode::TOO_MANY_REQUESTS, _) => sleep(PAUSE).await,
                    (status, body) => {
                        bail!("POST /votes answered {status}: {}", String::from_utf8_lossy(&body));
                    }
                }
            }
        }
        Ok(())
    }
}

fn message_id(body: &[u8]) -> Option<Uuid> {
    let text = str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<MessageId>")?;
    Uuid::try_parse(rest.split_once('<')?.0).ok()
}

/// Returns milliseconds since 1970, by the queue's clock.
pub fn now_ms() -> i64 {
    clock::now_ms().cast_signed()
}
