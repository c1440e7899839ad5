//! Conditions and intrinsic functions.
use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::{ResolveError, intrinsic_of, physical, text_of};

type Resolved<T> = Result<T, ResolveError>;

/// How deep conditions may refer to each other: beyond this they go round in a circle.
const CONDITION_DEPTH_MAX: usize = 32;

/// Everything a value in the template can refer to.
pub(super) struct Resolver<'a> {
    parameters: BTreeMap<String, Value>,
    conditions: Map<String, Value>,
    mappings: Map<String, Value>,
    resources: &'a Map<String, Value>,
    aws_endpoint: &'a str,
}

impl<'a> Resolver<'a> {
    pub fn new(
        parameters: BTreeMap<String, Value>,
        conditions: Map<String, Value>,
        mappings: Map<String, Value>,
        resources: &'a Map<String, Value>,
        aws_endpoint: &'a str,
    ) -> Self {
        Self { parameters, conditions, mappings, resources, aws_endpoint }
    }

    /// Whether the resource's `Condition` lets it exist.
    pub fn exists(&self, raw: &Value) -> Resolved<bool> {
        match &raw["Condition"] {
            Value::Null => Ok(true),
            name => self.named_condition(&text_of(name), 0).map_err(|e| e.at("Condition")),
        }
    }

    /// The value with every function in it replaced by its result; `None` for `AWS::NoValue`.
    pub fn resolve(&self, value: &Value) -> Resolved<Option<Value>> {
        if let Some((function, argument)) = intrinsic_of(value) {
            return self.call(function, argument).map_err(|e| e.at(function));
        }
        match value {
            Value::Object(map) => {
                let mut resolved = Map::with_capacity(map.len());
                for (key, value) in map {
                    if let Some(value) = self.resolve(value).map_err(|e| e.at(key))? {
                        resolved.insert(key.clone(), value);
                    }
                }
                Ok(Some(Value::Object(resolved)))
            }
            Value::Array(items) => {
                let resolved = items.iter().enumerate().filter_map(|(index, item)| {
                    self.resolve(item).map_err(|e| e.at(index.to_string())).transpose()
                });
                Ok(Some(Value::Array(resolved.collect::<Resolved<_>>()?)))
            }
            scalar => Ok(Some(scalar.clone())),
        }
    }

    fn call(&self, function: &str, argument: &Value) -> Resolved<Option<Value>> {
        match function {
            "Ref" => self.reference(&text_of(argument)),
            "Fn::If" => self.if_else(argument),
            "Fn::GetAtt" => self.get_att(argument).map(Some),
            "Fn::Sub" => self.sub(argument).map(Some),
            "Fn::Join" => self.join(argument).map(Some),
            "Fn::Select" => self.select(argument).map(Some),
            "Fn::Split" => self.split(argument).map(Some),
            "Fn::FindInMap" => self.find_in_map(argument).map(Some),
            "Fn::Base64" => Ok(Some(json!(BASE64_STANDARD.encode(self.text(argument)?)))),
            "Fn::GetAZs" => {
                Ok(Some(json!([format!("{}a", physical::REGION), format!("{}b", physical::REGION)])))
            }
            "Fn::Length" => Ok(Some(json!(self.list(argument)?.len()))),
            "Fn::ToJsonString" => Ok(Some(json!(self.value(argument)?.to_string()))),
            "Fn::And" | "Fn::Or" | "Fn::Not" | "Fn::Equals" => {
                Err(ResolveError::new("belongs into the Conditions section"))
            }
            _ => Err(ResolveError::new("this function needs AWS itself and is not resolved on one machine")),
        }
    }

    fn reference(&self, name: &str) -> Resolved<Option<Value>> {
        if name == "AWS::NoValue" {
            return Ok(None);
        }
        if let Some(value) = self.parameters.get(name) {
            return Ok(Some(value.clone()));
        }
        if let Some(value) = physical::pseudo_parameter(name) {
            return Ok(Some(json!(value)));
        }
        let (kind, physical_name) = self.identify(name)?;
        Ok(Some(json!(physical::reference(&kind, &physical_name, self.aws_endpoint))))
    }

