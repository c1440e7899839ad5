//! Command-line options of `local bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArguments {
    /// Parts to measure, separated by commas [default: all but growth50]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    pub only: Vec<Part>,
    /// Use a tenth of the votes and time: shows that the benchmark works, not how fast the backend is
    #[arg(long)]
    pub quick: bool,
    /// Repetitions of each cell [default: 5, in a quick run 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repetitions: Option<u16>,
    /// Folder of the functions' release binaries, in SAM's layout
    #[arg(long, value_name = "FOLDER")]
    pub artifacts: PathBuf,
    /// The first design's function
    #[arg(long, value_name = "FILE")]
    pub first_design: PathBuf,
    /// Output folder for the table, the raw figures and the plots
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Folder for the stores' data, on the disk to measure
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    pub scratch: PathBuf,
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
}

/// A group of figures that can be measured separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Part {
    /// Queued votes counted into ledger, tally and ranking, by concurrency and batch size
    Capacity,
    /// The same votes inserted by a bare client
    Floor,
    /// One invocation, one insert and one increment for each vote
    First,
    /// Latency from vote to ranking during a surge, and the cost of 700,000 votes
    Surge,
    /// Requests of `POST /votes` by k6, each with one vote
    Front,
    /// The same, each with one vote of ten taps
    FrontTaps,
    /// The same, each with ten votes
    FrontLists,
    /// Time from process start to the first batch, package size and memory of each function
    Start,
    /// Capacity by contestants, open polls and votes in the ledger: none and 10 million
    Growth,
    /// Capacity while one vote of a hundred is sent a second time
    Retries,
    /// Capacity with 50 million votes in the ledger: needs 8 GB of disk and minutes to fill
    Growth50,
}
