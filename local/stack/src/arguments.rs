//! Command-line options of `local run`.

use std::path::PathBuf;

use clap::{Args, Parser as _};

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// The template that describes the stack
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
    /// Port of the edge; 0 is any free port
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Port of the AWS endpoint; 0 is any free port
    #[arg(long, default_value_t = 4566)]
    pub aws_port: u16,
    /// Once the stack is ready, write the URLs of its two ports to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub urls_file: Option<PathBuf>,
    /// Folder for the data kept between runs
    #[arg(long, value_name = "FOLDER", default_value = ".local")]
    pub data_dir: PathBuf,
    /// Use a temporary data folder, removed at exit
    #[arg(long, conflicts_with = "data_dir")]
    pub ephemeral: bool,
    /// Folder of the pages that the edge serves [default: frontend, beside the template]
    #[arg(long, value_name = "FOLDER")]
    pub pages: Option<PathBuf>,
    /// Folder of the functions' binaries, in the layout of cargo, cargo-lambda or SAM [default: beside this program]
    #[arg(long, value_name = "FOLDER")]
    pub artifacts: Option<PathBuf>,
    /// Override a value of the template, such as VotesQueue.VisibilityTimeout=5
    #[arg(long, value_name = "RESOURCE.PATH=VALUE")]
    pub set: Vec<String>,
    /// Set a parameter of the template
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub parameter: Vec<(String, String)>,
    /// Make a queue as unreliable as SQS may be: stale counts, messages minutes late, any order, pausing pollers
    #[arg(long, value_name = "QUEUE")]
    pub bad_queue: Vec<String>,
    /// Create no demo poll at the first start
    #[arg(long)]
    pub no_demo: bool,
}

/// Parser for these options alone.
#[derive(clap::Parser)]
struct RunParser {
    #[command(flatten)]
    run: RunArguments,
}

impl RunArguments {
    /// Returns the defaults, with this template.
    pub fn new(template: PathBuf) -> Self {
        Self { template, ..RunParser::parse_from(["local"]).run }
    }

    /// Parses command-line arguments, without the program's name.
    ///
    /// # Errors
    /// Fails on an unknown option or an invalid value.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, clap::Error> {
        Ok(RunParser::try_parse_from(std::iter::once("local").chain(words))?.run)
    }

    /// Returns the folder of the pages.
    pub fn pages(&self) -> PathBuf {
        self.pages.clone().unwrap_or_else(|| self.template.with_file_name("frontend"))
    }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
