use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, Response},
};
use emulator::{
    edge::{Edge, Origin, behavior::Distribution},
    template::{Context, Template},
};
use futures_util::future::{BoxFuture, join_all};
use lambda_http::request;
use ledger::Ledger;
use local_stores::scratch::Scratch;
use polls::Handler;
use runtime::Clock;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{MissedTickBehavior, interval},
};

const ROUTE: &str = "GET /polls/{id}/ranking";
const PATH: &str = "/polls/1/ranking";

const CACHING_DISABLED: &str = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad";

/// Disabled protections, as overrides of the template.
#[derive(Clone, Copy)]
pub struct Disabled {
    pub edge_cache: bool,
    pub lease: bool,
}

/// The edge, the fleet behind it, and a slow ledger that counts its loads.
pub struct TestBed {
    edge: Arc<Edge>,
    connection: Mutex<PgConnection>,
}

/// The cost of one round of simultaneous requests.
pub struct Round {
    /// Loads from the ledger.
    pub loads: u64,
    /// Requests from the edge to the origin.
    pub origin_requests: u64,
    /// Latency of each viewer's request, in milliseconds.
    pub waits_ms: Vec<f64>,
    /// Answers other than 200.
    pub failed: u64,
}

/// A fleet of instances, each with one request at a time; further requests wait for a free instance.
struct Fleet {
    free: Mutex<Vec<Handler>>,
    instances: Semaphore,
}

impl TestBed {
    pub async fn new(disabled: Disabled, instances: usize) -> Self {
        let scratch = Scratch::new().await.unwrap();
        let template = template(&overrides(disabled));
        let ledger = Ledger::new(&scratch.database_url, Duration::from_secs(20)).unwrap();
        let draft = json!({"title": "Who stays?", "opensAt": "2020-01-01T00:00:00Z", "contestants": [{"name": "Ana"}]});
        ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap();
        let variables = &template.resource("PollsFunction").unwrap().properties["Environment"]["Variables"];
        let variable = |name: &str| match name {
            "DATABASE_URL" | "REDIS_URL" | "VOTER_HASH_KEY" => scratch.environment(name),
            _ => variables[name].as_str().map(str::to_owned),
        };
        let handlers = (0..instances).map(|_| Handler::new(&variable, Clock::system()).unwrap()).collect();
        let fleet = Arc::new(Fleet { free: Mutex::new(handlers), instances: Semaphore::new(instances) });
        let origin: Arc<dyn Origin> = Arc::new(Connection(fleet));
        let distribution = template.of_kind("AWS::CloudFront::Distribution").next().unwrap();
        let distribution = Distribution::read(distribution, &|id| template.resource(id)).unwrap();
        let edge = Edge::new(distribution, |_| Some(Arc::clone(&origin))).unwrap();
        let test_bed = Self { edge, connection: Mutex::new(scratch.connect().await.unwrap()) };
        test_bed.execute("CREATE SEQUENCE loads MINVALUE 0").await;
        test_bed.execute("SELECT nextval('loads')").await;
        test_bed.execute("ALTER TABLE polls RENAME TO kept_polls").await;
        test_bed.delay_loads(0.5).await;
        test_bed.execute("GRANT SELECT ON polls TO votes; GRANT USAGE ON SEQUENCE loads TO votes").await;
        test_bed
    }

    /// Makes each load take longer than the functions' timeout.
    pub async fn hang_the_ledger(&self) {
        self.delay_loads(60.0).await;
    }

    async fn delay_loads(&self, seconds: f64) {
        self.execute(&format!(
            "CREATE OR REPLACE VIEW polls AS SELECT kept_polls.* FROM kept_polls, \
             (SELECT nextval('loads') AS number, pg_sleep({seconds}) AS slept OFFSET 0) AS load WHERE number > 0"
        ))
        .await;
    }

    async fn execute(&self, sql: &str) {
        // The statements are constants and numbers of this file.
        let sql = AssertSqlSafe(sql.to_owned());
        sqlx::raw_sql(sql).execute(&mut *self.connection.lock().await).await.unwrap();
    }

