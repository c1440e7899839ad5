//! Template parameters: defaults, given values, and CloudFormation's checks.
use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::{Map, Value, json};

use super::ResolveError;

/// Resolves every declared parameter to its checked value.
pub(super) fn resolve(
    declared: &Map<String, Value>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>, ResolveError> {
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        let known: Vec<&str> = declared.keys().map(String::as_str).collect();
        return Err(ResolveError::new(format!(
            "there is no parameter {unknown}; the template has: {}",
            known.join(", ")
        )));
    }
    declared
        .iter()
        .map(|(name, declaration)| {
            let value = value_of(declaration, given.get(name)).map_err(|e| e.at(name))?;
            Ok((name.clone(), value))
        })
        .collect()
}

fn value_of(declaration: &Value, given: Option<&String>) -> Result<Value, ResolveError> {
    let kind = declaration["Type"]
        .as_str()
        .ok_or_else(|| ResolveError::new("a parameter needs a Type (String, Number, …)"))?;
    let text = match (given, &declaration["Default"]) {
        (Some(text), _) => text.clone(),
        (None, Value::String(text)) => text.clone(),
        (None, value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        (None, _) => {
            return Err(ResolveError::new("this parameter has no Default: it needs a value"));
        }
    };
    check(declaration, kind, &text).map_err(|problem| {
        // A NoEcho value is a secret and must not reach a terminal or a log.
        let shown =
            if is_true(&declaration["NoEcho"]) { "the value".to_owned() } else { format!("\"{text}\"") };
        let hint =
            declaration["ConstraintDescription"].as_str().map(|d| format!(" ({d})")).unwrap_or_default();
        ResolveError::new(format!("{shown} {problem}{hint}"))
    })?;
    Ok(typed(kind, text))
}

fn typed(kind: &str, text: String) -> Value {
    match kind {
        "Number" => number(&text).unwrap_or(Value::String(text)),
        "CommaDelimitedList" => text.split(',').map(|item| json!(item.trim())).collect(),
        list if list.starts_with("List<") => text.split(',').map(|item| json!(item.trim())).collect(),
        _ => Value::String(text),
    }
}

fn number(text: &str) -> Option<Value> {
    text.parse::<i64>().map(|n| json!(n)).ok().or_else(|| text.parse::<f64>().ok().map(|n| json!(n)))
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

fn check(declaration: &Value, kind: &str, text: &str) -> Result<(), String> {
    if let Some(allowed) = declaration["AllowedValues"].as_array() {
        let allowed: Vec<String> = allowed.iter().map(super::text_of).collect();
        if !allowed.iter().any(|value| value == text) {
            return Err(format!("is not one of the allowed values: {}", allowed.join(", ")));
        }
    }
    if let Some(pattern) = declaration["AllowedPattern"].as_str() {
        let regex = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
            format!("cannot be checked: AllowedPattern {pattern} is not a valid pattern: {e}")
        })?;
        if !regex.is_match(text) {
            return Err(format!("does not match the pattern {pattern}"));
        }
    }
    let length = text.chars().count() as f64;
    check_range(length, &declaration["MinLength"], &declaration["MaxLength"], "characters long")?;
    if kind == "Number" {
        let value: f64 = text.parse().map_err(|_| "is not a number".to_owned())?;
        check_range(value, &declaration["MinValue"], &declaration["MaxValue"], "in value")?;
    }
    Ok(())
}

fn check_range(value: f64, min: &Value, max: &Value, unit: &str) -> Result<(), String> {
    if let Some(min) = super::as_f64(min).filter(|min| value < *min) {
        return Err(format!("must be at least {min} {unit}"));
    }
    if let Some(max) = super::as_f64(max).filter(|max| value > *max) {
        return Err(format!("must be at most {max} {unit}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(declaration: &Value, given: Option<&str>) -> Result<Value, String> {
        let declared = json!({ "P": declaration });
        let given = given.map(|text| ("P".to_owned(), text.to_owned())).into_iter().collect();
        resolve(declared.as_object().unwrap(), &given)
            .map(|mut all| all.remove("P").unwrap())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn defaults_and_types() {
        assert_eq!(one(&json!({"Type": "String", "Default": "x"}), None).unwrap(), json!("x"));
        assert_eq!(one(&json!({"Type": "String", "Default": "x"}), Some("y")).unwrap(), json!("y"));
        assert_eq!(one(&json!({"Type": "Number", "Default": 5}), None).unwrap(), json!(5));
        assert_eq!(one(&json!({"Type": "CommaDelimitedList"}), Some("a, b")).unwrap(), json!(["a", "b"]));
    }

    #[test]
    fn a_missing_value_names_its_parameter() {
        let error = one(&json!({"Type": "String"}), None).unwrap_err();
        assert!(error.contains('P') && error.contains("no Default"), "{error}");
    }

    #[test]
    fn an_unknown_parameter_lists_the_known() {
        let declared = json!({"Known": {"Type": "String", "Default": ""}});
        let given = BTreeMap::from([("Other".to_owned(), String::new())]);
        let error = resolve(declared.as_object().unwrap(), &given).unwrap_err().to_string();
        assert!(error.contains("Other") && error.contains("Known"), "{error}");
    }

    #[test]
    fn constraints_are_checked() {
        assert!(one(&json!({"Type": "String", "AllowedValues": ["a", 2]}), Some("2")).is_ok());
        assert!(
            one(&json!({"Type": "String", "AllowedValues": ["a"]}), Some("b"))
                .unwrap_err()
                .contains("allowed")
        );
        assert!(one(&json!({"Type": "String", "AllowedPattern": "[0-9a-f]{4}"}), Some("00ff")).is_ok());
        assert!(one(&json!({"Type": "String", "AllowedPattern": "[0-9a-f]{4}"}), Some("00ff0")).is_err());
        assert!(one(&json!({"Type": "String", "MinLength": 2}), Some("a")).is_err());
        assert!(one(&json!({"Type": "String", "MaxLength": "2"}), Some("abc")).is_err());
        assert!(one(&json!({"Type": "Number", "MinValue": 2, "MaxValue": 4}), Some("3")).is_ok());
        assert!(one(&json!({"Type": "Number", "MinValue": 2}), Some("1")).is_err());
        assert!(one(&json!({"Type": "Number", "MaxValue": 4}), Some("5")).is_err());
        assert!(one(&json!({"Type": "Number"}), Some("five")).unwrap_err().contains("number"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let declaration = json!({"Type": "String", "NoEcho": true, "MinLength": 64, "ConstraintDescription": "64 hex digits"});
        let error = one(&declaration, Some("hunter2")).unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("64 hex digits"), "{error}");
    }
}
