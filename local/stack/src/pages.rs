//! Prepares the pages for publishing. Scripts and style sheets are bundled. Every file except the HTML pages gets a name
//! with a hash of its content, so that caches may keep it for ever; references to the file get the new name.
//!
//! To add a file type: 1. add its `Content-Type` to `content_type`. 2. Add a file that browsers request by a fixed
//! name to `FIXED_NAMES`, and a folder that is not published to `LEFT_OUT`.
mod bundle;
pub mod command;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, header},
};
use regex_lite::{Captures, Regex};
use serde::Serialize;

use emulator::s3::Storage;

/// A file named after its content never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// A new release is visible within a minute; caches serve the old one while the bucket is away.
const A_MINUTE: &str = "public, max-age=60, s-maxage=60, stale-while-revalidate=600, stale-if-error=86400";
/// A file with a fixed name that is no page: browsers cache it separately, and a release invalidates it at the edge.
const A_DAY: &str = "public, max-age=86400, s-maxage=86400, stale-while-revalidate=600, stale-if-error=86400";
/// Files that browsers request by a fixed name, not by a reference in a page.
const FIXED_NAMES: [&str; 1] = ["/favicon.ico"];
/// Third-party files, published unchanged.
const VENDOR: &str = "/vendor/";
/// Folders beside the pages that are not published.
const LEFT_OUT: [&str; 2] = ["tests", "node_modules"];
/// Hexadecimal digits of a name's hash: 32 bits distinguish a file's releases, and each page repeats many names.
const HASH_DIGITS: usize = 8;

/// The pages' configuration, published as `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PagesConfig {
    /// Base URL of the API; empty if the API has the pages' origin.
    pub api: String,
    /// URL of the OpenID Connect issuer.
    pub issuer: String,
    /// The pages' client id at the issuer.
    pub client_id: String,
    /// Scopes that a viewer's sign-in requests.
    pub scope: String,
    /// Scopes that the crew's sign-in requests.
    pub crew_scope: String,
    /// Path of the results' files, with `{id}` for the poll; `None` if results are no files.
    pub results: Option<String>,
    /// The crew's actions that the API has beyond those of the first release: `certify`, `export`.
    pub crew: Vec<&'static str>,
}

/// A file to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The path without its leading slash.
    pub key: String,
    /// The content.
    pub body: Bytes,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Cache-Control`.
    pub cache_control: &'static str,
}

/// Reads a folder of pages. A file comes before the files that refer to it, so that publishing in this order never
/// leaves a reference to a missing file. Of the scripts and style sheets only those are published that a page names,
/// each with its imports.
///
/// # Errors
/// A file has an unknown type, or a script or style sheet cannot be bundled.
pub fn assemble(folder: &Path, config: &PagesConfig) -> Result<Vec<Page>> {
    let mut assets = BTreeMap::new();
    collect(folder, "", &mut assets)?;
    ensure!(!assets.is_empty(), "there are no pages in {}", folder.display());
    let pages: BTreeMap<_, _> = assets.extract_if(.., |path, _| is_page(path)).collect();
    let code: BTreeMap<_, _> = assets.extract_if(.., |path, _| is_bundled(path)).collect();
    // A path between quotes or brackets.
    let reference = Regex::new(r#"(["'(])(/[A-Za-z0-9_./-]+)(["')])"#)?;
    let mut entries = BTreeSet::new();
    for page in pages.values() {
        let text = str::from_utf8(page)?;
        entries.extend(reference.captures_iter(text).map(|found| found[2].to_owned()));
    }
    entries.retain(|path| code.contains_key(path));
    let out = tempfile::tempdir()?;
    bundle::bundle(folder, &entries, out.path())?;
    let mut bundles = BTreeMap::new();
    collect(out.path(), "", &mut bundles)?;

    let mut assembly = Assembly { reference, names: BTreeMap::new(), pages: Vec::new() };
    for (path, body) in assets {
        assembly.add(&path, body.into())?;
    }
    // A page may name a bundle; bundles and pages name assets.
    for (path, body) in bundles.into_iter().chain(pages) {
        let body = assembly.rewritten(str::from_utf8(&body)?).into();
        assembly.add(&path, body)?;
    }
    let mut pages = assembly.pages;
    pages.push(Page {
        key: "config.json".to_owned(),
        body: serde_json::to_vec(config)?.into(),
        content_type: "application/json",
        cache_control: A_MINUTE,
    });
    // HTML pages last, after every file that they refer to.
    pages.sort_by_key(|page| page.cache_control != FOR_EVER);
    Ok(pages)
}

/// Puts pages into a bucket of the stack. Older files stay: a page in a viewer's browser may still refer to them.
///
/// # Errors
/// The bucket rejects a file.
pub async fn publish(pages: Vec<Page>, storage: &Storage, bucket: &str) -> Result<()> {
    for page in pages {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(page.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(page.cache_control));
        storage.put(bucket, &page.key, headers, page.body).await?;
    }
    Ok(())
}

fn collect(folder: &Path, prefix: &str, sources: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}/{name}");
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, sources)?;
        } else {
            sources.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

struct Assembly {
    reference: Regex,
    /// New name of each added file, by its path.
    names: BTreeMap<String, String>,
    pages: Vec<Page>,
}

impl Assembly {
    fn add(&mut self, path: &str, body: Bytes) -> Result<()> {
        let keeps_name = is_page(path) || FIXED_NAMES.contains(&path);
        let name = if keeps_name { path.to_owned() } else { hashed(path, &body) };
        self.pages.push(Page {
            key: name.trim_start_matches('/').to_owned(),
            body,
            content_type: content_type(path)?,
            cache_control: match (is_page(path), keeps_name) {
                (true, _) => A_MINUTE,
                (false, true) => A_DAY,
                (false, false) => FOR_EVER,
            },
        });
        self.names.insert(path.to_owned(), name);
        Ok(())
    }

    /// Gives the references to added files their new names.
    fn rewritten(&self, text: &str) -> String {
        let renamed = |found: &Captures<'_>| {
            let path = self.names.get(&found[2]).map_or(&found[2], String::as_str);
            format!("{}{path}{}", &found[1], &found[3])
        };
        self.reference.replace_all(text, renamed).into_owned()
    }
}

fn is_page(path: &str) -> bool {
    path.ends_with(".html")
}

fn is_bundled(path: &str) -> bool {
    !path.starts_with(VENDOR) && (path.ends_with(".js") || path.ends_with(".css"))
}

fn hashed(path: &str, body: &[u8]) -> String {
    let hash: String = digest(&SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    format!("{stem}.{}.{extension}", &hash[..HASH_DIGITS])
}

fn content_type(path: &str) -> Result<&'static str> {
    Ok(match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webmanifest" => "application/manifest+json; charset=utf-8",
        _ => {
            bail!(
                "{path}: a page's file ends with html, css, js, json, svg, txt, woff2, png, ico or webmanifest"
            )
        }
    })
}

#[cfg(test)]
mod tests;
