//! One queue: sending, receiving with long polling, deleting.
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
    misbehavior::Mischief,
    redrive::Redrive,
    settings::{DELAY_SECONDS, Settings, VISIBILITY_SECONDS},
    state::{Entry, Messages, Take},
};

/// One queue.
#[derive(Debug)]
pub struct Queue {
    name: String,
    aws_endpoint: String,
    inner: Mutex<Inner>,
    /// Wakes receivers: one for each message that became receivable, all when a deadline came nearer.
    arrived: Notify,
    /// Wakes those who wait for the queue to be empty.
    emptied: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    messages: Messages,
    settings: Settings,
    redrive: Option<Redrive>,
    sent_total: u64,
    sent_by_clients: u64,
    pub(super) mischief: Option<Mischief>,
    /// Ids of messages that were withheld by themselves.
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

    /// Name, which is also the last part of its URL and ARN.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.aws_endpoint
    }

    /// Accepts a message; it is receivable at once or after its delay.
    ///
    /// # Errors
    /// SQS's own refusals: an empty or oversized body, characters XML cannot carry, bad attributes, delay or group.
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
        let sooner = {
            let mut inner = self.lock_to_change();
            let delay = inner.delay(message.delay_seconds)?;
            inner.check_size(size)?;
            inner.sent_total += 1;
            inner.add(entry, delay)
        };
        self.wake(sooner);
        Ok(sent)
    }

    /// As [`Queue::send`], for a client of the AWS endpoint.
    ///
    /// # Errors
    /// Those of [`Queue::send`].
    pub(crate) fn send_for_client(&self, message: NewMessage) -> Result<Sent, SendError> {
        let sent = self.send(message)?;
        self.lock().sent_by_clients += 1;
        Ok(sent)
    }

    /// Up to `max` visible messages, waiting up to `wait` for the first. `visibility`: the queue's own if `None`.
    ///
    /// A message received more often than its redrive policy allows goes to the DLQ instead. Nothing is lost when
    /// the future is dropped: messages are taken only at the moment it returns them.
    pub async fn receive(&self, max: usize, visibility: Option<Duration>, wait: Duration) -> Vec<Received> {
        let until = Instant::now() + wait;
        loop {
            // Made before looking: what arrives between looking and waiting must wake this receiver.
            let arrived = self.arrived.notified();
            let (received, next) = self.take(max, visibility);
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

    fn take(&self, max: usize, visibility: Option<Duration>) -> (Vec<Received>, Option<Instant>) {
        let (taken, sooner, target) = {
            let mut inner = self.lock_to_change();
            // Nothing is given up to a DLQ that was deleted: it would be lost.
            let redrive = inner.redrive.as_ref();
            let redrive =
                redrive.and_then(|redrive| Some((redrive.target.upgrade()?, redrive.max_receive_count)));
            let take = Take {
                max,
                visibility: visibility.unwrap_or(Duration::from_secs(inner.settings.visibility_seconds)),
                now_ms: now_ms(),
                oldest_ms: inner.oldest_ms(),
                deliveries_max: redrive.as_ref().map(|(_, max_receive_count)| *max_receive_count),
            };
            let Inner { messages, mischief, .. } = &mut *inner;
            let lots = mischief.as_mut().filter(|mischief| mischief.settings.any_order);
            let (taken, sooner) = messages.take(take, lots.map(|mischief| &mut mischief.rng));
            (taken, sooner, redrive.map(|(target, _)| target))
        };
        if !taken.dead.is_empty() {
            self.emptied.notify_waiters();
        }
        if let Some(target) = target {
            // The DLQ's lock is taken after this queue's is given back: two queues can redrive to each other.
            target.accept(taken.dead, &self.arn().into());
        }
        if sooner {
            self.arrived.notify_waiters();
        }
        (taken.received, taken.next)
    }

    /// Takes in what another queue's redrive policy gave up; ids and `SentTimestamp` stay.
    fn accept(&self, dead: Vec<Entry>, source: &Arc<str>) {
        for mut entry in dead {
            entry.dead_letter_source = Some(Arc::clone(source));
            entry.deliveries = 0;
            self.push(entry);
        }
    }

    pub(super) fn push(&self, entry: Entry) {
        let sooner = self.lock_to_change().messages.push(entry, Duration::ZERO);
        self.wake(sooner);
    }

    /// Deletes messages by their latest receipts.
    ///
    /// A receipt older than the latest delivery deletes nothing and is no error, as SQS documents it.
    pub fn delete(&self, receipts: &[Receipt]) {
        let was_full = {
            let mut inner = self.lock_to_change();
            let was_full = inner.messages.is_full();
            receipts.iter().for_each(|receipt| inner.messages.delete(receipt));
            was_full
        };
        self.emptied.notify_waiters();
        if was_full {
            self.arrived.notify_waiters();
        }
    }

    /// Lets a message in flight become visible `seconds` from now, 0 to 43,200.
    ///
    /// # Errors
    /// `MessageNotInflight`, or `InvalidParameterValue` outside the range.
    pub fn change_visibility(&self, receipt: &Receipt, seconds: u64) -> Result<(), SendError> {
        let visibility = visibility(seconds)?;
        let changed = self.lock_to_change().messages.change_visibility(receipt, visibility);
        let sooner = changed.ok_or_else(|| {
            SendError::new("MessageNotInflight", "the message of this receipt handle is not in flight")
        })?;
        self.wake(sooner);
        Ok(())
    }

    /// Deletes everything, in flight or not.
    pub fn purge(&self) {
        self.lock_to_change().messages.clear();
        self.emptied.notify_waiters();
    }

    /// Waits until there is nothing in the queue: visible, in flight or delayed.
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

    /// Exact figures, for the status line, `/_local/metrics` and tests.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// How long a receive without its own timeout hides a message.
    pub fn visibility_timeout(&self) -> Duration {
        Duration::from_secs(self.lock().settings.visibility_seconds)
    }

    /// How long a receive without its own wait time waits.
    pub fn receive_wait(&self) -> Duration {
        Duration::from_secs(self.lock().settings.wait_seconds)
    }

    /// The settings and the redrive policy as `GetQueueAttributes` writes them.
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

    pub(super) fn remove_visible(&self, passes: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        self.lock_to_change().messages.remove_visible(passes)
    }

    pub(super) fn map_entries<T>(&self, map: impl Fn(&Entry) -> T) -> Vec<T> {
        self.lock().messages.entries().map(map).collect()
    }

    fn wake(&self, sooner: bool) {
        self.arrived.notify_one();
        if sooner {
            self.arrived.notify_waiters();
        }
    }

    /// For what changes any of the counts.
    fn lock_to_change(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        if inner.mischief.as_ref().is_some_and(Mischief::is_sample_due) {
            let counts = inner.counts();
            if let Some(mischief) = &mut inner.mischief {
                mischief.remember(counts);
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

    /// Adds a message that was just sent; the value as for [`Messages::push`].
    fn add(&mut self, entry: Entry, delay: Duration) -> bool {
        let withholds = self.mischief.as_mut().filter(|_| delay.is_zero()).and_then(Mischief::withholds);
        let Some(time) = withholds else { return self.messages.push(entry, delay) };
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

/// A visibility timeout given in a call.
///
/// # Errors
/// `InvalidParameterValue` beyond 12 hours.
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
    // What XML 1.0 cannot carry, SQS does not take.
    let allowed = |c: char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if !body.chars().all(allowed) {
        return Err(SendError::new(
            "InvalidMessageContents",
            "Invalid characters found in the message body.",
        ));
    }
    Ok(())
}
