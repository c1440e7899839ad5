//! Parses request bodies.

use api::Problem;
use lambda_http::{Request, http::StatusCode};
use serde::de::DeserializeOwned;

/// Maximum size of a body. 1,000 contestants with every field at its limit take 2.5 MB; a real poll takes a few kB.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Parses a body.
///
/// # Errors
/// 400 if the body is not JSON; 413 above the limit; 422 for a field that is missing, unknown or of the wrong type.
/// The message names the field.
pub fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Problem> {
    let bytes: &[u8] = request.body();
    if bytes.len() > BODY_BYTES_MAX {
        let message = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "bodyTooLarge", message));
    }
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        // serde would accept a list of values in the fields' order as the object.
        let message = "body: expected an object";
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalidField", message));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            // The error names a missing or unknown field; the path is that of the enclosing object.
            let field = if path == "." { "body".to_owned() } else { path };
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalidField", format!("{field}: {inner}"))
        } else {
            Problem::new(StatusCode::BAD_REQUEST, "notJson", format!("The body is not JSON: {inner}."))
        }
    })?;
    json.end().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "notJson", format!("The body is not JSON: {error}."))
    })?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use domain::Draft;
    use lambda_http::{Body, http};

    use super::*;

    fn problem(body: &str) -> (u16, String) {
        let problem = parse::<Draft>(&http::Request::new(Body::from(body))).unwrap_err();
        (problem.status.as_u16(), problem.message)
    }

    #[test]
    fn invalid_json_and_an_invalid_poll_have_different_codes() {
        assert_eq!(problem("{").0, 400);
        assert_eq!(problem(r#"{"title":"a","contestants":[]} x"#).0, 400);
        assert_eq!(problem(&" ".repeat(BODY_BYTES_MAX + 1)).0, 413);
        let (status, message) = problem(r#"{"title":"a","contestants":[{"name":1}]}"#);
        assert_eq!(status, 422);
        assert_eq!(problem(r#"["a",null,null,null,"live",[["a"]]]"#).0, 422);
        assert!(message.starts_with("contestants[0].name: invalid type"), "{message}");
        let (status, message) = problem(r#"{"contestants":[]}"#);
        assert!(status == 422 && message.contains("`title`"), "{message}");
        let (status, message) = problem(r#"{"title":"a","contestants":[],"opensat":null}"#);
        assert!(status == 422 && message.contains("opensat"), "{message}");
        let (status, message) = problem(r#"{"title":"a","contestants":[],"opensAt":"now"}"#);
        assert!(status == 422 && message.starts_with("opensAt: expected a time"), "{message}");
    }
}
