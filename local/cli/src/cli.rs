//! The command line.
//!
//! To add a command: 1. add a variant to [`Command`]; its doc comment is the help text. 2. Call its crate in
//! `main.rs`.
use bench::BenchArguments;
use chaos::ChaosArguments;
use clap::{Parser, Subcommand};
use stack::{RunArguments, pages::command::PagesArguments};

/// The whole backend on one machine.
#[derive(Debug, Parser)]
#[command(name = "local", args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command; `run` if absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`.
    #[command(flatten)]
    pub run: RunArguments,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the stack and keep it running until Ctrl-C
    Run(RunArguments),
    /// Inject faults while votes come in, and check that each vote counts exactly once
    Chaos(ChaosArguments),
    /// Write the pages, ready to publish
    Pages(PagesArguments),
    /// Run a command with temporary stores, given as DATABASE_URL and REDIS_URL
    Stores {
        /// The command and its arguments, after `--`
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// Measure the backend on this machine: a table, raw figures as JSON, plots as SVG
    Bench(BenchArguments),
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
