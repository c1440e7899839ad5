//! A queue's messages and where each of them is: visible, in flight or delayed.
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

/// SQS's limit on messages in flight in one standard queue.
pub const IN_FLIGHT_MAX: usize = 120_000;

/// A message with what its queue knows about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub content: Arc<Content>,
    pub dead_letter_source: Option<Arc<str>>,
    /// 0: never.
    pub first_received_ms: u64,
    /// Over all queues it was in.
    pub receive_count: u32,
    /// In this queue: what a redrive policy counts, and the number of the latest delivery.
    pub deliveries: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Visible,
    InFlight(Instant),
    Delayed(Instant),
    /// As if it were visible, for all that the queue tells; no receive finds it.
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
            place: Place::Visible,
        }
    }
}

/// What one receive took out.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub received: Vec<Received>,
    /// Messages received too often: they belong into the DLQ.
    pub dead: Vec<Entry>,
    /// When the next message becomes visible by itself.
    pub next: Option<Instant>,
}

/// The limits of one receive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Take {
    pub max: usize,
    pub visibility: Duration,
    pub now_ms: u64,
    /// Messages sent before this are past their retention.
    pub oldest_ms: u64,
    /// Deliveries a message may have had; beyond, it is dead. `None`: any number.
    pub deliveries_max: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Messages {
    /// By order of arrival. An ordered map gives memory back as it drains, a hash map does not.
    entries: BTreeMap<u64, Entry>,
    next_sequence: u64,
    /// Visible messages in the order they became so; what has left since is skipped when its turn comes.
    visible: VecDeque<u64>,
    /// Deadlines of messages in flight, delayed or withheld.
    deadlines: BTreeSet<(Instant, u64)>,
    in_flight: usize,
    withheld: usize,
}

impl Messages {
    /// Adds a message; `true` when waiting receivers must look at the deadlines again.
    pub fn push(&mut self, mut entry: Entry, delay: Duration) -> bool {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let sooner = if delay.is_zero() {
            entry.place = Place::Visible;
            self.visible.push_back(sequence);
            false
        } else {
            let until = Instant::now() + delay;
            entry.place = Place::Delayed(until);
            self.add_deadline(until, sequence)
        };
        self.entries.insert(sequence, entry);
        sooner
    }

    /// Adds a message that no receive finds for a time; the value as for [`Messages::push`].
    pub fn push_withheld(&mut self, mut entry: Entry, time: Duration) -> bool {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let until = Instant::now() + time;
        entry.place = Place::Withheld(until);
        self.withheld += 1;
        self.entries.insert(sequence, entry);
        self.add_deadline(until, sequence)
    }

    /// Hands out visible messages, in the order in which they became so, or in the order of `lots`; the second value as
    /// for [`Messages::push`].
    pub fn take(&mut self, take: Take, mut lots: Option<&mut fastrand::Rng>) -> (Taken, bool) {
        self.advance();
        self.expire(take.oldest_ms);
        let mut taken = Taken::default();
        let mut sooner = false;
        let mut still_visible = Vec::new();
        let until = Instant::now() + take.visibility;
        while taken.received.len() < take.max && self.in_flight < IN_FLIGHT_MAX {
            if let Some(lots) = lots.as_deref_mut().filter(|_| !self.visible.is_empty()) {
                let drawn = lots.usize(..self.visible.len());
                self.visible.swap(0, drawn);
            }
            let Some(sequence) = self.visible.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&sequence).filter(|e| e.place == Place::Visible) else {
                continue;
            };
            if take.deliveries_max.is_some_and(|max| entry.deliveries >= max) {
                taken.dead.extend(self.entries.remove(&sequence));
                continue;
            }
            entry.deliveries += 1;
            entry.receive_count += 1;
            if entry.first_received_ms == 0 {
                entry.first_received_ms = take.now_ms;
            }
            taken.received.push(received(sequence, entry));
            if take.visibility.is_zero() {
                still_visible.push(sequence);
                continue;
            }
            entry.place = Place::InFlight(until);
            self.in_flight += 1;
            sooner |= self.add_deadline(until, sequence);
        }
        self.visible.extend(still_visible);
        taken.next = self.deadlines.first().map(|(until, _)| *until);
        (taken, sooner)
    }

    /// Deletes by the latest receipt. An older one deletes nothing, and that is no error: SQS answers so too.
    pub fn delete(&mut self, receipt: &Receipt) {
        if let Some(entry) = self.latest(receipt) {
            let place = entry.place;
            self.leave(place, receipt.sequence);
            self.entries.remove(&receipt.sequence);
        }
    }

    /// Moves the deadline of a message in flight; `None` when the receipt is not of one.
    pub fn change_visibility(&mut self, receipt: &Receipt, visibility: Duration) -> Option<bool> {
        let entry = self.latest(receipt).filter(|entry| matches!(entry.place, Place::InFlight(_)))?;
        let place = entry.place;
        let until = Instant::now() + visibility;
        entry.place = if visibility.is_zero() { Place::Visible } else { Place::InFlight(until) };
        self.leave(place, receipt.sequence);
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

    /// Whether receivers are held back by the limit on messages in flight.
    pub fn is_full(&self) -> bool {
        self.in_flight >= IN_FLIGHT_MAX
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Takes out every visible message that passes.
    pub fn remove_visible(&mut self, passes: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.advance();
        let moves = |entry: &Entry| entry.place == Place::Visible && passes(entry);
        self.entries.extract_if(.., |_, entry| moves(entry)).map(|(_, entry)| entry).collect()
    }

    fn latest(&mut self, receipt: &Receipt) -> Option<&mut Entry> {
        self.entries
            .get_mut(&receipt.sequence)
            .filter(|entry| entry.content.id == receipt.message_id && entry.deliveries == receipt.delivery)
    }

    /// Messages whose deadline has passed become visible.
    fn advance(&mut self) {
        let now = Instant::now();
        while let Some((until, sequence)) = self.deadlines.first().copied().filter(|(until, _)| *until <= now)
        {
            self.deadlines.remove(&(until, sequence));
            if let Some(entry) = self.entries.get_mut(&sequence) {
                match entry.place {
                    Place::InFlight(_) => self.in_flight -= 1,
                    Place::Withheld(_) => self.withheld -= 1,
                    Place::Visible | Place::Delayed(_) => {}
                }
                entry.place = Place::Visible;
                self.visible.push_back(sequence);
            }
        }
    }

    /// Messages past their retention are gone, wherever they are. The oldest are at the front.
    fn expire(&mut self, oldest_ms: u64) {
        while let Some(first) = self.entries.first_entry().filter(|e| e.get().content.sent_ms < oldest_ms) {
            let (sequence, entry) = first.remove_entry();
            self.leave(entry.place, sequence);
        }
    }

    fn leave(&mut self, place: Place, sequence: u64) {
        match place {
            Place::Visible => {}
            Place::InFlight(until) => {
                self.in_flight -= 1;
                self.deadlines.remove(&(until, sequence));
            }
            Place::Delayed(until) => {
                self.deadlines.remove(&(until, sequence));
            }
            Place::Withheld(until) => {
                self.withheld -= 1;
                self.deadlines.remove(&(until, sequence));
            }
        }
    }

    fn add_deadline(&mut self, until: Instant, sequence: u64) -> bool {
        let sooner = self.deadlines.first().is_none_or(|(first, _)| until < *first);
        self.deadlines.insert((until, sequence));
        sooner
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
