//! SAM's `Globals`: properties shared by all resources of a type.
use serde_json::{Map, Value};

use super::intrinsic_of;

/// The sections of `Globals`, each with its resource type.
const SECTIONS: [(&str, &str); 4] = [
    ("Function", "AWS::Serverless::Function"),
    ("HttpApi", "AWS::Serverless::HttpApi"),
    ("Api", "AWS::Serverless::Api"),
    ("StateMachine", "AWS::Serverless::StateMachine"),
];

/// Merges `Globals` into the properties of the resources of each type.
pub(super) fn merge_into(resources: &mut Map<String, Value>, globals: &Value) {
    for (section, kind) in SECTIONS {
        let Some(global) = globals.get(section) else { continue };
        for resource in resources.values_mut().filter(|resource| resource["Type"] == kind) {
            let own = resource.get_mut("Properties").map_or_else(|| Value::Object(Map::new()), Value::take);
            resource["Properties"] = merged(global, own);
        }
    }
}

/// Merges like SAM: maps by key, lists by concatenation; any other value is overridden by the resource's.
fn merged(global: &Value, own: Value) -> Value {
    match (global, own) {
        (Value::Object(global_map), Value::Object(mut own_map))
            if intrinsic_of(global).is_none() && sole_intrinsic(&own_map).is_none() =>
        {
            for (key, value) in global_map {
                let result = match own_map.remove(key) {
                    Some(own) => merged(value, own),
                    None => value.clone(),
                };
                own_map.insert(key.clone(), result);
            }
            Value::Object(own_map)
        }
        (Value::Array(global), Value::Array(own)) => global.iter().cloned().chain(own).collect(),
        (_, own) => own,
    }
}

fn sole_intrinsic(map: &Map<String, Value>) -> Option<&str> {
    let mut keys = map.keys();
    let only = keys.next().filter(|_| keys.next().is_none())?;
    super::is_intrinsic(only).then_some(only)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merges_as_sam_does() {
        let mut resources = json!({
            "F": {"Type": "AWS::Serverless::Function", "Properties": {
                "Timeout": 9,
                "Environment": {"Variables": {"A": "own", "C": {"Ref": "P"}}},
                "Layers": ["own"],
            }},
            "Bare": {"Type": "AWS::Serverless::Function"},
            "Queue": {"Type": "AWS::SQS::Queue"},
        });
        let globals = json!({"Function": {
            "Timeout": 3,
            "MemorySize": 128,
            "Environment": {"Variables": {"A": "global", "B": "global", "C": {"Ref": "Q"}}},
            "Layers": ["global"],
        }});
        merge_into(resources.as_object_mut().unwrap(), &globals);
        assert_eq!(
            resources["F"]["Properties"],
            json!({
                "Timeout": 9,
                "MemorySize": 128,
                "Environment": {"Variables": {"A": "own", "B": "global", "C": {"Ref": "P"}}},
                "Layers": ["global", "own"],
            })
        );
        assert_eq!(resources["Bare"]["Properties"]["Timeout"], json!(3));
        assert_eq!(resources["Queue"], json!({"Type": "AWS::SQS::Queue"}));
    }
}
