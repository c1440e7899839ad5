//! What `local chaos` is asked.

use std::path::PathBuf;

use clap::{Args, ValueEnum as _};

use crate::fault::Fault;

/// Options of `chaos`.
#[derive(Debug, Clone, Args)]
pub struct ChaosArguments {
    /// Votes to send
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1_000..=50_000_000))]
    pub votes: u64,
    /// Makes the same votes and the same plan of faults again [default: any]
    #[arg(long)]
    pub seed: Option<u64>,
    /// What to break
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Fault::value_variants().to_vec(), hide_default_value = true)]
    pub faults: Vec<Fault>,
    /// Seconds over which the votes are spread [default: 5,000 votes a second, and 25 at least]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub duration: Option<u64>,
    /// Seconds for which a store is away, the votes are locked, or nothing is counted
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub outage: u64,
    /// Polls that close one after the other while votes come in
    #[arg(long, value_name = "POLLS", default_value_t = 12, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    pub closing: u16,
    /// Seconds without a new fault after each 12 with some, so that polls are certified while the run goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub calm: u64,
    /// Seconds after which what failed comes again: beyond 10, probes are decided before
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub redelivery: u64,
    /// Override a value of the template, and of what a run sets itself
    #[arg(long, value_name = "RESOURCE.PATH=VALUE")]
    pub set: Vec<String>,
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
}
