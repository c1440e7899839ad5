//! The Lambda proxy integration, payload format 2.0.
use std::collections::BTreeMap;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use crate::{
    http_api::{ACCOUNT_ID, Call, STAGE, mapping::joined_header, message},
    lambda::InvokeError,
};

/// The Common Log Format, which API Gateway uses for `requestContext.time`.
const TIME_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// Builds the function's event.
pub(super) fn event(call: &Call<'_>, scopes: &[String]) -> Bytes {
    let context = call.context;
    let time = OffsetDateTime::from_unix_timestamp_nanos(context.time_ms * 1_000_000)
        .ok()
        .and_then(|time| time.format(TIME_FORMAT).ok());
    let mut request_context = json!({
        "accountId": ACCOUNT_ID,
        "apiId": context.domain_prefix,
        "domainName": context.domain_name,
        "domainPrefix": context.domain_prefix,
        "http": {
            "method": context.method,
            "path": context.path,
            "protocol": context.protocol,
            "sourceIp": context.source_ip.to_string(),
            "userAgent": context.user_agent,
        },
        "requestId": context.request_id,
        "routeKey": context.route_key,
        "stage": STAGE,
        "time": time,
        "timeEpoch": i64::try_from(context.time_ms).unwrap_or(i64::MAX),
    });
    if let Some(claims) = context.claims {
        request_context["authorizer"] = json!({"jwt": {
            "claims": claims.iter().collect::<BTreeMap<_, _>>(),
            "scopes": (!scopes.is_empty()).then_some(scopes),
        }});
    }
    let mut event = json!({
        "version": "2.0",
        "routeKey": context.route_key,
        "rawPath": context.path,
        "rawQueryString": call.parts.uri.query().unwrap_or_default(),
        "headers": headers(&call.parts.headers),
        "requestContext": request_context,
        "isBase64Encoded": false,
    });
    let cookies = cookies(&call.parts.headers);
    if !cookies.is_empty() {
        event["cookies"] = json!(cookies);
    }
    if !call.query.is_empty() {
        event["queryStringParameters"] = joined(call.query);
    }
    if !call.path_parameters.is_empty() {
        event["pathParameters"] = joined(call.path_parameters);
    }
    if !call.body.is_empty() {
        match str::from_utf8(call.body) {
            Ok(text) => event["body"] = json!(text),
            Err(_) => {
                event["body"] = json!(BASE64_STANDARD.encode(call.body));
                event["isBase64Encoded"] = json!(true);
            }
        }
    }
    Bytes::from(event.to_string())
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let others = headers.keys().filter(|name| **name != header::COOKIE);
    others
        .filter_map(|name| Some((name.as_str().to_owned(), json!(joined_header(headers, name.as_str())?))))
        .collect()
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim).filter(|cookie| !cookie.is_empty()).collect()
}

/// Joins the values of each name with commas.
fn joined(pairs: &[(String, String)]) -> Value {
    let mut all = BTreeMap::<&str, String>::new();
    for (name, value) in pairs {
        all.entry(name)
            .and_modify(|text| {
                text.push(',');
                text.push_str(value);
            })
            .or_insert_with(|| value.clone());
    }
    json!(all)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProxyResponse {
    status_code: u16,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// Converts the result of an invocation to the client's response.
pub(super) fn response(result: Result<Bytes, InvokeError>) -> Response<Bytes> {
    let internal = || message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
    match result {
        Ok(payload) => structured_or_inferred(payload).unwrap_or_else(internal),
        Err(InvokeError::Throttled) => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        Err(InvokeError::TimedOut | InvokeError::Crashed(_) | InvokeError::Unhandled(_)) => internal(),
    }
}

/// Interprets a function's response by format 2.0; `None` if it does not follow the format.
fn structured_or_inferred(payload: Bytes) -> Option<Response<Bytes>> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "statusCode")]
        status_code: Option<serde::de::IgnoredAny>,
    }
    let has_status = serde_json::from_slice(&payload).is_ok_and(|probe: Probe| probe.status_code.is_some());
    if has_status {
        return structured(serde_json::from_slice(&payload).ok()?);
    }
    let _: serde::de::IgnoredAny = serde_json::from_slice(&payload).ok()?;
    let mut response = Response::new(payload);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(response)
}

fn structured(answer: ProxyResponse) -> Option<Response<Bytes>> {
    let body = answer.body.unwrap_or_default();
    let body = match answer.is_base64_encoded {
        Some(true) => Bytes::from(BASE64_STANDARD.decode(body).ok()?),
        _ => Bytes::from(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(answer.status_code).ok()?;
    for (name, value) in answer.headers.unwrap_or_default() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        response.headers_mut().append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(text).ok()?);
    }
    for cookie in answer.cookies.unwrap_or_default() {
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::try_from(cookie).ok()?);
    }
    let default_type = HeaderValue::from_static("text/plain;charset=UTF-8");
    response.headers_mut().entry(header::CONTENT_TYPE).or_insert(default_type);
    Some(response)
}
