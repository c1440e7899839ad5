//! Builds orders: the author of a change, and the expected version of the poll.

use domain::{Action, Order};
use lambda_http::{Request, RequestExt, http::header, request::RequestContext};

/// Claims that name a person, in order of preference: the address, Cognito's user names, and `sub`, which every token
/// has.
const NAMES: [&str; 4] = ["email", "username", "cognito:username", "sub"];

/// Maximum length of a name in the journal. Addresses have at most 254 characters.
const WHO_CHARS_MAX: usize = 256;

/// Returns an order that applies to any version of the poll.
pub(crate) fn order(request: &Request, action: Action) -> Order {
    Order::new(author(request), action)
}

/// Returns an order for the versions in `If-Match`, or for any version without that header.
pub(crate) fn order_if_match(request: &Request, action: Action) -> Order {
    Order { expected: expected(request), ..order(request, action) }
}

/// Returns the author's name, from the authorizer's claims only.
fn author(request: &Request) -> String {
    let context = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => Some(context),
        _ => None,
    };
    let jwt = context.and_then(|context| context.authorizer.as_ref()?.jwt.as_ref());
    let mut named = NAMES.iter().filter_map(|name| Some(printable(jwt?.claims.get(*name)?)));
    named.find(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

fn printable(claim: &str) -> String {
    claim.trim().chars().filter(|char| !char.is_control()).take(WHO_CHARS_MAX).collect()
}

/// Parses `If-Match`. Returns `None` for any version. A foreign tag matches no version. Weak tags count as strong,
/// since CloudFront weakens tags when it compresses.
fn expected(request: &Request) -> Option<Vec<i32>> {
    let headers = request.headers().get_all(header::IF_MATCH);
    let given: Vec<_> =
        headers.iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')).collect();
    if given.is_empty() || given.iter().any(|tag| tag.trim() == "*") {
        return None;
    }
    let version = |tag: &&str| {
        let tag = tag.trim();
        let text = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')?;
        text.parse().ok().filter(|version: &i32| version.to_string() == text)
    };
    Some(given.iter().filter_map(version).collect())
}

#[cfg(test)]
mod tests {
    use lambda_http::{Body, http};

    use super::*;

    fn if_match(value: &str) -> Option<Vec<i32>> {
        expected(&http::Request::builder().header("if-match", value).body(Body::Empty).unwrap())
    }

    #[test]
    fn tags_are_versions() {
        assert_eq!(if_match("\"7\""), Some(vec![7]));
        assert_eq!(if_match("W/\"7\", \"9\""), Some(vec![7, 9]));
        assert_eq!(if_match("*"), None);
        for foreign in ["7", "\"\"", "\"a\"", "", "\"07\"", "\"+7\""] {
            assert_eq!(if_match(foreign), Some(vec![]), "{foreign}");
        }
        assert_eq!(expected(&http::Request::new(Body::Empty)), None);
    }

    #[test]
    fn a_name_is_printable_and_bounded() {
        assert_eq!(printable(" crew\u{0}@\u{7}example.com "), "crew@example.com");
        assert_eq!(printable(&"x".repeat(1_000)).len(), WHO_CHARS_MAX);
    }
}
