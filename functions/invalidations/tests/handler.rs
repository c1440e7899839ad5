//! The function against a fake CloudFront and a fake queue.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_lambda_events::sqs::SqsEvent;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
};
use invalidations::Handler;
use lambda_runtime::{Context, LambdaEvent};
use runtime::Clock;
use serde_json::{Value, json};

/// An age at which the window is over.
const AGO: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Created {
    reference: String,
    paths: Vec<String>,
    at: SystemTime,
}

#[derive(Default)]
struct Fake {
    created: Vec<Created>,
    /// The answer in place of an invalidation.
    refusal: Option<(u16, &'static str)>,
    /// Whether CloudFront refuses to list its invalidations.
    is_silent: bool,
    dead_letters: Vec<Value>,
    queue_is_down: bool,
}

type Shared = Arc<Mutex<Fake>>;

fn texts(xml: &str, tag: &str) -> Vec<String> {
    let opening = format!("<{tag}>");
    let parts = xml.split(&opening).skip(1);
    parts.map(|part| part.split("</").next().unwrap().to_owned()).collect()
}

fn time(at: SystemTime) -> String {
    let millis = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let time = domain::Timestamp::from_millis(i64::try_from(millis).unwrap()).unwrap();
    serde_json::to_value(time).unwrap().as_str().unwrap().to_owned()
}

fn document(index: usize, created: &Created) -> String {
    let paths: String = created.paths.iter().map(|path| format!("<Path>{path}</Path>")).collect();
    format!(
        "<Invalidation><Id>{index}</Id><CreateTime>{}</CreateTime><InvalidationBatch><Paths><Items>{paths}</Items>\
         </Paths></InvalidationBatch></Invalidation>",
        time(created.at)
    )
}

async fn answer(State(fake): State<Shared>, method: Method, uri: Uri, body: Bytes) -> (StatusCode, String) {
    let mut fake = fake.lock().unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    let path = uri.path().strip_prefix("/2020-05-31/distribution/D/invalidation");
    match (method, path) {
        (Method::POST, None) if fake.queue_is_down => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        (Method::POST, None) => {
            fake.dead_letters.push(serde_json::from_str(&body).unwrap());
            (StatusCode::OK, json!({"MessageId": "m"}).to_string())
        }
        (Method::POST, Some(_)) => {
            if let Some((status, code)) = fake.refusal {
                let text = format!("<ErrorResponse><Error><Code>{code}</Code></Error></ErrorResponse>");
                return (StatusCode::from_u16(status).unwrap(), text);
            }
            let reference = texts(&body, "CallerReference").remove(0);
            let known = fake.created.iter().position(|created| created.reference == reference);
            let index = known.unwrap_or_else(|| {
                let paths = texts(&body, "Path");
                fake.created.push(Created { reference, paths, at: SystemTime::from(Clock::system().now()) });
                fake.created.len() - 1
            });
            (StatusCode::CREATED, document(index, &fake.created[index]))
        }
        (Method::GET, Some(_)) if fake.is_silent => (StatusCode::FORBIDDEN, String::new()),
        (Method::GET, Some("")) => {
            let items = fake.created.iter().enumerate().rev().map(|(index, created)| {
                let at = time(created.at);
                format!(
                    "<InvalidationSummary><Id>{index}</Id><CreateTime>{at}</CreateTime></InvalidationSummary>"
                )
            });
            let items: String = items.collect();
            (StatusCode::OK, format!("<InvalidationList><Items>{items}</Items></InvalidationList>"))
        }
        (_, path) => {
            let index = path.unwrap().trim_start_matches('/').parse().unwrap();
            (StatusCode::OK, document(index, &fake.created[index]))
        }
    }
}

struct Fixture {
    handler: Handler,
    fake: Shared,
}

fn event(messages: &[(&str, Duration, &str)]) -> SqsEvent {
    let records = messages.iter().map(|(id, age, body)| {
        let sent = (SystemTime::from(Clock::system().now()) - *age)
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_millis();
        json!({"messageId": id, "body": body, "attributes": {"SentTimestamp": sent.to_string()}})
    });
    serde_json::from_value(json!({"Records": records.collect::<Vec<_>>()})).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let fake = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let lookup = move |name: &str| {
            Some(match name {
                "AWS_ENDPOINT_URL" => endpoint.clone(),
                "DISTRIBUTION_ID" => "D".to_owned(),
                "WINDOW_SECONDS" => "2".to_owned(),
                "PATHS_MAX" | "WILDCARDS_MAX" => "5".to_owned(),
                "CALL_TIMEOUT_MS" => "2000".to_owned(),
                _ => "given".to_owned(),
            })
        };
        Self { handler: Handler::new(&lookup, Clock::system()).unwrap(), fake }
    }

    /// Delivers messages of these ids, ages and bodies. Returns the ids that the function reports as failed.
    async fn deliver(&self, messages: &[(&str, Duration, &str)]) -> Vec<String> {
        self.invoke(event(messages)).await
    }

