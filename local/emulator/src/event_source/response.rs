//! The evaluation of a function's response by AWS's rules for `ReportBatchItemFailures`.
use std::collections::HashSet;

use serde_json::Value;
use uuid::Uuid;

/// Returns the ids of the failed messages.
///
/// An empty response, `null`, `{}` and an empty or null list mean success. AWS does not document an object with other
/// keys but without `batchItemFailures`; it fails the batch here, which reveals a misspelling at the first attempt.
///
/// # Errors
/// The whole batch failed: an id is missing, null, empty or not in the batch, or the response has any other shape.
pub(super) fn failures(answer: &[u8], batch: &HashSet<Uuid>) -> Result<HashSet<Uuid>, String> {
    if answer.iter().all(u8::is_ascii_whitespace) {
        return Ok(HashSet::new());
    }
    let answer: Value =
        serde_json::from_slice(answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let list = match &answer {
        Value::Null => return Ok(HashSet::new()),
        Value::Object(fields) if fields.is_empty() => return Ok(HashSet::new()),
        Value::Object(fields) => {
            fields.get("batchItemFailures").ok_or("the answer has no batchItemFailures")?
        }
        _ => return Err("the answer is not an object".to_owned()),
    };
    match list {
        Value::Null => Ok(HashSet::new()),
        Value::Array(items) => items.iter().map(|item| failed_id(item, batch)).collect(),
        _ => Err("batchItemFailures is not a list".to_owned()),
    }
}

fn failed_id(item: &Value, batch: &HashSet<Uuid>) -> Result<Uuid, String> {
    let id = item.get("itemIdentifier").and_then(Value::as_str);
    id.and_then(|id| Uuid::try_parse(id).ok())
        .filter(|id| batch.contains(id))
        .ok_or_else(|| format!("{item} names no message of the batch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn of(answer: &str) -> Result<HashSet<Uuid>, String> {
        failures(answer.as_bytes(), &HashSet::from([A, B]))
    }

    #[test]
    fn success() {
        for answer in ["", "null", "{}", " ", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#]
        {
            assert_eq!(of(answer), Ok(HashSet::new()), "{answer}");
        }
    }

    #[test]
    fn some_failed() {
        let answer = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{B}"}}]}}"#);
        assert_eq!(of(&answer), Ok(HashSet::from([B])));
    }

    #[test]
    fn the_whole_batch_fails() {
        let unknown = format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{}"}}]}}"#, Uuid::from_u128(3));
        let wrong_key = format!(r#"{{"batchItemFailures":[{{"messageId":"{A}"}}]}}"#);
        let one_bad =
            format!(r#"{{"batchItemFailures":[{{"itemIdentifier":"{A}"}},{{"itemIdentifier":""}}]}}"#);
        for answer in [
            unknown.as_str(),
            wrong_key.as_str(),
            one_bad.as_str(),
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[null]}"#,
            r#"{"batchItemFailures":"x"}"#,
            r#"{"batchFailures":[]}"#,
            r#"{"batchItemFailures":["#,
            r#""fine""#,
            "[]",
            "7",
        ] {
            assert!(of(answer).is_err(), "{answer}");
        }
    }
}
