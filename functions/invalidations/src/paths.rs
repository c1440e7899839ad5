//! The rules of merging, pure: what covers what, and how many paths become few.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// CloudFront's limit.
const LENGTH_MAX: usize = 4_000;

/// A path, or all paths that begin with what stands before the star at its end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// Why a text is no pattern. CloudFront would refuse it, or take a star in its midst for a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Relative, or of another kind.
    #[error("a path begins with a slash")]
    NoSlash,
    /// A star that is not the last character.
    #[error("a star stands at the end of a path only")]
    Star,
    /// Neither allowed in a path nor percent-encoded.
    #[error("a path holds letters, digits, -._~!$&'()+,;=:@/ and percent-encoded bytes only")]
    Character,
    /// Beyond CloudFront's limit.
    #[error("a path has at most {LENGTH_MAX} characters")]
    Length,
}

/// How many patterns one invalidation may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all; at least 1.
    pub paths: usize,
    /// With a star; at least 1.
    pub wildcards: usize,
}

impl Pattern {
    /// Takes a path as CloudFront knows it: percent-encoded, case-sensitive, without a query.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let path = text.strip_suffix('*').unwrap_or(text);
        if !path.starts_with('/') {
            return Err(Fault::NoSlash);
        }
        if path.contains('*') {
            return Err(Fault::Star);
        }
        if text.len() > LENGTH_MAX {
            return Err(Fault::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@/".contains(&byte);
        let mut rest = path.as_bytes();
        while let [first, others @ ..] = rest {
            rest = match (first, others) {
                (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    after
                }
                (&byte, _) if allowed(byte) => others,
                _ => return Err(Fault::Character),
            };
        }
        Ok(Self(text.to_owned()))
    }

    /// As CloudFront is told.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether all that the other one names is named by this one too.
    pub fn covers(&self, other: &Self) -> bool {
        match self.prefix() {
            Some(prefix) => other.path().starts_with(prefix),
            None => self == other,
        }
    }

    fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    fn path(&self) -> &str {
        self.prefix().unwrap_or(&self.0)
    }

    /// All that is in the same folder, and below; of a whole folder, the one above it. `None`: this is everything.
    fn folder(&self) -> Option<Self> {
        let path = match self.prefix() {
            Some(prefix) => prefix.strip_suffix('/').unwrap_or(prefix),
            None => &self.0,
        };
        let slash = path.rfind('/')?;
        Some(Self(format!("{}*", &path[..=slash])))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The same paths in no more patterns than the limits allow, none covered by another. What fits is not widened; where
/// there is too much, the fullest folder becomes one wildcard, then the next, and in the end everything.
pub fn merge(patterns: impl IntoIterator<Item = Pattern>, limits: Limits) -> BTreeSet<Pattern> {
    let merged = collapse(patterns.into_iter().collect(), limits.paths);
    let (wildcards, exact): (BTreeSet<_>, BTreeSet<_>) =
        merged.into_iter().partition(|pattern| pattern.prefix().is_some());
    let mut merged = collapse(wildcards, limits.wildcards);
    merged.extend(exact);
    drop_covered(&mut merged);
    merged
}

fn drop_covered(patterns: &mut BTreeSet<Pattern>) {
    let wildcards: Vec<_> = patterns.iter().filter(|pattern| pattern.prefix().is_some()).cloned().collect();
    for wildcard in wildcards {
        if patterns.contains(&wildcard) {
            remove_covered(patterns, &wildcard);
            patterns.insert(wildcard);
        }
    }
}

/// What a wildcard covers stands together, in the order of text.
fn remove_covered(patterns: &mut BTreeSet<Pattern>, wildcard: &Pattern) -> Vec<Pattern> {
    let from = Pattern(wildcard.path().to_owned());
    let covered: Vec<_> =
        patterns.range(from..).take_while(|pattern| wildcard.covers(pattern)).cloned().collect();
    for pattern in &covered {
        patterns.remove(pattern);
    }
    covered
}

fn collapse(mut patterns: BTreeSet<Pattern>, max: usize) -> BTreeSet<Pattern> {
    drop_covered(&mut patterns);
    if patterns.len() <= max {
        return patterns;
    }
    let mut folders = Folders::default();
    for pattern in &patterns {
        folders.add(pattern);
    }
    while patterns.len() > max
        && let Some(folder) = folders.fullest()
    {
        for covered in remove_covered(&mut patterns, &folder) {
            folders.remove(&covered);
        }
        folders.add(&folder);
        patterns.insert(folder);
    }
    patterns
}

/// How many patterns stand directly in each folder.
#[derive(Default)]
struct Folders {
    counts: BTreeMap<Pattern, usize>,
    order: BTreeSet<(usize, Depth, Reverse<Pattern>)>,
}

/// Of folders that are equally full, the deepest is the least.
type Depth = usize;

impl Folders {
    fn fullest(&self) -> Option<Pattern> {
        self.order.last().map(|(_, _, Reverse(folder))| folder.clone())
    }

    fn add(&mut self, pattern: &Pattern) {
        self.change(pattern, |count| count + 1);
    }

    fn remove(&mut self, pattern: &Pattern) {
        self.change(pattern, |count| count - 1);
    }

    fn change(&mut self, pattern: &Pattern, new: impl Fn(usize) -> usize) {
        let Some(folder) = pattern.folder() else { return };
        let depth = folder.0.matches('/').count();
        let count = self.counts.remove(&folder).unwrap_or(0);
        self.order.remove(&(count, depth, Reverse(folder.clone())));
        let count = new(count);
        if count > 0 {
            self.order.insert((count, depth, Reverse(folder.clone())));
            self.counts.insert(folder, count);
        }
    }
}
