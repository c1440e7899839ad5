//! A queue's messages and their states: visible, in flight, delayed or withheld.
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Counts,
    message::{Content, Receipt, Received},
};

/// SQS's limit on the messages in flight of one standard queue.
pub const IN_FLIGHT_MAX: usize = 120_000;

/// A message with its delivery state.
#[derive(Debug)]
pub(super) struct Entry {
    pub content: Arc<Content>,
    pub dead_letter_source: Option<Arc<str>>,
    /// Milliseconds since 1970; 0: never.
    pub first_received_ms: u64,
    /// Over all queues that have held the message.
    pub receive_count: u32,
    /// Deliveries from this queue: the redrive policy's receive count, and the number of the latest delivery.
    pub deliveries: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Visible,
    InFlight(Instant),
    Delayed(Instant),
    /// Counted as visible, but returned by no receive.
    Withheld(Instant),
}

impl Entry {
    pub fn new(content: Arc<Content>) -> Self {
        Self {
            content,
            dead_letter_source: None,
            first_received_ms: 0,
            receive_count: 0,
            deliveries: 0,
            state: State::Visible,
        }
    }
}

/// The result of one receive.
#[derive(Debug, Default)]
pub(super) struct ReceivedBatch {
    pub received: Vec<Received>,
    /// Messages over the maximum receive count, removed for the DLQ.
    pub dead_letters: Vec<Entry>,
    /// The next deadline: the time at which another message becomes visible.
    pub next: Option<Instant>,
}

/// The limits of one receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveLimits {
    pub max: usize,
    pub visibility: Duration,
    pub now_ms: u64,
    /// Messages sent before this time are past their retention period.
    pub oldest_ms: u64,
    /// The redrive policy's `maxReceiveCount`; `None`: no policy.
    pub deliveries_max: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Messages {
    /// In order of arrival. An ordered map releases memory as it drains; a hash map does not.
    entries: BTreeMap<u64, Entry>,
    next_sequence: u64,
    /// Sequence numbers in the order of becoming visible. Stale numbers are skipped on receive.
    visible: VecDeque<u64>,
    /// Deadlines of messages in flight, delayed or withheld.
    deadlines: BTreeSet<(Instant, u64)>,
    in_flight: usize,
    withheld: usize,
}

impl Messages {
    /// Adds a message. Returns `true` if the next deadline became earlier, which waiting receivers must take over.
    pub fn push(&mut self, mut entry: Entry, delay: Duration) -> bool {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let earlier_deadline = if delay.is_zero() {
            entry.state = State::Visible;
            self.visible.push_back(sequence);
            false
        } else {
            let until = Instant::now() + delay;
            entry.state = State::Delayed(until);
            self.add_deadline(until, sequence)
        };
        self.entries.insert(sequence, entry);
        earlier_deadline
    }

    /// Adds a message that is withheld for `time`. Returns the value of [`Messages::push`].
    pub fn push_withheld(&mut self, mut entry: Entry, time: Duration) -> bool {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let until = Instant::now() + time;
        entry.state = State::Withheld(until);
        self.withheld += 1;
        self.entries.insert(sequence, entry);
        self.add_deadline(until, sequence)
    }

