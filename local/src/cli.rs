//! The command line.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{chaos::Fault, pages::command::PagesArguments};

/// The whole backend on one machine.
#[derive(Debug, Parser)]
#[command(name = "local", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// For `run`.
    #[command(flatten)]
    pub run: RunArguments,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the stack and keep it running until Ctrl-C
    Run(RunArguments),
    /// Break everything while votes come in, and check that each counts exactly once
    Chaos(ChaosArguments),
    /// Write the pages as they are to be published
    Pages(PagesArguments),
    /// Run a command with throw-away stores: DATABASE_URL and REDIS_URL are set for it
    Stores {
        /// The command and its arguments, after `--`
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Measure what the backend does on this machine: a table, raw figures as JSON, plots as SVG
    Bench(BenchArguments),
}

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

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
    /// Port of the edge
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Port of the AWS endpoint
    #[arg(long, default_value_t = 4566, value_parser = clap::value_parser!(u16).range(1..))]
    pub aws_port: u16,
    /// Where data is kept between runs
    #[arg(long, value_name = "FOLDER", default_value = ".local")]
    pub data_dir: PathBuf,
    /// Keep nothing: a temporary data folder, removed at exit
    #[arg(long, conflicts_with = "data_dir")]
    pub ephemeral: bool,
    /// The pages that the edge serves [default: frontend, beside the template]
    #[arg(long, value_name = "FOLDER")]
    pub pages: Option<PathBuf>,
    /// Where the functions' binaries are, as cargo, cargo-lambda or SAM lay them out [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    pub artifacts: Option<PathBuf>,
    /// Override a value of the template, such as VotesQueue.VisibilityTimeout=5
    #[arg(long, value_name = "RESOURCE.PATH=VALUE")]
    pub set: Vec<String>,
    /// Set a parameter of the template
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub parameter: Vec<(String, String)>,
    /// Let a queue behave as badly as SQS may: old counts, messages minutes late, any order, pollers that pause
    #[arg(long, value_name = "QUEUE")]
    pub bad_queue: Vec<String>,
    /// Make no demo poll at the first start
    #[arg(long)]
    pub no_demo: bool,
}

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

impl RunArguments {
    /// Everything at its default, for this template.
    pub fn new(template: PathBuf) -> Self {
        Self { template, ..Cli::parse_from(["local"]).run }
    }

    /// Where the pages are.
    pub fn pages(&self) -> PathBuf {
        self.pages.clone().unwrap_or_else(|| self.template.with_file_name("frontend"))
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Cli {
        Cli::try_parse_from([&["local"], arguments].concat()).unwrap()
    }

    #[test]
    fn run_is_the_default() {
        let cli = parse(&["--port", "9000", "--set", "A.B=1", "--parameter", "K=a=b", "--ephemeral"]);
        assert!(cli.command.is_none());
        assert_eq!((cli.run.port, cli.run.aws_port, cli.run.ephemeral), (9000, 4566, true));
        assert_eq!(cli.run.parameter, [("K".to_owned(), "a=b".to_owned())]);
        let Some(Command::Run(run)) = parse(&["run", "--aws-port", "9001"]).command else { panic!() };
        assert_eq!(run.aws_port, 9001);
    }

    #[test]
    fn what_follows_the_dashes_is_the_command() {
        let Some(Command::Stores { command }) = parse(&["stores", "--", "cargo", "test", "--all"]).command
        else {
            panic!()
        };
        assert_eq!(command, ["cargo", "test", "--all"]);
    }
}
