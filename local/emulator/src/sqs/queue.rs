//! One queue: send, receive with long polling, delete.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::clock::now_ms;

use super::{
    Counts, NewMessage, Receipt, Received, SendError, Sent, checksum,
    message::{Attributes, Content, check_group_id},
    misbehavior::MisbehaviorState,
    redrive::Redrive,
    settings::{DELAY_SECONDS, Settings, VISIBILITY_SECONDS},
    state::{Entry, Messages, ReceiveLimits},
};

/// A standard queue.
#[derive(Debug)]
pub struct Queue {
    name: String,
    aws_endpoint: String,
    inner: Mutex<Inner>,
    /// Wakes receivers: one for each new message, all of them when the next deadline became earlier.
    arrived: Notify,
    /// Wakes the waiters of [`Queue::emptied`].
    emptied: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    messages: Messages,
    settings: Settings,
    redrive: Option<Redrive>,
    sent_total: u64,
    sent_by_clients: u64,
    pub(super) misbehavior: Option<MisbehaviorState>,
    /// Ids of all messages that were ever withheld.
    pub(super) withheld: Vec<Uuid>,
}

impl Queue {
    pub(super) fn new(name: &str, aws_endpoint: &str) -> Self {
        Self {
            name: name.to_owned(),
            aws_endpoint: aws_endpoint.to_owned(),
            inner: Mutex::default(),
            arrived: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Returns the name, which is also the last part of the URL and the ARN.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.aws_endpoint
    }

    /// Accepts a message, which is receivable at once or after its delay.
    ///
    /// # Errors
    /// SQS's own errors: an empty or oversized body, characters that XML cannot carry, or an invalid attribute, delay
    /// or group id.
    pub fn send(&self, message: NewMessage) -> Result<Sent, SendError> {
        let attributes = Attributes::encode(&message.attributes)?;
        message.group_id.as_deref().map_or(Ok(()), check_group_id)?;
        check_body(&message.body)?;
        let md5_of_body = checksum::md5(message.body.as_bytes());
        let sent = Sent {
            message_id: Uuid::new_v4(),
            md5_of_body: checksum::hex(&md5_of_body),
            md5_of_attributes: attributes.md5(),
        };
        let size = message.body.len() + attributes.size();
        let content = Content {
            id: sent.message_id,
            body: message.body.into_boxed_str(),
            attributes,
            group_id: message.group_id.map(String::into_boxed_str),
            sent_ms: now_ms(),
            md5_of_body,
        };
        let entry = Entry::new(Arc::new(content));
        let earlier_deadline = {
            let mut inner = self.lock_for_change();
            let delay = inner.delay(message.delay_seconds)?;
            inner.check_size(size)?;
            inner.sent_total += 1;
            inner.add(entry, delay)
        };
        self.wake(earlier_deadline);
        Ok(sent)
    }

    /// Sends like [`Queue::send`], for a client of the AWS endpoint.
    ///
    /// # Errors
    /// Those of [`Queue::send`].
    pub(crate) fn send_for_client(&self, message: NewMessage) -> Result<Sent, SendError> {
        let sent = self.send(message)?;
        self.lock().sent_by_clients += 1;
        Ok(sent)
    }

    /// Receives up to `max` visible messages, waiting up to `wait` for the first one. `visibility`: the visibility
    /// timeout; `None`: the queue's own.
    ///
    /// A message whose receive count exceeds the redrive policy's maximum goes to the DLQ instead. The future is
    /// cancel-safe: messages become in flight only when it returns them.
    pub async fn receive(&self, max: usize, visibility: Option<Duration>, wait: Duration) -> Vec<Received> {
        let until = Instant::now() + wait;
        loop {
            // Subscribed before the check: a message that arrives between the check and the wait must wake this
            // receiver.
            let arrived = self.arrived.notified();
            let (received, next) = self.try_receive(max, visibility);
            if !received.is_empty() || Instant::now() >= until {
                return received;
            }
            let wake = next.map_or(until, |next| next.min(until));
            tokio::select! {
                () = arrived => {}
                () = tokio::time::sleep_until(wake) => {}
            }
        }
    }

    fn try_receive(&self, max: usize, visibility: Option<Duration>) -> (Vec<Received>, Option<Instant>) {
        let (batch, earlier_deadline, target) = {
            let mut inner = self.lock_for_change();
            // No redrive to a deleted DLQ: the messages would be lost.
            let redrive = inner.redrive.as_ref();
            let redrive =
                redrive.and_then(|redrive| Some((redrive.target.upgrade()?, redrive.max_receive_count)));
            let limits = ReceiveLimits {
                max,
                visibility: visibility.unwrap_or(Duration::from_secs(inner.settings.visibility_seconds)),
                now_ms: now_ms(),
                oldest_ms: inner.oldest_ms(),
                deliveries_max: redrive.as_ref().map(|(_, max_receive_count)| *max_receive_count),
            };
            let Inner { messages, misbehavior, .. } = &mut *inner;
            let unordered = misbehavior.as_mut().filter(|misbehavior| misbehavior.settings.any_order);
            let shuffle = unordered.map(|misbehavior| &mut misbehavior.rng);
            let (batch, earlier_deadline) = messages.receive(limits, shuffle);
            (batch, earlier_deadline, redrive.map(|(target, _)| target))
        };
        if !batch.dead_letters.is_empty() {
            self.emptied.notify_waiters();
        }
        if let Some(target) = target {
            // This queue's lock is released before the DLQ's is acquired: two queues can redrive to each other.
            target.accept_dead_letters(batch.dead_letters, &self.arn().into());
        }
        if earlier_deadline {
            self.arrived.notify_waiters();
        }
        (batch.received, batch.next)
    }

    /// Accepts messages that another queue's redrive policy moves here; their ids and `SentTimestamp`s stay.
    fn accept_dead_letters(&self, dead_letters: Vec<Entry>, source: &Arc<str>) {
        for mut entry in dead_letters {
            entry.dead_letter_source = Some(Arc::clone(source));
            entry.deliveries = 0;
            self.push(entry);
        }
    }

    pub(super) fn push(&self, entry: Entry) {
        let earlier_deadline = self.lock_for_change().messages.push(entry, Duration::ZERO);
        self.wake(earlier_deadline);
    }

    /// Deletes messages by the receipt handles of their latest deliveries.
    ///
    /// A receipt handle of an earlier delivery deletes nothing and is not an error, as SQS documents. Idempotent.
    pub fn delete(&self, receipts: &[Receipt]) {
        let was_full = {
            let mut inner = self.lock_for_change();
            let was_full = inner.messages.is_full();
            receipts.iter().for_each(|receipt| inner.messages.delete(receipt));
            was_full
        };
        self.emptied.notify_waiters();
        if was_full {
            self.arrived.notify_waiters();
        }
    }

    /// Sets the remaining visibility timeout of a message in flight to `seconds`, 0 to 43,200.
    ///
    /// # Errors
    /// `MessageNotInflight`, or `InvalidParameterValue` outside the range.
    pub fn change_visibility(&self, receipt: &Receipt, seconds: u64) -> Result<(), SendError> {
        let visibility = visibility(seconds)?;
        let changed = self.lock_for_change().messages.change_visibility(receipt, visibility);
        let earlier_deadline = changed.ok_or_else(|| {
            SendError::new("MessageNotInflight", "the message of this receipt handle is not in flight")
        })?;
        self.wake(earlier_deadline);
        Ok(())
    }

    /// Deletes all messages, including those in flight.
    pub fn purge(&self) {
        self.lock_for_change().messages.clear();
        self.emptied.notify_waiters();
    }

    /// Waits until the queue has no message: visible, in flight or delayed.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let counts = self.counts();
            if counts.visible + counts.in_flight + counts.delayed == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Returns the exact counts, for status displays, metrics and tests.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Returns the queue's default visibility timeout.
    pub fn visibility_timeout(&self) -> Duration {
        Duration::from_secs(self.lock().settings.visibility_seconds)
    }

    /// Returns the queue's default wait time of a receive.
    pub fn receive_wait(&self) -> Duration {
        Duration::from_secs(self.lock().settings.wait_seconds)
    }

    /// Returns the settings and the redrive policy in the format of `GetQueueAttributes`.
    pub fn attributes(&self) -> Vec<(&'static str, String)> {
        let inner = self.lock();
        let settings = &inner.settings;
        let mut attributes = vec![
            ("VisibilityTimeout", settings.visibility_seconds.to_string()),
            ("DelaySeconds", settings.delay_seconds.to_string()),
            ("MessageRetentionPeriod", settings.retention_seconds.to_string()),
            ("MaximumMessageSize", settings.message_bytes_max.to_string()),
            ("ReceiveMessageWaitTimeSeconds", settings.wait_seconds.to_string()),
        ];
        attributes.extend(inner.redrive.as_ref().map(|redrive| ("RedrivePolicy", redrive.to_json())));
        attributes
    }

    pub(super) fn set_attribute(&self, name: &str, value: &str) -> Result<(), SendError> {
        self.lock().settings.set(name, value)
    }

    pub(super) fn set_redrive(&self, redrive: Option<Redrive>) {
        self.lock().redrive = redrive;
    }

    /// Whether `other` is this queue's DLQ.
    pub(super) fn redrives_to(&self, other: &Arc<Queue>) -> bool {
        let target = self.lock().redrive.as_ref().map(|redrive| Weak::as_ptr(&redrive.target));
        target == Some(Arc::as_ptr(other))
    }

    pub(super) fn remove_visible(&self, predicate: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.lock_for_change().messages.remove_visible(predicate)
    }

    pub(super) fn map_entries<T>(&self, map: impl Fn(&Entry) -> T) -> Vec<T> {
        self.lock().messages.entries().map(map).collect()
    }

    fn wake(&self, earlier_deadline: bool) {
        self.arrived.notify_one();
        if earlier_deadline {
            self.arrived.notify_waiters();
        }
    }

    /// Locks for a change of the counts, and samples them first if a sample is due.
    fn lock_for_change(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        if inner.misbehavior.as_ref().is_some_and(MisbehaviorState::is_sample_due) {
            let counts = inner.counts();
            if let Some(misbehavior) = &mut inner.misbehavior {
                misbehavior.record_sample(counts);
            }
        }
        inner
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn counts(&mut self) -> Counts {
        let oldest_ms = self.oldest_ms();
        let counts = self.messages.counts(oldest_ms);
        Counts { sent_total: self.sent_total, sent_by_clients: self.sent_by_clients, ..counts }
    }

    /// Adds a new message. Returns the value of [`Messages::push`].
    fn add(&mut self, entry: Entry, delay: Duration) -> bool {
        let misbehavior = self.misbehavior.as_mut().filter(|_| delay.is_zero());
        let withhold_time = misbehavior.and_then(MisbehaviorState::withhold_time);
        let Some(time) = withhold_time else { return self.messages.push(entry, delay) };
        self.withheld.push(entry.content.id);
        self.messages.push_withheld(entry, time)
    }

    fn delay(&self, given: Option<u32>) -> Result<Duration, SendError> {
        let seconds = given.map_or(self.settings.delay_seconds, u64::from);
        if !DELAY_SECONDS.contains(&seconds) {
            return Err(SendError::new("InvalidParameterValue", "DelaySeconds must be from 0 to 900"));
        }
        Ok(Duration::from_secs(seconds))
    }

    fn check_size(&self, size: usize) -> Result<(), SendError> {
        let max = self.settings.message_bytes_max;
        if size as u64 > max {
            return Err(SendError::new(
                "InvalidParameterValue",
                format!(
                    "One or more parameters are invalid. Reason: Message must be shorter than {max} bytes."
                ),
            ));
        }
        Ok(())
    }

    fn oldest_ms(&self) -> u64 {
        now_ms().saturating_sub(self.settings.retention_seconds * 1_000)
    }
}

/// Validates the visibility timeout of a call.
///
/// # Errors
/// `InvalidParameterValue` above 12 hours.
pub(crate) fn visibility(seconds: u64) -> Result<Duration, SendError> {
    if !VISIBILITY_SECONDS.contains(&seconds) {
        return Err(SendError::new(
            "InvalidParameterValue",
            "VisibilityTimeout must be from 0 to 43200 seconds",
        ));
    }
    Ok(Duration::from_secs(seconds))
}

fn check_body(body: &str) -> Result<(), SendError> {
    if body.is_empty() {
        return Err(SendError::new(
            "MissingParameter",
            "The request must contain the parameter MessageBody.",
        ));
    }
    // SQS accepts only the characters of XML 1.0.
    let allowed = |c: char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if !body.chars().all(allowed) {
        return Err(SendError::new(
            "InvalidMessageContents",
            "Invalid characters found in the message body.",
        ));
    }
    Ok(())
}
