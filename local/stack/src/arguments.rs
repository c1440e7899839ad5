//! What `local run` is asked.

use std::path::PathBuf;

use clap::{Args, Parser as _};

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

/// The options by themselves.
#[derive(clap::Parser)]
struct Alone {
    #[command(flatten)]
    run: RunArguments,
}

impl RunArguments {
    /// Everything at its default, for this template.
    pub fn new(template: PathBuf) -> Self {
        Self { template, ..Alone::parse_from(["local"]).run }
    }

    /// What these words of a command line ask for, the program's name not among them.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        Ok(Alone::try_parse_from(std::iter::once("local").chain(words))?.run)
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
