//! Prepares the pages for publishing. Every file except the HTML pages gets a name with a hash of its content, so
//! that caches may keep it for ever; references to the file get the new name.
//!
//! To add a file type: 1. add its `Content-Type` to `content_type`. 2. Add a file that browsers request by a fixed
//! name to `FIXED_NAMES`, and a folder that is not published to `LEFT_OUT`.
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
/// leaves a reference to a missing file.
///
/// # Errors
/// A file has an unknown type, or files refer to each other in a cycle.
pub fn assemble(folder: &Path, config: &PagesConfig) -> Result<Vec<Page>> {
    let mut sources = BTreeMap::new();
    collect(folder, "", &mut sources)?;
    ensure!(!sources.is_empty(), "there are no pages in {}", folder.display());
    let mut assembly = Assembly {
        // A path between quotes or brackets.
        reference: Regex::new(r#"(["'(])(/[A-Za-z0-9_./-]+)(["')])"#)?,
        sources,
        names: BTreeMap::new(),
        in_progress: BTreeSet::new(),
        pages: Vec::new(),
    };
    for path in assembly.sources.keys().cloned().collect::<Vec<_>>() {
        assembly.add(&path)?;
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
    sources: BTreeMap<String, Vec<u8>>,
    /// New name of each added file, by its path.
    names: BTreeMap<String, String>,
    in_progress: BTreeSet<String>,
    pages: Vec<Page>,
}

impl Assembly {
    /// Adds a file after the files that it refers to.
    fn add(&mut self, path: &str) -> Result<()> {
        if self.names.contains_key(path) {
            return Ok(());
        }
        if !self.in_progress.insert(path.to_owned()) {
            bail!("{path} refers to itself through other files: such names cannot hold hashes");
        }
        let content_type = content_type(path)?;
        let is_page = path.ends_with(".html");
        let keeps_name = is_page || FIXED_NAMES.contains(&path);
        let source = self.sources[path].clone();
        let body = match String::from_utf8(source) {
            Ok(text) if path.starts_with(VENDOR) => text.into_bytes(),
            Ok(text) if is_text(content_type) => self.rewritten(&without_comments(path, &text))?.into_bytes(),
            Ok(text) => text.into_bytes(),
            Err(binary) => binary.into_bytes(),
        };
        let name = if keeps_name { path.to_owned() } else { hashed(path, &body) };
        self.names.insert(path.to_owned(), name.clone());
        self.pages.push(Page {
            key: name.trim_start_matches('/').to_owned(),
            body: body.into(),
            content_type,
            cache_control: match (is_page, keeps_name) {
                (true, _) => A_MINUTE,
                (false, true) => A_DAY,
                (false, false) => FOR_EVER,
            },
        });
        Ok(())
    }

    fn rewritten(&mut self, text: &str) -> Result<String> {
        let reference = self.reference.clone();
        for found in reference.captures_iter(text) {
            // HTML pages keep their names, so links to them stay.
            if self.sources.contains_key(&found[2]) && !found[2].ends_with(".html") {
                self.add(&found[2])?;
            }
        }
        Ok(reference
            .replace_all(text, |found: &Captures<'_>| {
                let path = self.names.get(&found[2]).map_or(&found[2], String::as_str);
                format!("{}{path}{}", &found[1], &found[3])
            })
            .into_owned())
    }
}

/// Removes indentation and comments on lines of their own from scripts and style sheets: a third of a phone's
/// download. No line of a multi-line text may therefore begin like a comment. In style sheets it also removes
/// newlines after punctuation, and the spaces around it.
fn without_comments(path: &str, text: &str) -> String {
    let is_style = path.ends_with(".css");
    if !is_style && !path.ends_with(".js") {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    let mut in_comment = false;
    for line in text.lines().map(str::trim) {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.is_empty() && !line.starts_with("//") {
            let line = if is_style { line.replace(": ", ":").replace(" {", "{") } else { line.to_owned() };
            kept.push_str(&line);
            if !is_style || !line.ends_with(['{', '}', ';', ',']) {
                kept.push('\n');
            }
        }
        in_comment &= !line.ends_with("*/");
    }
    kept
}

fn hashed(path: &str, body: &[u8]) -> String {
    let hash: String = digest(&SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let (stem, extension) = path.rsplit_once('.').unwrap_or((path, ""));
    format!("{stem}.{}.{extension}", &hash[..HASH_DIGITS])
}

fn is_text(content_type: &str) -> bool {
    content_type.contains("charset") || content_type == "application/json"
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