    /// Type and name of a resource; SAM's own resources have an empty type and their logical id as name.
    fn identify(&self, id: &str) -> Resolved<(String, String)> {
        let Some(raw) = self.resources.get(id) else {
            if physical::is_made_by_sam(id, self.resources.iter()) {
                return Ok((String::new(), id.to_owned()));
            }
            return Err(ResolveError::new(format!("{id} is neither a parameter nor a resource")));
        };
        if !self.exists(raw)? {
            return Err(ResolveError::new(format!("the Condition of {id} is false: it does not exist")));
        }
        let kind = text_of(&raw["Type"]);
        let given = physical::name_property(&kind).and_then(|property| raw.get("Properties")?.get(property));
        let name = match given {
            Some(given) => self.resolve(given)?.map(|name| text_of(&name)),
            None => None,
        };
        Ok((kind, name.unwrap_or_else(|| id.to_owned())))
    }

    fn get_att(&self, argument: &Value) -> Resolved<Value> {
        let (id, attribute) = match argument {
            Value::String(text) => {
                text.split_once('.').map(|(id, attribute)| (id.to_owned(), attribute.to_owned()))
            }
            Value::Array(parts) if parts.len() == 2 => Some((text_of(&parts[0]), self.text(&parts[1])?)),
            _ => None,
        }
        .ok_or_else(|| ResolveError::new("needs a resource and one of its attributes"))?;
        self.attribute(&id, &attribute)
    }

    fn attribute(&self, id: &str, attribute: &str) -> Resolved<Value> {
        let (kind, name) = self.identify(id)?;
        physical::attribute(&kind, &name, attribute, self.aws_endpoint).map(Value::String)
    }

    fn if_else(&self, argument: &Value) -> Resolved<Option<Value>> {
        let [condition, then, otherwise] = arguments(argument, "a condition and two values")?;
        let (index, branch) =
            if self.named_condition(&text_of(condition), 0)? { (1, then) } else { (2, otherwise) };
        self.resolve(branch).map_err(|e| e.at(index.to_string()))
    }

