//! Bundles the pages' scripts and style sheets with esbuild: a page loads one file with all that it imports.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

/// Where `scripts/bundler.sh` installs esbuild, in a folder that is named after the system.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/bundler/node_modules/@esbuild");
/// The oldest browsers that run the pages: `frontend/shared/fallbacks.js`.
const TARGET: &str = "--target=chrome85,firefox90,safari15";

/// Bundles each entry, a path on the site, with its imports, which are paths on the site too. Writes the bundles into
/// `out`, under the names of their entries. References to third-party files and fonts stay as they are.
///
/// # Errors
/// esbuild is not installed, or finds fault with a file.
pub(super) fn bundle<'a>(
    folder: &Path,
    entries: impl IntoIterator<Item = &'a String>,
    out: &Path,
) -> Result<()> {
    let folder = folder.canonicalize()?;
    let settings = tempfile::tempdir()?;
    let settings = settings.path().join("tsconfig.json");
    // By itself esbuild would look for `/shared/dom.js` in the root of the file system.
    fs::write(
        &settings,
        json!({ "compilerOptions": { "baseUrl": folder, "paths": { "/*": ["./*"] } } }).to_string(),
    )?;
    let output = Command::new(program())
        .args(entries.into_iter().map(|entry| folder.join(entry.trim_start_matches('/'))))
        .args(["--bundle", "--minify", "--format=esm", "--charset=utf8", "--log-level=warning", TARGET])
        .args(["--external:/vendor/*", "--external:/fonts/*"])
        .arg(option("outbase", &folder))
        .arg(option("outdir", out))
        .arg(option("tsconfig", &settings))
        .output()
        .context("esbuild cannot be started: run scripts/setup.sh bundler")?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaints.is_empty(), "esbuild: {}", complaints.trim());
    Ok(())
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// The pinned version, else the system's.
fn program() -> PathBuf {
    let installed = fs::read_dir(INSTALLED).into_iter().flatten().flatten().next();
    installed.map_or_else(|| PathBuf::from("esbuild"), |system| system.path().join("bin/esbuild"))
}