    /// Receives visible messages, in the order of becoming visible, or in random order if `shuffle` is given. The
    /// second value is that of [`Messages::push`].
    pub fn receive(
        &mut self,
        limits: ReceiveLimits,
        mut shuffle: Option<&mut fastrand::Rng>,
    ) -> (ReceivedBatch, bool) {
        self.advance();
        self.expire(limits.oldest_ms);
        let mut batch = ReceivedBatch::default();
        let mut earlier_deadline = false;
        let mut still_visible = Vec::new();
        let until = Instant::now() + limits.visibility;
        while batch.received.len() < limits.max && self.in_flight < IN_FLIGHT_MAX {
            if let Some(rng) = shuffle.as_deref_mut().filter(|_| !self.visible.is_empty()) {
                let drawn = rng.usize(..self.visible.len());
                self.visible.swap(0, drawn);
            }
            let Some(sequence) = self.visible.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&sequence).filter(|e| e.state == State::Visible) else {
                continue;
            };
            if limits.deliveries_max.is_some_and(|max| entry.deliveries >= max) {
                batch.dead_letters.extend(self.entries.remove(&sequence));
                continue;
            }
            entry.deliveries += 1;
            entry.receive_count += 1;
            if entry.first_received_ms == 0 {
                entry.first_received_ms = limits.now_ms;
            }
            batch.received.push(received(sequence, entry));
            if limits.visibility.is_zero() {
                still_visible.push(sequence);
                continue;
            }
            entry.state = State::InFlight(until);
            self.in_flight += 1;
            earlier_deadline |= self.add_deadline(until, sequence);
        }
        self.visible.extend(still_visible);
        batch.next = self.deadlines.first().map(|(until, _)| *until);
        (batch, earlier_deadline)
    }

    /// Deletes by the receipt handle of the latest delivery. An older one is ignored without an error, as in SQS.
    pub fn delete(&mut self, receipt: &Receipt) {
        if let Some(entry) = self.latest(receipt) {
            let state = entry.state;
            self.leave_state(state, receipt.sequence);
            self.entries.remove(&receipt.sequence);
        }
    }

    /// Moves the deadline of a message in flight; `None` if the receipt handle's message is not in flight.
    pub fn change_visibility(&mut self, receipt: &Receipt, visibility: Duration) -> Option<bool> {
        let entry = self.latest(receipt).filter(|entry| matches!(entry.state, State::InFlight(_)))?;
        let state = entry.state;
        let until = Instant::now() + visibility;
        entry.state = if visibility.is_zero() { State::Visible } else { State::InFlight(until) };
        self.leave_state(state, receipt.sequence);
        if visibility.is_zero() {
            self.visible.push_back(receipt.sequence);
            return Some(true);
        }
        self.in_flight += 1;
        Some(self.add_deadline(until, receipt.sequence))
    }

    pub fn clear(&mut self) {
        *self = Self { next_sequence: self.next_sequence, ..Self::default() };
    }

    pub fn counts(&mut self, oldest_ms: u64) -> Counts {
        self.advance();
        self.expire(oldest_ms);
        let delayed = self.deadlines.len() - self.in_flight - self.withheld;
        Counts {
            visible: (self.entries.len() - self.in_flight - delayed) as u64,
            in_flight: self.in_flight as u64,
            delayed: delayed as u64,
            ..Counts::default()
        }
    }

    /// Whether the limit on messages in flight is reached, which blocks receivers.
    pub fn is_full(&self) -> bool {
        self.in_flight >= IN_FLIGHT_MAX
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Removes and returns the visible messages that satisfy `predicate`.
    pub fn remove_visible(&mut self, predicate: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.advance();
        let is_removed = |entry: &Entry| entry.state == State::Visible && predicate(entry);
        self.entries.extract_if(.., |_, entry| is_removed(entry)).map(|(_, entry)| entry).collect()
    }

    fn latest(&mut self, receipt: &Receipt) -> Option<&mut Entry> {
        self.entries
            .get_mut(&receipt.sequence)
            .filter(|entry| entry.content.id == receipt.message_id && entry.deliveries == receipt.delivery)
    }

    /// Makes messages visible whose deadline has passed.
    fn advance(&mut self) {
        let now = Instant::now();
        while let Some((until, sequence)) = self.deadlines.first().copied().filter(|(until, _)| *until <= now)
        {
            self.deadlines.remove(&(until, sequence));
            if let Some(entry) = self.entries.get_mut(&sequence) {
                match entry.state {
                    State::InFlight(_) => self.in_flight -= 1,
                    State::Withheld(_) => self.withheld -= 1,
                    State::Visible | State::Delayed(_) => {}
                }
                entry.state = State::Visible;
                self.visible.push_back(sequence);
            }
        }
    }

    /// Removes messages past their retention period, in any state. The oldest ones are at the front.
    fn expire(&mut self, oldest_ms: u64) {
        while let Some(first) = self.entries.first_entry().filter(|e| e.get().content.sent_ms < oldest_ms) {
            let (sequence, entry) = first.remove_entry();
            self.leave_state(entry.state, sequence);
        }
    }

    /// Removes a message's state from the counters and the deadlines.
    fn leave_state(&mut self, state: State, sequence: u64) {
        match state {
            State::Visible => {}
            State::InFlight(until) => {
                self.in_flight -= 1;
                self.deadlines.remove(&(until, sequence));
            }
            State::Delayed(until) => {
                self.deadlines.remove(&(until, sequence));
            }
            State::Withheld(until) => {
                self.withheld -= 1;
                self.deadlines.remove(&(until, sequence));
            }
        }
    }

    fn add_deadline(&mut self, until: Instant, sequence: u64) -> bool {
        let earlier_deadline = self.deadlines.first().is_none_or(|(first, _)| until < *first);
        self.deadlines.insert((until, sequence));
        earlier_deadline
    }
}

fn received(sequence: u64, entry: &Entry) -> Received {
    Received {
        content: Arc::clone(&entry.content),
        receipt: Receipt { message_id: entry.content.id, sequence, delivery: entry.deliveries },
        receive_count: entry.receive_count,
        first_received_ms: entry.first_received_ms,
        dead_letter_source: entry.dead_letter_source.clone(),
    }
}
