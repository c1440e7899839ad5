//! `local pages`: writes the files to publish and their manifest.
use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use super::{PagesConfig, assemble};
use crate::{Blueprint, Machine, RunArguments};

/// Options of `pages`.
#[derive(Debug, Clone, Args)]
pub struct PagesArguments {
    /// The template that describes the stack; the pages are in `frontend` beside it
    #[arg(long, value_name = "FILE", default_value = "template.yaml")]
    pub template: PathBuf,
    /// Output folder, also for manifest.json: each file's key, Content-Type and Cache-Control, in the order to
    /// publish them in
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// URL of the OpenID Connect issuer
    #[arg(long, value_name = "URL")]
    pub issuer: String,
    /// The pages' client id at the issuer
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// Scopes that a viewer's sign-in requests
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
    /// Scopes that the crew's sign-in requests
    #[arg(long, value_name = "SCOPES")]
    pub crew_scope: Option<String>,
    /// Base URL of the API, if it differs from the pages' origin
    #[arg(long, value_name = "URL", default_value = "")]
    pub api: String,
}

/// Writes the files and `manifest.json`.
///
/// # Errors
/// A file cannot be read, has an unknown type or cannot be written.
pub fn run(arguments: &PagesArguments) -> Result<()> {
    let run = RunArguments::new(arguments.template.clone());
    let config = Blueprint::read(&run, &Machine::unknown())?
        .pages_config(arguments.issuer.clone(), arguments.client_id.clone());
    let config = PagesConfig {
        api: arguments.api.clone(),
        scope: arguments.scope.clone().unwrap_or(config.scope),
        crew_scope: arguments.crew_scope.clone().unwrap_or(config.crew_scope),
        ..config
    };
    let pages = assemble(&run.pages(), &config)?;
    let mut manifest = Vec::new();
    for page in &pages {
        let path = arguments.out.join(&page.key);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(&path, &page.body).with_context(|| format!("{} cannot be written", path.display()))?;
        manifest.push(json!({
            "key": page.key,
            "contentType": page.content_type,
            "cacheControl": page.cache_control,
        }));
    }
    fs::write(arguments.out.join("manifest.json"), serde_json::to_vec_pretty(&manifest)?)?;
    Ok(())
}
