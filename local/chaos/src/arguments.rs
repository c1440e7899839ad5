//! Command-line options of `local chaos`.

use std::path::PathBuf;

use clap::{Args, ValueEnum as _};

use crate::fault::Fault;

/// Options of `chaos`.
#[derive(Debug, Clone, Args)]
pub struct ChaosArguments {
    /// Votes to send
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000))]
    pub votes: u64,
    /// Seed that reproduces votes and the plan of faults [default: random]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Faults to inject
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::value_variants().to_vec(), hide_default_value = true)]
    pub faults: Vec<Fault>,
    /// Votes in the ledger before the run, of the fault `history`
    #[arg(long, value_name = "VOTES", default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub history: u64,
    /// Seconds over which the votes are spread [default: 5,000 votes per second, at least 25 s]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: Option<u64>,
    /// Seconds of an outage: a store stopped or refusing writes, the votes table locked, or counting stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub outage: u64,
    /// Polls that close one after the other while votes come in
    #[arg(long, value_name = "POLLS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub closing: u16,
    /// Seconds without new faults after each 12 s with faults, so that polls are certified during the run
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub calm: u64,
    /// Seconds until a failed batch is redelivered; above 10, probes are decided before that
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub redelivery: u64,
    /// Override a value of the template or of the run's own settings
    #[arg(long, value_name = "RESOURCE.PATH=VALUE")]
    pub set: Vec<String>,
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
}
