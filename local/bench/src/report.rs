//! The measurements and the figures derived from them.
use serde::Serialize;

use super::{
    cell::{Cell, Design, Sample},
    front_door::FrontDoor,
    machine::Machine,
    plan::TEMPLATE_LOAD,
    spread::Spread,
    start::Function,
    surge::Surge,
};

/// Raw figures, serialized as `figures.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Whether this was a quick run.
    pub quick: bool,
    /// The machine and its settings.
    pub machine: Machine,
    /// Cells with their repetitions.
    pub cells: Vec<Measured>,
    /// An evening's votes, if measured.
    pub evening: Option<Sample>,
    /// The surge, if measured.
    pub surge: Option<Surge>,
    /// The loads of the front door that were measured.
    pub front_doors: Vec<FrontDoor>,
    /// The functions' starts, if measured.
    pub functions: Vec<Function>,
}

/// A cell and its repetitions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The cell.
    pub cell: Cell,
    /// Repetitions, in order of measurement.
    pub samples: Vec<Sample>,
}

impl Measured {
    /// Returns the spread of a figure over the repetitions.
    pub fn spread(&self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(figure))
    }

    /// Returns the spread of votes per second.
    pub fn rate(&self) -> Option<Spread> {
        self.spread(Sample::rate)
    }

    /// Returns the spread of the ratio to another cell's figure, repetition by repetition.
    pub fn ratio(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> Option<Spread> {
        let pairs = self.samples.iter().zip(&other.samples);
        Spread::of(pairs.map(|(own, other)| figure(own) / figure(other)))
    }
}

impl Report {
    /// Returns a design's cells with an empty ledger and the default contestants and polls.
    pub fn default_cells(&self, design: Design) -> impl Iterator<Item = &Measured> {
        let reference = Cell::capacity(0, 0, 0);
        self.cells
            .iter()
            .filter(move |measured| measured.cell.design == design && measured.cell.is_like(reference))
    }

    /// Returns the one of [`Report::default_cells`] with this concurrency and batch size.
    pub fn find(&self, design: Design, concurrency: u64, batch: u64) -> Option<&Measured> {
        let matches = |cell: Cell| (cell.concurrency, cell.batch) == (concurrency, batch);
        self.default_cells(design).find(|measured| matches(measured.cell))
    }

    /// Returns the cell with the highest median rate.
    pub fn best(&self, design: Design, batch: Option<u64>) -> Option<&Measured> {
        let candidates = self
            .default_cells(design)
            .filter(|measured| batch.is_none_or(|batch| measured.cell.batch == batch));
        let rate = |measured: &&Measured| measured.rate().map_or(0.0, |rate| rate.median);
        candidates.max_by(|a, b| rate(a).total_cmp(&rate(b)))
    }

    /// Returns the cell that growth is compared with.
    pub fn reference(&self) -> Option<&Measured> {
        self.find(Design::Votes, TEMPLATE_LOAD.0, TEMPLATE_LOAD.1)
    }

    /// Returns the cells with other contestants, polls or ledgers than the default.
    pub fn grown(&self) -> impl Iterator<Item = &Measured> {
        let reference = Cell::capacity(0, 0, 0);
        let is_grown = move |cell: Cell| cell.retried.is_none() && !cell.is_like(reference);
        self.cells.iter().filter(move |measured| is_grown(measured.cell))
    }

    /// Returns the cells with and without retried votes, in this order.
    pub fn retried(&self) -> Option<(&Measured, &Measured)> {
        let find = |is_retried: fn(u64) -> bool| {
            self.cells.iter().find(|measured| measured.cell.retried.is_some_and(is_retried))
        };
        find(|percent| percent > 0).zip(find(|percent| percent == 0))
    }
}
