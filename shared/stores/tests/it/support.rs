//! The fixture: scratch stores, polls, and batches to count.

use std::time::Duration;

use domain::PollWithTally;
use domain::{
    Action, Facts, Invalid, Message, Order, Poll, PollId, Rejected, Timestamp, VoteRequest, VoterHasher,
    judge,
};
use ledger::{Batch, Counted, Error, Ledger, Outcome};
use local_stores::scratch::Scratch;
use ranking::RankingStore;
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::time::timeout;
use uuid::Uuid;

pub struct Fixture {
    pub scratch: Scratch,
    pub ledger: Ledger,
    pub hasher: VoterHasher,
}

/// A timeout for calls that must end. It exceeds the duration of any successful call.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The time of casting of the tests' votes.
pub const CAST_AT: i64 = 1_750_000_000_000;

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

/// Returns a number as a UUID, for the id of a message.
pub fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

impl Fixture {
    pub async fn new() -> Self {
        let scratch = Scratch::new().await.unwrap();
        let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
        let hasher = scratch.environment("VOTER_HASH_KEY").unwrap().parse().unwrap();
        Self { scratch, ledger, hasher }
    }

    /// Returns a ledger with a connection of its own, like another function instance.
    pub fn second_ledger(&self) -> Ledger {
        Ledger::new(&self.scratch.database_url, LIMIT).unwrap()
    }

    pub fn ranking(&self) -> RankingStore {
        RankingStore::new(&self.scratch.redis_url, self.ledger.address(), Duration::from_secs(5), 600)
            .unwrap()
    }

    /// Creates a poll with three contestants that is open around [`CAST_AT`]. `changes` replace fields.
    pub async fn poll(&self, changes: Value) -> Poll {
        let mut draft = json!({
            "title": "Who stays?",
            "opensAt": at(CAST_AT - 1_000), "closesAt": at(CAST_AT + 1_000),
            "contestants": [{"name": "Ana"}, {"name": "Bia"}, {"name": "Caio"}],
        });
        draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap().poll
    }

    /// Changes a poll like the crew.
    pub async fn change(
        &self,
        id: PollId,
        rule: impl Fn(&Poll, &Facts, Timestamp) -> Result<Poll, Invalid>,
    ) -> Result<Option<PollWithTally>, Error> {
        self.ledger.change_poll(id, &Order::new("crew", Action::Patch), rule).await
    }

    pub async fn reload(&self, id: PollId) -> Poll {
        self.ledger.polls(&[id]).await.unwrap().pop().unwrap().poll
    }

    pub fn message(&self, id: u128, body: &Value) -> Message {
        Message {
            id: uuid(id),
            sent_at: at(CAST_AT),
            voter: Some(self.hasher.voter("alice")),
            request: VoteRequest::parse(&body.to_string()),
        }
    }

    /// Judges messages by one poll's definition into a batch.
    pub fn batch(&self, poll: &Poll, messages: &[Message]) -> Batch {
        let mut batch = Batch::default();
        batch.judged_by(poll.id, poll.version);
        for message in messages {
            for outcome in judge(message, Some(poll), &self.hasher) {
                batch.add(message, outcome);
            }
        }
        batch
    }

    /// Builds a batch of votes without client ids, one for each message id, for the three contestants in turn.
    pub fn votes(&self, poll: &Poll, ids: impl IntoIterator<Item = u128>) -> Batch {
        let vote = |id| self.message(id, &json!({"poll": poll.id.0, "contestant": id % 3 + 1}));
        self.batch(poll, &ids.into_iter().map(vote).collect::<Vec<_>>())
    }

    /// Counts a batch and asserts that it is not stale.
    pub async fn count(&self, batch: &Batch) -> Counted {
        match self.ledger.count(batch).await.unwrap() {
            Outcome::Counted(counted) => counted,
            Outcome::Stale => panic!("the batch was judged by the current definition"),
        }
    }

    /// Counts the votes in the ledger one by one, and asserts that the tally is equal.
    pub async fn ledger_votes(&self, poll: &Poll) -> u64 {
        let audit = self.ledger.audit(poll.id, LIMIT).await.unwrap();
        assert_eq!(audit.ledger, audit.tally);
        audit.ledger.values().sum()
    }

    /// Waits until a session waits for the definition lock. The query counts all waiters for advisory locks, since
    /// these tests wait for no other.
    pub async fn until_definition_lock_has_waiter(&self) {
        let sql = "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        until(&mut self.scratch.connect().await.unwrap(), sql).await;
    }
}

/// Repeats a query until it returns true.
pub async fn until(connection: &mut PgConnection, condition: &'static str) {
    let polling = async {
        while !sqlx::query_scalar::<_, bool>(condition).fetch_one(&mut *connection).await.unwrap() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, polling).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {condition}"));
}

/// Adds a rejection without a vote key.
pub fn rejected(batch: &mut Batch, message: &Message, reason: domain::Rejection) {
    batch.add(message, Err(Rejected::from(reason)));
}
