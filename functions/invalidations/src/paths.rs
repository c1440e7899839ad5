//! Pure rules of merging: coverage between patterns, and the reduction to CloudFront's limits.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// CloudFront's limit on the length of a path.
const LENGTH_MAX: usize = 4_000;

/// A path, or with a star at its end all paths with that prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(String);

/// The reason why a text is no pattern. CloudFront would refuse it, or treat a star in the middle as a character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A relative path, or a URL.
    #[error("a path begins with a slash")]
    NoSlash,
    /// A star that is not the last character.
    #[error("a star is allowed at the end of a path only")]
    Star,
    /// A character that is neither allowed in a path nor percent-encoded.
    #[error("a path contains letters, digits, -._~!$&'()+,;=:@/ and percent-encoded bytes only")]
    Character,
    /// Longer than CloudFront's limit.
    #[error("a path has at most {LENGTH_MAX} characters")]
    Length,
}

/// Limits on the patterns of one invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of patterns; at least 1.
    pub paths: usize,
    /// Maximum number of patterns with a star; at least 1.
    pub wildcards: usize,
}

impl Pattern {
    /// Parses a path in CloudFront's form: percent-encoded, case-sensitive, without a query.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text.strip_suffix('*').unwrap_or(text);
        if !path.starts_with('/') {
            return Err(PatternError::NoSlash);
        }
        if path.contains('*') {
            return Err(PatternError::Star);
        }
        if text.len() > LENGTH_MAX {
            return Err(PatternError::Length);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,;=:@/".contains(&byte);
        let mut rest = path.as_bytes();
        while let [first, others @ ..] = rest {
            rest = match (first, others) {
                (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    after
                }
                (&byte, _) if allowed(byte) => others,
                _ => return Err(PatternError::Character),
            };
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the pattern's text, as CloudFront expects it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this pattern matches every path that `other` matches.
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

    /// Returns the wildcard of the pattern's folder; for a folder's own wildcard, that of its parent. `None` for
    /// `/*`.
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

/// Merges patterns within the limits, so that every path stays covered and no pattern covers another. Patterns
/// within the limits are not widened. Beyond them, the folder with the most patterns becomes one wildcard, then the
/// next, until only `/*` is left.
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

/// Removes and returns the patterns that a wildcard covers. They are adjacent in lexicographic order.
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

/// The number of patterns directly in each folder.
#[derive(Default)]
struct Folders {
    counts: BTreeMap<Pattern, usize>,
    order: BTreeSet<(usize, Depth, Reverse<Pattern>)>,
}

/// The depth of a folder. Among equally full folders the deepest is merged first, since it covers the least.
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
