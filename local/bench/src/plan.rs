//! The sizes and cells of a run.
//!
//! To add a cell: build it in [`Plan::cells`], under the [`Part`] that it belongs to.
use crate::arguments::{BenchArguments, Part};

use super::cell::{Cell, Design};

/// Sizes of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Whether this is a quick run, which shows only that everything works.
    pub quick: bool,
    /// Repetitions of each cell.
    pub repetitions: usize,
    /// Votes of a repetition; a multiple of every batch size.
    votes: u64,
    /// Votes of a repetition with batches of one vote.
    single_votes: u64,
    /// Past votes in the large ledgers.
    ledger_votes: [u64; 2],
    /// Cold starts of each function.
    pub starts: usize,
    /// Seconds of k6's load.
    pub front_door_seconds: u64,
    /// Requests per second from k6 with one vote, with one of ten taps and with ten votes: above the targets, so that
    /// small losses of rate do not miss them.
    pub front_door_rates: [u64; 3],
    /// Factor that shortens the surge.
    pub surge_share: f64,
    /// Votes of the evening, for comparison with the article.
    pub evening_votes: u64,
}

/// Concurrent batches: one, some, and the template's default.
pub const CONCURRENCIES: [u64; 3] = [1, 4, 11];
/// Batch sizes: the template's and larger ones.
pub const BATCHES: [u64; 3] = [300, 1_000, 3_000];
/// The template's concurrency and batch size.
pub const TEMPLATE_LOAD: (u64, u64) = (11, 300);
/// Numbers of contestants and of open polls for the growth cells.
pub const CONTESTANTS: [u64; 2] = [1, 1_000];
pub const POLLS: u64 = 100;
/// Votes of a hundred that are retried.
pub const RETRIED: [u64; 2] = [0, 1];

impl Plan {
    /// Returns the full plan, or about a tenth of it for a quick run.
    pub fn new(quick: bool) -> Self {
        if quick {
            return Self {
                quick,
                repetitions: 2,
                votes: 60_000,
                single_votes: 2_000,
                ledger_votes: [1_000_000, 5_000_000],
                starts: 5,
                front_door_seconds: 10,
                front_door_rates: [2_000, 1_500, 600],
                surge_share: 0.2,
                evening_votes: 70_000,
            };
        }
        Self {
            quick,
            repetitions: 5,
            votes: 300_000,
            single_votes: 10_000,
            ledger_votes: [10_000_000, 50_000_000],
            starts: 50,
            front_door_seconds: 120,
            front_door_rates: [9_000, 6_600, 3_850],
            surge_share: 1.0,
            evening_votes: 700_000,
        }
    }

    /// Returns the cells of the parts, in the order of interleaving.
    pub fn cells(&self, parts: &[Part]) -> Vec<Cell> {
        let mut cells = Vec::new();
        for concurrency in CONCURRENCIES {
            if parts.contains(&Part::Floor) {
                cells.push(Cell { design: Design::Floor, ..Cell::capacity(concurrency, 300, self.votes) });
            }
            if parts.contains(&Part::Capacity) {
                cells.extend(BATCHES.map(|batch| Cell::capacity(concurrency, batch, self.votes)));
            }
            if parts.contains(&Part::First) {
                cells.push(Cell {
                    design: Design::First,
                    ..Cell::capacity(concurrency, 1, self.single_votes)
                });
            }
        }
        let reference = Cell::capacity(TEMPLATE_LOAD.0, TEMPLATE_LOAD.1, self.votes);
        let needs_reference = |part: &Part| part.has_cells() && !matches!(part, Part::Floor | Part::Retries);
        if !cells.contains(&reference) && parts.iter().any(needs_reference) {
            cells.push(reference);
        }
        if parts.contains(&Part::Growth) {
            cells.extend(CONTESTANTS.map(|contestants| Cell { contestants, ..reference }));
            cells.push(Cell { polls: POLLS, ..reference });
            cells.push(Cell { ledger_votes: self.ledger_votes[0], ..reference });
        }
        if parts.contains(&Part::Retries) {
            cells.extend(RETRIED.map(|percent| Cell { retried: Some(percent), ..reference }));
        }
        if parts.contains(&Part::Growth50) {
            cells.push(Cell { ledger_votes: self.ledger_votes[1], ..reference });
        }
        cells
    }
}

impl Part {
    /// Parts measured by default.
    const DEFAULT: [Self; 10] = [
        Self::Capacity,
        Self::Floor,
        Self::First,
        Self::Growth,
        Self::Retries,
        Self::Surge,
        Self::Front,
        Self::FrontTaps,
        Self::FrontLists,
        Self::Start,
    ];

    /// Returns the requested parts, or the default ones.
    pub(super) fn chosen(arguments: &BenchArguments) -> Vec<Self> {
        if arguments.only.is_empty() { Self::DEFAULT.to_vec() } else { arguments.only.clone() }
    }

    fn has_cells(self) -> bool {
        !matches!(self, Self::Surge | Self::Front | Self::FrontTaps | Self::FrontLists | Self::Start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_whole_batches() {
        for quick in [false, true] {
            let plan = Plan::new(quick);
            assert!(BATCHES.iter().all(|batch| plan.votes.is_multiple_of(*batch)));
        }
    }

    #[test]
    fn the_reference_of_growth_is_measured_once() {
        let plan = Plan::new(false);
        let reference = Cell::capacity(TEMPLATE_LOAD.0, TEMPLATE_LOAD.1, plan.votes);
        for parts in [&[Part::Growth][..], &[Part::Capacity, Part::Growth], &[Part::First]] {
            assert_eq!(plan.cells(parts).iter().filter(|cell| **cell == reference).count(), 1, "{parts:?}");
        }
        assert!(plan.cells(&[Part::Front, Part::FrontTaps, Part::FrontLists]).is_empty());
    }
}
