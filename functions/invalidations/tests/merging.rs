//! Property tests of the rules of merging.

use std::collections::BTreeSet;

use invalidations::paths::{Limits, Pattern, PatternError, merge};
use proptest::{collection::vec, prelude::*};

const LIMITS: Limits = Limits { paths: 6, wildcards: 3 };

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn merged(limits: Limits, texts: &[&str]) -> Vec<String> {
    merge(texts.iter().map(|text| pattern(text)), limits).iter().map(ToString::to_string).collect()
}

/// Patterns of few names, so that paths overlap, with characters that sort before and after the star.
fn any_pattern() -> impl Strategy<Value = Pattern> {
    let text = (vec("[ab!]{0,2}", 1..4), prop_oneof![3 => Just(""), 1 => Just("*")]);
    text.prop_map(|(parts, star)| pattern(&format!("/{}{star}", parts.join("/"))))
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (1_usize..8, 1_usize..8).prop_map(|(paths, wildcards)| Limits { paths, wildcards })
}

proptest! {
    #[test]
    fn nothing_is_lost_nothing_is_twice_and_the_limits_hold(
        asked in vec(any_pattern(), 1..60), limits in any_limits()
    ) {
        let merged = merge(asked.clone(), limits);
        for one in &asked {
            prop_assert!(merged.iter().any(|other| other.covers(one)), "{one} is lost");
        }
        for one in &merged {
            let others = merged.iter().filter(|other| *other != one);
            prop_assert!(others.clone().all(|other| !other.covers(one)), "{one} is covered");
        }
        prop_assert!(merged.len() <= limits.paths);
        let wildcards = merged.iter().filter(|one| one.as_str().ends_with('*')).count();
        prop_assert!(wildcards <= limits.wildcards);
    }

    #[test]
    fn what_fits_is_not_widened(asked in vec(any_pattern(), 1..6)) {
        let limits = Limits { paths: 6, wildcards: 6 };
        let asked: BTreeSet<_> = asked.into_iter().collect();
        prop_assert!(merge(asked.clone(), limits).is_subset(&asked));
    }

    #[test]
    fn order_and_repetition_change_nothing(mut asked in vec(any_pattern(), 1..40), limits in any_limits()) {
        let merged = merge(asked.clone(), limits);
        asked.reverse();
        asked.extend(asked.clone());
        prop_assert_eq!(&merge(asked, limits), &merged);
        prop_assert_eq!(merge(merged.clone(), limits), merged);
    }

    #[test]
    fn covering_is_matching_by_prefix(one in any_pattern(), other in "/[ab!/]{0,5}") {
        let named = match one.as_str().strip_suffix('*') {
            Some(beginning) => other.starts_with(beginning),
            None => other == one.as_str(),
        };
        prop_assert_eq!(one.covers(&pattern(&other)), named);
    }
}

#[test]
fn the_fullest_folder_becomes_one_wildcard_and_the_others_stay() {
    let results: Vec<_> = (0..10_000).map(|poll| format!("/results/{poll}.json")).collect();
    let mut asked: Vec<_> = results.iter().map(String::as_str).collect();
    asked.extend(["/index.html", "/control/index.html", "/assets/a/1", "/assets/b/2"]);
    let expected = ["/assets/a/1", "/assets/b/2", "/control/index.html", "/index.html", "/results/*"];
    assert_eq!(merged(LIMITS, &asked), expected);
    assert_eq!(merged(Limits { paths: 1, wildcards: 1 }, &asked), ["/*"]);
    assert_eq!(merged(LIMITS, &["/results/7.json", "/results/*", "/results/7.json"]), ["/results/*"]);
}

#[test]
fn too_many_wildcards_become_fewer_and_paths_stay_paths() {
    let asked = ["/a/1/*", "/a/2/*", "/a/3/*", "/b/*", "/c"];
    assert_eq!(merged(LIMITS, &asked), ["/a/*", "/b/*", "/c"]);
    assert_eq!(merged(Limits { paths: 6, wildcards: 1 }, &asked), ["/*"]);
}

#[test]
fn what_cloudfront_would_refuse_is_no_pattern() {
    let long = format!("/{}", "a".repeat(4_000));
    for (text, error) in [
        ("", PatternError::NoSlash),
        ("*", PatternError::NoSlash),
        ("results/7.json", PatternError::NoSlash),
        ("https://vote.example/", PatternError::NoSlash),
        ("/a*b", PatternError::Star),
        ("/a**", PatternError::Star),
        ("/a b", PatternError::Character),
        ("/ä", PatternError::Character),
        ("/a?b=1", PatternError::Character),
        ("/100%", PatternError::Character),
        ("/%2", PatternError::Character),
        ("/%zz", PatternError::Character),
        (&long, PatternError::Length),
    ] {
        assert_eq!(Pattern::parse(text), Err(error), "{text}");
    }
    for text in ["/", "/*", "/results/7.json", "/%C3%A4*", "/a'(b)!;$&,+=:@~_-"] {
        assert!(Pattern::parse(text).is_ok(), "{text}");
    }
}
