//! Route selection: a full match precedes `{param}`, which precedes `{param+}`, which precedes `$default`. For equal
//! paths, a method precedes `ANY`.
use std::collections::HashMap;

use anyhow::{Result, anyhow};
use axum::http::Method;

use crate::http_api::definition::RouteKey;

/// Routes, compiled to one radix tree for each method.
#[derive(Debug)]
pub struct RouteTable<T> {
    by_method: HashMap<Method, matchit::Router<usize>>,
    any_method: matchit::Router<usize>,
    default: Option<usize>,
    routes: Vec<T>,
}

/// A route and its path parameters, percent-decoded.
pub type Found<'a, T> = (&'a T, Vec<(String, String)>);

impl<T> RouteTable<T> {
    /// Compiles the routes.
    ///
    /// # Errors
    /// Two routes match the same requests.
    pub fn new(routes: impl IntoIterator<Item = (RouteKey, T)>) -> Result<Self> {
        let (keys, routes): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
        let any = keys.iter().enumerate().filter(|(_, key)| key.method.is_none() && key.path != "$default");
        let any: Vec<(usize, &RouteKey)> = any.collect();
        let mut by_method = HashMap::<Method, matchit::Router<usize>>::new();
        for (index, key) in keys.iter().enumerate() {
            if let Some(method) = &key.method {
                insert(by_method.entry(method.clone()).or_default(), key, index)?;
            }
        }
        for router in by_method.values_mut() {
            for (index, key) in &any {
                // A conflict means that the same path is defined with this method, which takes precedence.
                if let Err(matchit::InsertError::InvalidParam | matchit::InsertError::InvalidCatchAll) =
                    router.insert(pattern(&key.path), *index)
                {
                    return Err(anyhow!("route {key}: the path is not valid"));
                }
            }
        }
        let mut any_method = matchit::Router::new();
        for (index, key) in any {
            insert(&mut any_method, key, index)?;
        }
        let default = keys.iter().position(|key| key.path == "$default");
        Ok(Self { by_method, any_method, default, routes })
    }

    /// Finds the route of a request.
    pub fn find(&self, method: &Method, path: &str) -> Option<Found<'_, T>> {
        let router = self.by_method.get(method).unwrap_or(&self.any_method);
        match router.at(path) {
            Ok(found) => {
                let parameters = found.params.iter().map(|(name, value)| (name.to_owned(), decode(value)));
                Some((&self.routes[*found.value], parameters.collect()))
            }
            Err(matchit::MatchError::NotFound) => Some((&self.routes[self.default?], Vec::new())),
        }
    }

    /// Returns every route.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.routes.iter()
    }
}

fn insert(router: &mut matchit::Router<usize>, key: &RouteKey, index: usize) -> Result<()> {
    router.insert(pattern(&key.path), index).map_err(|error| anyhow!("route {key}: {error}"))
}

/// Translates API Gateway's `{proxy+}` to the router's `{*proxy}`.
fn pattern(path: &str) -> String {
    path.split('/')
        .map(|segment| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix("+}")) {
            Some(name) => format!("{{*{name}}}"),
            None => segment.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("/")
}

fn decode(value: &str) -> String {
    percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(keys: &[&str]) -> RouteTable<String> {
        let routes = keys.iter().map(|key| {
            let (method, path) = key.split_once(' ').unwrap_or(("ANY", key));
            let method = (method != "ANY").then(|| method.parse().unwrap());
            (RouteKey { method, path: path.to_owned() }, (*key).to_owned())
        });
        RouteTable::new(routes).unwrap()
    }

    fn find<'a>(table: &'a RouteTable<String>, method: &Method, path: &str) -> Option<&'a str> {
        table.find(method, path).map(|(key, _)| key.as_str())
    }

    #[test]
    fn the_most_specific_route_answers() {
        let table = table(&[
            "GET /pets/dog/1",
            "GET /pets/dog/{id}",
            "GET /pets/{proxy+}",
            "ANY /{proxy+}",
            "ANY /pets/dog/{id}",
            "$default",
        ]);
        assert_eq!(find(&table, &Method::GET, "/pets/dog/1"), Some("GET /pets/dog/1"));
        assert_eq!(find(&table, &Method::GET, "/pets/dog/2"), Some("GET /pets/dog/{id}"));
        assert_eq!(find(&table, &Method::GET, "/pets/cat/1"), Some("GET /pets/{proxy+}"));
        assert_eq!(find(&table, &Method::POST, "/pets/dog/2"), Some("ANY /pets/dog/{id}"));
        assert_eq!(find(&table, &Method::POST, "/test/5"), Some("ANY /{proxy+}"));
        assert_eq!(find(&table, &Method::POST, "/"), Some("$default"));
    }

    #[test]
    fn a_wrong_method_or_path_finds_nothing() {
        let table = table(&["POST /votes", "GET /polls/{id}"]);
        assert_eq!(find(&table, &Method::GET, "/votes"), None);
        assert_eq!(find(&table, &Method::POST, "/votes/"), None);
        assert_eq!(find(&table, &Method::GET, "/polls/1/ranking"), None);
        assert_eq!(find(&table, &Method::DELETE, "/nothing"), None);
    }

    #[test]
    fn path_parameters_are_decoded() {
        let table = table(&["GET /polls/{id}", "GET /files/{rest+}"]);
        let (_, parameters) = table.find(&Method::GET, "/polls/a%20b").unwrap();
        assert_eq!(parameters, [("id".to_owned(), "a b".to_owned())]);
        let (_, parameters) = table.find(&Method::GET, "/files/a/b").unwrap();
        assert_eq!(parameters, [("rest".to_owned(), "a/b".to_owned())]);
    }

    #[test]
    fn two_routes_for_the_same_requests_are_refused() {
        let key = |path: &str| RouteKey { method: Some(Method::GET), path: path.to_owned() };
        assert!(RouteTable::new([(key("/polls/{id}"), 1), (key("/polls/{poll}"), 2)]).is_err());
    }
}