    async fn loads(&self) -> u64 {
        let sql = "SELECT last_value FROM loads";
        let loads: i64 = sqlx::query_scalar(sql).fetch_one(&mut *self.connection.lock().await).await.unwrap();
        loads.unsigned_abs()
    }

    fn origin_requests(&self) -> u64 {
        self.edge.counts().origin.values().sum()
    }

    pub async fn rounds(&self, users: usize, rounds: usize, every: Duration) -> Vec<Round> {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut done = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            ticks.tick().await;
            done.push(self.round(users).await);
        }
        done
    }

    /// Sends all viewers' requests at once, and waits for the edge's revalidations.
    pub async fn round(&self, users: usize) -> Round {
        let (loads, origin_requests) = (self.loads().await, self.origin_requests());
        let viewers = (0..users).map(|_| tokio::spawn(ask(Arc::clone(&self.edge))));
        let answers: Vec<_> = join_all(viewers).await.into_iter().map(Result::unwrap).collect();
        // The edge revalidates in the background.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Round {
            loads: self.loads().await - loads,
            origin_requests: self.origin_requests() - origin_requests,
            failed: answers.iter().filter(|(status, _)| *status != 200).count() as u64,
            waits_ms: answers.into_iter().map(|(_, wait)| wait.as_secs_f64() * 1_000.0).collect(),
        }
    }
}

async fn ask(edge: Arc<Edge>) -> (u16, Duration) {
    let started = Instant::now();
    let request = Request::get(PATH).header("host", "localhost").body(Body::empty()).unwrap();
    let response = edge.handle(request).await;
    let status = response.status().as_u16();
    to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, started.elapsed())
}

fn overrides(disabled: Disabled) -> Vec<String> {
    let template = template(&[]);
    let distribution = template.of_kind("AWS::CloudFront::Distribution").next().unwrap();
    let behaviors = distribution.properties["DistributionConfig"]["CacheBehaviors"].as_array().unwrap();
    let reads = behaviors.iter().position(|behavior| behavior["PathPattern"] == "/polls/*").unwrap();
    let edge =
        format!("Distribution.DistributionConfig.CacheBehaviors.{reads}.CachePolicyId={CACHING_DISABLED}");
    let lease = "PollsFunction.Environment.Variables.RELOAD_LEASE_MS='0'".to_owned();
    [disabled.edge_cache.then_some(edge), disabled.lease.then_some(lease)].into_iter().flatten().collect()
}

fn template(overrides: &[String]) -> Template {
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let parameters = [
        text("DatabaseUrl", "postgres://unused"),
        text("RedisUrl", "redis://unused"),
        text("VoterHashKey", &"0".repeat(64)),
        text("JwtIssuer", "https://issuer.example"),
        text("JwtAudience", "votes"),
    ];
    let context = Context {
        parameters: parameters.into(),
        overrides: overrides.to_vec(),
        aws_endpoint: "http://localhost".to_owned(),
    };
    Template::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../template.yaml"), &context).unwrap()
}

impl Fleet {
    async fn invoke(&self) -> Response<Bytes> {
        let _instance = self.instances.acquire().await.unwrap();
        let handler = self.free.lock().await.pop().unwrap();
        let response = handler.handle(request::from_str(&event().to_string()).unwrap()).await.unwrap();
        self.free.lock().await.push(handler);
        response.map(|body| Bytes::copy_from_slice(body.as_ref()))
    }
}

/// An origin outlives the edge's borrow of it.
struct Connection(Arc<Fleet>);

impl Origin for Connection {
    fn fetch(&self, _: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        let fleet = Arc::clone(&self.0);
        Box::pin(async move { (fleet.invoke().await, ROUTE.to_owned()) })
    }
}

fn event() -> Value {
    json!({
        "version": "2.0", "routeKey": ROUTE, "rawPath": PATH, "rawQueryString": "", "headers": {},
        "pathParameters": {"id": "1"}, "isBase64Encoded": false,
        "requestContext": {
            "accountId": "0", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
            "http": {"method": "GET", "path": PATH, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "k"},
            "requestId": "r", "routeKey": ROUTE, "stage": "$default", "time": "", "timeEpoch": 0,
        },
    })
}
