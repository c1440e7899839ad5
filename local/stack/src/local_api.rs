//! The stack's own routes, `/_local/…`: tokens, the issuer's metadata, metrics.
//!
//! To add a route: 1. write its handler here. 2. Add it to [`LocalApi::router`]. 3. Add a field to [`LocalApi`] for
//! each part that it reads, and set it in `start` of the crate's root.
mod metrics;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Form, Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use domain::is_supported_subject;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::status::Figures;
use emulator::{
    edge::Edge,
    issuer::{
        Issuer, SUBJECT_RULE, TOKEN_LIFETIME, TOKENS_PER_REQUEST_MAX,
        sign_in::{Authorization, Codes, Redemption},
    },
};

/// The parts that the routes read.
#[derive(Debug)]
pub struct LocalApi {
    /// The issuer of tokens.
    pub issuer: Arc<Issuer>,
    /// Authorization codes of sign-ins in progress.
    pub codes: Codes,
    /// The edge, for its counters.
    pub edge: Arc<Edge>,
    /// The counters of queues and functions.
    pub figures: Arc<Figures>,
    /// Name and process id of each store that this stack started.
    pub stores: Vec<(&'static str, u32)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRequest {
    sub: String,
    scope: Option<String>,
    /// Accepts any subject, as an unsupported issuer would, to test such subjects.
    #[serde(default)]
    any_subject: bool,
}

#[derive(Deserialize)]
struct TokensRequest {
    count: usize,
}

impl LocalApi {
    /// Returns the routes, relative to `/_local`.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/.well-known/jwks.json", get(key_set))
            .route("/authorize", get(ask_name).post(authorize))
            .route("/token", get(token).post(redeem))
            .route("/tokens", get(tokens))
            .route("/metrics", get(metrics))
            .with_state(Arc::new(self))
    }
}

async fn configuration(State(api): State<Arc<LocalApi>>) -> Json<Value> {
    Json(api.issuer.configuration())
}

async fn key_set(State(api): State<Arc<LocalApi>>) -> Json<Value> {
    Json(api.issuer.key_set())
}

async fn token(State(api): State<Arc<LocalApi>>, Query(request): Query<TokenRequest>) -> Response {
    if !request.any_subject && !is_supported_subject(&request.sub) {
        return refusal(&format!("sub: {SUBJECT_RULE}"));
    }
    match api.issuer.token(&request.sub, request.scope.as_deref()) {
        Ok(token) => Json(json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME.as_secs(),
        }))
        .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ask_name(State(api): State<Arc<LocalApi>>, Query(request): Query<Authorization>) -> Response {
    api.codes.form(&request, api.issuer.audience()).map_or_else(refusal, |page| Html(page).into_response())
}

async fn authorize(State(api): State<Arc<LocalApi>>, Form(request): Form<Authorization>) -> Response {
    let granted = api.codes.grant(request, api.issuer.audience());
    granted.map_or_else(refusal, |location| Redirect::to(&location).into_response())
}

async fn redeem(State(api): State<Arc<LocalApi>>, Form(request): Form<Redemption>) -> Response {
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    match api.codes.redeem(&request, &api.issuer) {
        Ok(tokens) => (no_store, Json(tokens)).into_response(),
        Err(code) => (StatusCode::BAD_REQUEST, no_store, Json(json!({ "error": code }))).into_response(),
    }
}

async fn tokens(State(api): State<Arc<LocalApi>>, Query(request): Query<TokensRequest>) -> Response {
    if request.count == 0 || request.count > TOKENS_PER_REQUEST_MAX {
        return refusal(&format!("count must be from 1 to {TOKENS_PER_REQUEST_MAX}"));
    }
    // Signing occupies the cores for seconds: the threads that answer requests must stay free.
    let signed = tokio::task::spawn_blocking(move || api.issuer.tokens(request.count)).await;
    match signed.map_err(anyhow::Error::from).flatten() {
        Ok(tokens) => Json(json!({ "tokens": tokens })).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn metrics(State(api): State<Arc<LocalApi>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics::render(&api)).into_response()
}

fn refusal(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "message": message }))).into_response()
}
