//! All that was measured, and the figures that follow.
use serde::Serialize;

use super::{
    cell::{Cell, Design, Sample},
    front_door::FrontDoor,
    machine::Machine,
    plan::USUAL,
    spread::Spread,
    start::Function,
    surge::Surge,
};

/// Raw figures, as they are written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether this was only to show that it works.
    pub quick: bool,
    /// Where.
    pub machine: Machine,
    /// Repetitions of each cell, in turn.
    pub cells: Vec<Measured>,
    /// Where measured.
    pub evening: Option<Sample>,
    /// Where measured.
    pub surge: Option<Surge>,
    /// Where measured.
    pub front_door: Option<FrontDoor>,
    /// Where measured.
    pub functions: Vec<Function>,
}

/// A cell and its repetitions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// What.
    pub cell: Cell,
    /// In the order measured.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// Any figure of the samples.
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }

    /// Votes a second.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(Sample::rate)
    }

    /// The ratio of a figure to another cell's, repetition by repetition.
    pub fn ratio(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(own, other)| figure(own) / figure(other)))
    }
}

impl Report {
    /// Cells of a design with an empty ledger, and contestants and polls as usual.
    pub fn usual(&self, design: Design) -> impl Iterator<Item = &Measured> {
        let reference = Cell::capacity(0, 0, 0);
        self.cells.iter().filter(move |measured| {
            let Cell { contestants, polls, ledger_votes, .. } = measured.cell;
            measured.cell.design == design
                && (contestants, polls, ledger_votes)
                    == (reference.contestants, reference.polls, reference.ledger_votes)
        })
    }

    /// One of those.
    pub fn find(&self, design: Design, concurrency: u64, batch: u64) -> Option<&Measured> {
        let wanted = |cell: Cell| (cell.concurrency, cell.batch) == (concurrency, batch);
        self.usual(design).find(|measured| wanted(measured.cell))
    }

    /// The one with the highest median rate.
    pub fn best(&self, design: Design, batch: Option<u64>) -> Option<&Measured> {
        let candidates =
            self.usual(design).filter(|measured| batch.is_none_or(|batch| measured.cell.batch == batch));
        let rate = |measured: &&Measured| measured.rate().map_or(0.0, |rate| rate.median);
        candidates.max_by(|a, b| rate(a).total_cmp(&rate(b)))
    }

    /// What growth is compared with.
    pub fn reference(&self) -> Option<&Measured> {
        self.find(Design::Votes, USUAL.0, USUAL.1)
    }

    /// Cells that differ from the usual in what is counted.
    pub fn grown(&self) -> impl Iterator<Item = &Measured> {
        let reference = Cell::capacity(0, 0, 0);
        self.cells.iter().filter(move |measured| {
            let Cell { contestants, polls, ledger_votes, .. } = measured.cell;
            (contestants, polls, ledger_votes)
                != (reference.contestants, reference.polls, reference.ledger_votes)
        })
    }
}
