//! Who asks for a change, and of which version of the poll.

use domain::{Action, Order};
use lambda_http::{Request, RequestExt, http::header, request::RequestContext};

/// Claims that name a person, the best first: an address, Cognito's names, and what every token has.
const NAMES: [&str; 4] = ["email", "username", "cognito:username", "sub"];

/// As much of a name as the journal keeps: addresses end at 254 characters.
const WHO_CHARS_MAX: usize = 256;

/// An order to act on the poll's state, whatever its version.
pub(crate) fn order(request: &Request, action: Action) -> Order {
    Order::new(who(request), action)
}

/// An order for the versions that `If-Match` names, where it is given.
pub(crate) fn order_if_match(request: &Request, action: Action) -> Order {
    Order { expected: expected(request), ..order(request, action) }
}

/// The authorizer's word alone.
fn who(request: &Request) -> String {
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

/// `None`: any version. A tag that is none of ours is of no version there is. A weak tag is taken for a strong one: an
/// edge that compresses makes them weak.
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
