//! What `local bench` is asked.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArguments {
    /// Parts to measure, separated by commas [default: all but growth50]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    pub only: Vec<Part>,
    /// A tenth of the votes and of the time: says that it works, not how well
    #[arg(long)]
    pub quick: bool,
    /// Repetitions of each cell: 5, in a quick run 2
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub repetitions: Option<u16>,
    /// Where the functions' release binaries are, as SAM lays them out
    #[arg(long, value_name = "FOLDER")]
    pub artifacts: PathBuf,
    /// The function that the first design is measured with
    #[arg(long, value_name = "FILE")]
    pub first_design: PathBuf,
    /// Where the table, the raw figures and the plots go
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Where the stores' data is while it is measured: on the disk to be measured
    #[arg(long, value_name = "FOLDER", default_value = "/var/tmp")]
    pub scratch: PathBuf,
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
}

/// A group of figures that can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Part {
    /// Queued votes drained into ledger, tally and ranking, by concurrency and batch size
    Capacity,
    /// The same votes inserted by a bare client
    Floor,
    /// One invocation, one insert and one increment for each vote
    First,
    /// Vote to ranking over a surge, and what 700,000 votes take
    Surge,
    /// `POST /votes` by k6
    Front,
    /// From process start to the first batch, and the size and memory of each function
    Start,
    /// Capacity by contestants, open polls, and votes in the ledger: none and 10 million
    Growth,
    /// Capacity with 50 million votes in the ledger: needs 8 GB of disk and minutes to fill it
    Growth50,
}