    fn sub(&self, argument: &Value) -> Resolved<Value> {
        let (text, variables) = match argument {
            Value::String(text) => (text.as_str(), None),
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(text), Value::Object(variables)] => (text.as_str(), Some(variables)),
                _ => return Err(ResolveError::new("needs a string, or a string and a map")),
            },
            _ => return Err(ResolveError::new("needs a string, or a string and a map")),
        };
        let mut result = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            result.push_str(&rest[..start]);
            let (name, after) = rest[start + 2..]
                .split_once('}')
                .ok_or_else(|| ResolveError::new(format!("\"{text}\" has a ${{ without its }}")))?;
            match name.strip_prefix('!') {
                Some(literal) => result.push_str(&format!("${{{literal}}}")),
                None => result.push_str(&self.variable(name.trim(), variables)?),
            }
            rest = after;
        }
        result.push_str(rest);
        Ok(Value::String(result))
    }

    fn variable(&self, name: &str, variables: Option<&Map<String, Value>>) -> Resolved<String> {
        if let Some(value) = variables.and_then(|variables| variables.get(name)) {
            return self.text(value).map_err(|e| e.at(name));
        }
        let value = match name.split_once('.') {
            Some((id, attribute)) => self.attribute(id, attribute)?,
            None => self
                .reference(name)?
                .ok_or_else(|| ResolveError::new("AWS::NoValue cannot be put into a string"))?,
        };
        Ok(text_of(&value))
    }

    fn join(&self, argument: &Value) -> Resolved<Value> {
        let [delimiter, items] = arguments(argument, "a delimiter and a list")?;
        let items: Vec<String> = self.list(items)?.iter().map(text_of).collect();
        Ok(json!(items.join(&self.text(delimiter)?)))
    }

    fn select(&self, argument: &Value) -> Resolved<Value> {
        let [index, items] = arguments(argument, "an index and a list")?;
        let (index, items) = (self.text(index)?, self.list(items)?);
        let item = index.parse::<usize>().ok().and_then(|index| items.get(index));
        item.cloned().ok_or_else(|| {
            ResolveError::new(format!("there is no item {index} in a list of {}", items.len()))
        })
    }

    fn split(&self, argument: &Value) -> Resolved<Value> {
        let [delimiter, text] = arguments(argument, "a delimiter and a string")?;
        let (delimiter, text) = (self.text(delimiter)?, self.text(text)?);
        Ok(text.split(&delimiter).map(|part| json!(part)).collect())
    }

    fn find_in_map(&self, argument: &Value) -> Resolved<Value> {
        let [map, first, second] = arguments(argument, "a map and two keys")?;
        let keys = [self.text(map)?, self.text(first)?, self.text(second)?];
        let found = self.mappings.get(&keys[0]).and_then(|map| map.get(&keys[1])?.get(&keys[2]));
        found.cloned().ok_or_else(|| ResolveError::new(format!("Mappings has no {}", keys.join("."))))
    }

    fn named_condition(&self, name: &str, depth: usize) -> Resolved<bool> {
        if depth > CONDITION_DEPTH_MAX {
            return Err(ResolveError::new(format!("condition {name} refers to itself")));
        }
        let condition = self
            .conditions
            .get(name)
            .ok_or_else(|| ResolveError::new(format!("there is no condition {name}")))?;
        self.condition(condition, depth + 1).map_err(|e| e.at(name).at("Conditions"))
    }

    fn condition(&self, condition: &Value, depth: usize) -> Resolved<bool> {
        let all = |argument: &Value| -> Resolved<Vec<bool>> {
            let list = argument.as_array().ok_or_else(|| ResolveError::new("needs a list of conditions"))?;
            list.iter().map(|condition| self.condition(condition, depth)).collect()
        };
        let entry = condition.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
        match entry.map(|(key, value)| (key.as_str(), value)) {
            Some(("Condition", name)) => self.named_condition(&text_of(name), depth),
            Some(("Fn::Equals", argument)) => {
                let [left, right] = arguments(argument, "two values")?;
                Ok(text_of(&self.value(left)?) == text_of(&self.value(right)?))
            }
            Some(("Fn::Not", argument)) => Ok(!all(argument)?.iter().all(|value| *value)),
            Some(("Fn::And", argument)) => Ok(all(argument)?.iter().all(|value| *value)),
            Some(("Fn::Or", argument)) => Ok(all(argument)?.iter().any(|value| *value)),
            _ => Err(ResolveError::new("a condition is one of Equals, Not, And, Or, Condition")),
        }
    }

    fn value(&self, value: &Value) -> Resolved<Value> {
        self.resolve(value)?.ok_or_else(|| ResolveError::new("AWS::NoValue is no value here"))
    }

    fn text(&self, value: &Value) -> Resolved<String> {
        match self.value(value)? {
            Value::Array(_) | Value::Object(_) | Value::Null => Err(ResolveError::new("needs a string")),
            scalar => Ok(text_of(&scalar)),
        }
    }

    fn list(&self, value: &Value) -> Resolved<Vec<Value>> {
        match self.value(value)? {
            Value::Array(items) => Ok(items),
            _ => Err(ResolveError::new("needs a list")),
        }
    }
}

fn arguments<'v, const N: usize>(argument: &'v Value, what: &str) -> Resolved<&'v [Value; N]> {
    argument
        .as_array()
        .and_then(|items| items.as_slice().try_into().ok())
        .ok_or_else(|| ResolveError::new(format!("needs {what}")))
}
