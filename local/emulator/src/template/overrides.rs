//! Overrides (`--set Resource.Property.Path=value`): values of the template changed for an experiment.
use serde_json::{Map, Value};

use super::{ResolveError, yaml};

/// Applies one override to the unresolved resources.
///
/// The path is relative to the resource's `Properties`. In a SAM event, the `Properties` level may be omitted:
/// `MyFunction.Events.Messages.BatchSize`. All keys but the last must exist.
pub(super) fn apply(resources: &mut Map<String, Value>, text: &str) -> Result<(), ResolveError> {
    let fail = |message: String| ResolveError::new(format!("--set {text}: {message}"));
    let (path, value) =
        text.split_once('=').ok_or_else(|| fail("write it as Resource.Property=value".to_owned()))?;
    let value = yaml::parse(value).map_err(|e| fail(format!("the value is not YAML: {}", e.message)))?.value;
    let mut keys: Vec<&str> = path.split('.').collect();
    if keys.len() < 2 || keys.iter().any(|key| key.is_empty()) {
        return Err(fail("write it as Resource.Property=value".to_owned()));
    }
    let id = keys.remove(0);
    let known = names(resources.keys());
    let resource = resources
        .get_mut(id)
        .ok_or_else(|| fail(format!("there is no resource {id}; the template has: {known}")))?;
    if keys.len() > 2 && keys[0] == "Events" && keys[2] != "Type" && keys[2] != "Properties" {
        keys.insert(2, "Properties");
    }
    let properties = resource
        .as_object_mut()
        .ok_or_else(|| fail(format!("{id} is not a map")))?
        .entry("Properties")
        .or_insert_with(|| Value::Object(Map::new()));
    set(properties, id, &keys, value).map_err(fail)
}

fn set(parent: &mut Value, parent_path: &str, keys: &[&str], value: Value) -> Result<(), String> {
    let [key, rest @ ..] = keys else { return Ok(()) };
    if super::intrinsic_of(parent).is_some() {
        return Err(format!("{parent_path} is computed in the template; set {parent_path} as a whole"));
    }
    let path = format!("{parent_path}.{key}");
    let child = match parent {
        Value::Object(map) if rest.is_empty() => map.entry(*key).or_insert(Value::Null),
        Value::Object(map) => {
            let known = names(map.keys());
            map.get_mut(*key).ok_or_else(|| format!("there is no {path}; {parent_path} has: {known}"))?
        }
        Value::Array(items) => {
            let length = items.len();
            key.parse::<usize>()
                .ok()
                .and_then(|index| items.get_mut(index))
                .ok_or_else(|| format!("there is no {path}; {parent_path} is a list of {length}"))?
        }
        _ => return Err(format!("{parent_path} is a single value without keys")),
    };
    if rest.is_empty() {
        *child = value;
        return Ok(());
    }
    set(child, &path, rest, value)
}

fn names<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let keys: Vec<&str> = keys.map(String::as_str).collect();
    if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn resources() -> Map<String, Value> {
        json!({
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Function": {"Properties": {
                "Timeout": 3,
                "MemorySize": {"Ref": "Memory"},
                "Layers": ["a", "b"],
                "Events": {"Votes": {"Type": "SQS", "Properties": {"BatchSize": 300}}},
            }},
        })
        .as_object()
        .unwrap()
        .clone()
    }

    fn applied(text: &str) -> Map<String, Value> {
        let mut resources = resources();
        apply(&mut resources, text).unwrap();
        resources
    }

    fn refused(text: &str) -> String {
        apply(&mut resources(), text).unwrap_err().to_string()
    }

    #[test]
    fn sets_properties() {
        assert_eq!(
            applied("Queue.VisibilityTimeout=5")["Queue"]["Properties"]["VisibilityTimeout"],
            json!(5)
        );
        assert_eq!(applied("Function.Timeout=9")["Function"]["Properties"]["Timeout"], json!(9));
        assert_eq!(applied("Function.MemorySize=9")["Function"]["Properties"]["MemorySize"], json!(9));
        assert_eq!(applied("Function.Layers.1=c")["Function"]["Properties"]["Layers"], json!(["a", "c"]));
    }

    #[test]
    fn the_properties_level_of_an_event_is_skipped() {
        for text in
            ["Function.Events.Votes.BatchSize=1000", "Function.Events.Votes.Properties.BatchSize=1000"]
        {
            let changed = applied(text);
            assert_eq!(
                changed["Function"]["Properties"]["Events"]["Votes"],
                json!({"Type": "SQS", "Properties": {"BatchSize": 1000}})
            );
        }
    }

    #[test]
    fn refusals_list_what_exists() {
        assert!(refused("Nope.X=1").contains("Queue"));
        assert!(refused("Function.Evnts.Votes.BatchSize=1").contains("Events"));
        assert!(refused("Function.Events.Poll.BatchSize=1").contains("Votes"));
        assert!(refused("Function.Timeout.X=1").contains("single value"));
        assert!(refused("Function.MemorySize.X=1").contains("computed"));
        assert!(refused("Function.Layers.7=1").contains("list of 2"));
        assert!(refused("Queue=1").contains("Resource.Property=value"));
        assert!(refused("Queue.VisibilityTimeout").contains("Resource.Property=value"));
    }
}