    async fn invoke(&self, event: SqsEvent) -> Vec<String> {
        let answer = self.handler.handle(LambdaEvent::new(event, Context::default())).await.unwrap();
        answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    fn paths(&self) -> Vec<Vec<String>> {
        self.fake.lock().unwrap().created.iter().map(|created| created.paths.clone()).collect()
    }
}

const SEVEN: &str = r#"{"paths":["/results/7.json"]}"#;
const EIGHT: &str = r#"{"paths":["/results/8.json","/index.html"]}"#;

#[tokio::test]
async fn a_window_is_one_call() {
    let fixture = Fixture::new().await;
    assert!(fixture.deliver(&[("a", AGO, SEVEN), ("b", AGO, EIGHT), ("c", AGO, SEVEN)]).await.is_empty());
    assert_eq!(fixture.paths(), [["/index.html", "/results/7.json", "/results/8.json"]]);
}

#[tokio::test]
async fn redelivered_commands_need_no_further_call_in_any_batch() {
    let fixture = Fixture::new().await;
    fixture.deliver(&[("a", AGO, SEVEN), ("b", AGO, EIGHT)]).await;
    assert!(fixture.deliver(&[("a", AGO, SEVEN), ("b", AGO, EIGHT)]).await.is_empty());
    assert!(fixture.deliver(&[("b", AGO, EIGHT)]).await.is_empty());
    assert_eq!(fixture.paths().len(), 1);
}

#[tokio::test]
async fn without_a_list_the_reference_makes_a_retry_idempotent() {
    let fixture = Fixture::new().await;
    fixture.fake.lock().unwrap().is_silent = true;
    let event = event(&[("a", AGO, SEVEN)]);
    for _ in 0..2 {
        assert!(fixture.invoke(event.clone()).await.is_empty());
    }
    assert_eq!(fixture.paths().len(), 1);
}

#[tokio::test]
async fn a_change_after_an_invalidation_is_invalidated_again() {
    let fixture = Fixture::new().await;
    for is_silent in [false, true] {
        fixture.fake.lock().unwrap().is_silent = is_silent;
        fixture.deliver(&[("a", Duration::ZERO, SEVEN)]).await;
        fixture.deliver(&[("b", Duration::ZERO, SEVEN)]).await;
    }
    assert_eq!(fixture.paths().len(), 4);
}

#[tokio::test]
async fn only_what_is_not_covered_is_asked_for() {
    let fixture = Fixture::new().await;
    fixture.deliver(&[("a", AGO, r#"{"paths":["/results/*"]}"#)]).await;
    fixture.deliver(&[("b", AGO, EIGHT), ("c", AGO, SEVEN)]).await;
    assert_eq!(fixture.paths(), [["/results/*"], ["/index.html"]]);
}

#[tokio::test]
async fn no_call_is_made_before_the_window_is_over() {
    let fixture = Fixture::new().await;
    let sent = SystemTime::from(Clock::system().now());
    fixture.deliver(&[("a", Duration::ZERO, SEVEN)]).await;
    let created = fixture.fake.lock().unwrap().created[0].at;
    assert!(created.duration_since(sent).unwrap() >= Duration::from_secs(2));
}

#[tokio::test]
async fn throttled_messages_come_again_and_no_others() {
    for (status, code) in
        [(400, "TooManyInvalidationsInProgress"), (400, "Throttling"), (503, "ServiceUnavailable")]
    {
        let fixture = Fixture::new().await;
        fixture.deliver(&[("a", AGO, SEVEN)]).await;
        fixture.fake.lock().unwrap().refusal = Some((status, code));
        let batch = [("a", AGO, SEVEN), ("b", AGO, EIGHT), ("c", AGO, "no")];
        assert_eq!(fixture.deliver(&batch).await, ["b"], "{code}");
        fixture.fake.lock().unwrap().refusal = None;
        assert!(fixture.deliver(&[("b", AGO, EIGHT)]).await.is_empty());
        assert_eq!(fixture.paths(), [vec!["/results/7.json"], vec!["/index.html", "/results/8.json"]]);
    }
}

#[tokio::test]
async fn malformed_commands_go_to_the_dead_letter_queue_with_their_reason() {
    let fixture = Fixture::new().await;
    let batch = [
        ("a", AGO, "{}"),
        ("b", AGO, r#"{"paths":[]}"#),
        ("c", AGO, r#"{"paths":["/ok","results"]}"#),
        ("d", AGO, SEVEN),
        ("e", AGO, r#"{"paths":["/ok"],"path":1}"#),
    ];
    fixture.fake.lock().unwrap().queue_is_down = true;
    let mut left = fixture.deliver(&batch).await;
    left.sort();
    assert_eq!(left, ["a", "b", "c", "e"], "they stay in the queue while the dead-letter queue is down");
    fixture.fake.lock().unwrap().queue_is_down = false;
    assert!(fixture.deliver(&batch).await.is_empty());
    assert_eq!(fixture.paths(), [["/results/7.json"]]);
    let fake = fixture.fake.lock().unwrap();
    let reasons =
        ["missing field `paths`", "paths is empty", "paths[1]: a path begins", "unknown field `path`"];
    for (dead_letter, reason) in fake.dead_letters.iter().zip(reasons) {
        let text = dead_letter["MessageAttributes"]["reason"]["StringValue"].as_str().unwrap();
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(fake.dead_letters.len(), reasons.len());
    assert_eq!(fake.dead_letters[1]["MessageBody"], r#"{"paths":[]}"#);
}
