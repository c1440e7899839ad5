use std::net::Ipv4Addr;

use serde_json::json;
use tokio::time::advance;

use super::*;
use crate::template::Resource;

fn firewall(rules: &Value) -> Result<Firewall> {
    let properties = json!({
        "Rules": rules,
        "CustomResponseBodies": {"slow": {"ContentType": "APPLICATION_JSON", "Content": "{\"error\":{}}"}},
    });
    let (id, kind) = ("WebAcl".to_owned(), "AWS::WAFv2::WebACL".to_owned());
    let acl = Resource { id, kind, properties, metadata: Value::Null };
    Firewall::find("arn:aws:wafv2:us-east-1:0:WebAcl", &|id| (id == "WebAcl").then_some(&acl))
}

fn by_token(scope: &Value) -> Value {
    json!([{"Name": "votes", "Priority": 1, "Action": {"Block": {"CustomResponse": {
        "ResponseCode": 429, "CustomResponseBodyKey": "slow",
        "ResponseHeaders": [{"Name": "Retry-After", "Value": "60"}]}}},
        "Statement": {"RateBasedStatement": {"Limit": "3", "EvaluationWindowSec": 60,
            "AggregateKeyType": "CUSTOM_KEYS", "CustomKeys": [{"Header": {"Name": "Authorization",
                "TextTransformations": [{"Priority": 1, "Type": "LOWERCASE"},
                    {"Priority": 0, "Type": "COMPRESS_WHITE_SPACE"}]}}],
            "ScopeDownStatement": scope}}}])
}

fn votes() -> Value {
    json!({"AndStatement": {"Statements": [
        {"ByteMatchStatement": {"FieldToMatch": {"Method": {}}, "PositionalConstraint": "EXACTLY",
            "SearchString": "POST", "TextTransformations": [{"Priority": 0, "Type": "NONE"}]}},
        {"ByteMatchStatement": {"FieldToMatch": {"UriPath": {}}, "PositionalConstraint": "EXACTLY",
            "SearchString": "/votes", "TextTransformations": [{"Priority": 0, "Type": "URL_DECODE"},
                {"Priority": 1, "Type": "NORMALIZE_PATH"}]}},
    ]}})
}

fn ask(firewall: &Firewall, method: &str, uri: &str, token: &str) -> Option<Response<Body>> {
    let request = Request::builder().method(method).uri(uri).header("authorization", token);
    firewall.block(&request.body(()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_token_above_its_rate_is_refused_and_others_are_not() {
    let firewall = firewall(&by_token(&votes())).unwrap();
    for token in ["Bearer a", "bearer  A", "BEARER a"] {
        assert!(ask(&firewall, "POST", "/votes", token).is_none(), "{token}");
    }
    let refused = ask(&firewall, "POST", "//%76otes", "Bearer a").unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(
        (&refused.headers()["retry-after"], &refused.headers()["content-type"]),
        (&HeaderValue::from_static("60"), &HeaderValue::from_static("application/json"))
    );
    for (method, uri, token) in
        [("POST", "/votes", "Bearer b"), ("GET", "/votes", "Bearer a"), ("POST", "/polls", "Bearer a")]
    {
        assert!(ask(&firewall, method, uri, token).is_none(), "{method} {uri} {token}");
    }
    let anonymous = Request::post("/votes").body(()).unwrap();
    assert!((0..9).all(|_| firewall.block(&anonymous).is_none()), "without the key nothing is counted");
}

#[tokio::test(start_paused = true)]
async fn a_rate_falls_as_its_window_passes() {
    let firewall = firewall(&by_token(&votes())).unwrap();
    assert_eq!((0..9).filter(|_| ask(&firewall, "POST", "/votes", "a").is_none()).count(), 3);
    advance(Duration::from_secs(61)).await;
    assert!(ask(&firewall, "POST", "/votes", "a").is_some(), "most of the last minute still counts");
    advance(Duration::from_secs(50)).await;
    assert!(ask(&firewall, "POST", "/votes", "a").is_none());
    advance(Duration::from_secs(600)).await;
    assert!((0..3).all(|_| ask(&firewall, "POST", "/votes", "a").is_none()));
}

#[tokio::test(start_paused = true)]
async fn addresses_are_counted_apart() {
    let rules = json!([{"Name": "rate", "Priority": 0, "Action": {"Block": {}},
        "Statement": {"RateBasedStatement": {"Limit": 2, "AggregateKeyType": "IP"}}}]);
    let firewall = firewall(&rules).unwrap();
    let ask = |last: u8| {
        let mut request = Request::get("/").body(()).unwrap();
        request.extensions_mut().insert(Viewer(Ipv4Addr::new(192, 0, 2, last).into()));
        firewall.block(&request).map(|blocked| blocked.status().as_u16())
    };
    assert_eq!([ask(1), ask(1), ask(2), ask(1), ask(2)], [None, None, None, Some(403), None]);
}

#[test]
fn other_rules_are_left_out_and_unknown_parts_refused() {
    let size = json!([{"Name": "size", "Priority": 0, "Action": {"Block": {}},
        "Statement": {"SizeConstraintStatement": {"Size": 1}}}]);
    let firewall_of_size = firewall(&size).unwrap();
    assert!(ask(&firewall_of_size, "POST", "/votes", "a").is_none());
    let unknown = by_token(&json!({"GeoMatchStatement": {"CountryCodes": ["BR"]}}));
    let error = firewall(&unknown).unwrap_err();
    assert!(format!("{error:#}").contains("path and method only"), "{error:#}");
}

#[test]
fn paths_are_normalized() {
    for (path, expected) in
        [("/votes", "/votes"), ("//a/./b", "/a/b"), ("/a/../b/", "/b/"), ("/..", "/"), ("/", "/")]
    {
        assert_eq!(normalized(path), expected, "{path}");
    }
}
