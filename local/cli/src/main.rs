//! Command line of the local stack.

mod cli;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use clap::Parser as _;
use stack::pages;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Stores { command }) => local_stores::command::run(&command).await,
        Some(Command::Chaos(arguments)) => chaos::run(&arguments).await.map(|holds| i32::from(!holds)),
        Some(Command::Pages(arguments)) => pages::command::run(&arguments).map(|()| 0),
        Some(Command::Run(arguments)) => stack::run(&arguments).await.map(|()| 0),
        Some(Command::Bench(arguments)) => bench::run(&arguments).await.map(|()| 0),
        None => stack::run(&cli.run).await.map(|()| 0),
    };
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("local: {error:#}");
            ExitCode::FAILURE
        }
    }
}
