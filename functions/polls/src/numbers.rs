//! The numbers that a poll can have. Polls are numbered upwards, so a number above the highest is no poll's, and a
//! request for it costs neither store anything: two billion such numbers must not take the stores from the polls.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use domain::PollId;
use ledger::Ledger;
use runtime::telemetry::error_chain;

/// How often an instance asks for the highest numbers at most: 160 index lookups a second by 20 instances. So a new
/// poll may be unknown for another second; after that, the edge keeps its absence for 3 s.
const QUESTIONS_PER_SECOND: u32 = 8;

/// The highest numbers that this instance knows; until an absence, every number may exist. So the reads of polls do not
/// wait for a ledger that hangs.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The highest number of a show's poll.
    show: PollId,
    /// The highest number of all, rehearsals included.
    highest: PollId,
    /// The start of the second in which questions are counted.
    second: Option<Instant>,
    questions: u32,
}

impl Default for Known {
    fn default() -> Self {
        Self { show: PollId(i32::MAX), highest: PollId(i32::MAX), second: None, questions: 0 }
    }
}

impl Numbers {
    /// Returns whether a poll of this number may exist. It asks the ledger only about a number above the known ones, and
    /// at most [`QUESTIONS_PER_SECOND`] times.
    pub async fn may_exist(&self, id: PollId, ledger: &Ledger) -> bool {
        if self.lock().covers(id) {
            return true;
        }
        self.learn(ledger).await;
        self.lock().covers(id)
    }

    /// Asks the ledger for the highest numbers, unless it was asked too often.
    pub async fn learn(&self, ledger: &Ledger) {
        if !self.lock().may_ask(Instant::now()) {
            return;
        }
        match ledger.highest_numbers().await {
            Ok((show, highest)) => {
                let mut known = self.lock();
                (known.show, known.highest) = (show, highest);
            }
            Err(error) => tracing::warn!(error = error_chain(&error), "numbers.not_loaded"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn covers(self, id: PollId) -> bool {
        id <= if id < PollId::REHEARSALS_FROM { self.show } else { self.highest }
    }

    /// Counts a question, unless there were too many in this second.
    fn may_ask(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|second| now.duration_since(second) >= Duration::from_secs(1)) {
            (self.second, self.questions) = (Some(now), 0);
        }
        self.questions += 1;
        self.questions <= QUESTIONS_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rehearsals_make_no_show_number_possible() {
        let first = PollId::REHEARSALS_FROM.0;
        let known = Known { show: PollId(7), highest: PollId(first + 1), ..Known::default() };
        for (id, covered) in
            [(7, true), (8, false), (first - 1, false), (first + 1, true), (first + 2, false)]
        {
            assert_eq!(known.covers(PollId(id)), covered, "{id}");
        }
    }

    #[test]
    fn questions_are_counted_by_the_second() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert_eq!((0..20).filter(|_| known.may_ask(now)).count(), 8);
        assert!(known.may_ask(now + Duration::from_secs(1)));
    }
}
