//! A parser of YAML with CloudFormation's short tags, to plain JSON with the long `Fn::` forms.
use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Value, json};

/// A problem and its position in the text; line and column count from 1.
#[derive(Debug)]
pub(super) struct YamlError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// A document, and the logical ids under its `Resources` in the text's order.
pub(super) struct Document {
    pub value: Value,
    pub resource_ids: Vec<String>,
}

/// Short tags with the long form `Fn::` plus the tag.
const FUNCTION_TAGS: [&str; 17] = [
    "And",
    "Base64",
    "Cidr",
    "Equals",
    "FindInMap",
    "GetAtt",
    "GetAZs",
    "If",
    "ImportValue",
    "Join",
    "Length",
    "Not",
    "Or",
    "Select",
    "Split",
    "Sub",
    "ToJsonString",
];

/// Parses one document.
pub(super) fn parse(text: &str) -> Result<Document, YamlError> {
    let documents = MarkedYaml::load_from_str(text).map_err(|e| YamlError {
        line: e.marker().line(),
        column: e.marker().col() + 1,
        message: e.info().to_owned(),
    })?;
    let Some(root) = documents.first() else {
        return Ok(Document { value: Value::Null, resource_ids: Vec::new() });
    };
    Ok(Document { value: to_json(root)?, resource_ids: resource_ids(root) })
}

fn resource_ids(root: &MarkedYaml<'_>) -> Vec<String> {
    let resources = root.data.as_mapping().and_then(|map| {
        map.iter().find_map(|(key, value)| (key.data.as_str() == Some("Resources")).then_some(value))
    });
    let Some(resources) = resources.and_then(|node| node.data.as_mapping()) else { return Vec::new() };
    resources.keys().filter_map(|key| key.data.as_str()).map(str::to_owned).collect()
}

fn to_json(node: &MarkedYaml<'_>) -> Result<Value, YamlError> {
    match &node.data {
        YamlData::Value(scalar) => Ok(scalar_to_json(scalar)),
        YamlData::Sequence(items) => items.iter().map(to_json).collect(),
        YamlData::Mapping(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (key, value) in entries {
                map.insert(key_of(key)?, to_json(value)?);
            }
            Ok(Value::Object(map))
        }
        YamlData::Tagged(tag, inner) => long_form(&tag.suffix, to_json(inner)?, node),
        YamlData::Representation(..) | YamlData::Alias(_) | YamlData::BadValue => {
            Err(error(node, "not a value of YAML's core schema".to_owned()))
        }
    }
}

fn scalar_to_json(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(value) => json!(value),
        Scalar::Integer(value) => json!(value),
        Scalar::FloatingPoint(value) => json!(value.into_inner()),
        Scalar::String(value) => json!(value),
    }
}

fn key_of(key: &MarkedYaml<'_>) -> Result<String, YamlError> {
    match to_json(key)? {
        Value::String(text) => Ok(text),
        value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
        _ => Err(error(key, "a key must be a string".to_owned())),
    }
}

fn long_form(tag: &str, value: Value, node: &MarkedYaml<'_>) -> Result<Value, YamlError> {
    match (tag, value) {
        ("Ref" | "Condition", value) => Ok(json!({ tag: value })),
        ("GetAtt", Value::String(text)) => match text.split_once('.') {
            Some((resource, attribute)) => Ok(json!({ "Fn::GetAtt": [resource, attribute] })),
            None => Err(error(node, format!("!GetAtt {text}: write <resource>.<attribute>"))),
        },
        (tag, value) if FUNCTION_TAGS.contains(&tag) => {
            let mut map = Map::new();
            map.insert(format!("Fn::{tag}"), value);
            Ok(Value::Object(map))
        }
        (tag, _) => Err(error(node, format!("unknown tag !{tag}"))),
    }
}

fn error(node: &MarkedYaml<'_>, message: String) -> YamlError {
    YamlError { line: node.span.start.line(), column: node.span.start.col() + 1, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_tags_become_the_long_forms() {
        let document = parse(
            "a: !Ref X\nb: !GetAtt Q.Arn\nc: !Sub '${X}-y'\nd: !Sub ['${v}', {v: !Ref X}]\n\
             e: !If [C, 1, !Ref AWS::NoValue]\nf: !Select [0, !Split [',', 'a,b']]\n",
        )
        .unwrap();
        assert_eq!(
            document.value,
            json!({
                "a": {"Ref": "X"},
                "b": {"Fn::GetAtt": ["Q", "Arn"]},
                "c": {"Fn::Sub": "${X}-y"},
                "d": {"Fn::Sub": ["${v}", {"v": {"Ref": "X"}}]},
                "e": {"Fn::If": ["C", 1, {"Ref": "AWS::NoValue"}]},
                "f": {"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]},
            })
        );
    }

    #[test]
    fn scalars_keep_their_types() {
        let document = parse("{a: 1, b: 1.5, c: 'x', d: true, e: ~, f: '7', 200: ok}").unwrap();
        assert_eq!(
            document.value,
            json!({"a": 1, "b": 1.5, "c": "x", "d": true, "e": null, "f": "7", "200": "ok"})
        );
    }

    #[test]
    fn errors_carry_their_line() {
        assert_eq!(parse("a: 1\nb: !Nope x\n").err().unwrap().line, 2);
        assert_eq!(parse("a: 1\na: 2\n").err().unwrap().line, 2);
        assert!(parse("a: [1\nb: 2\n").is_err());
    }

    #[test]
    fn resources_keep_their_order() {
        let document = parse("Resources:\n  Z: {}\n  A: {}\n  M: {}\n").unwrap();
        assert_eq!(document.resource_ids, ["Z", "A", "M"]);
    }
}
