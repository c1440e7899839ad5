//! The design that this backend replaces, as a Lambda function for comparison: one invocation, one insert and one
//! increment for each vote. It has every advantage: persistent connections, no validation, no logs, and a statement
//! prepared once.
use lambda_runtime::{Error, LambdaEvent, service_fn};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

struct Stores {
    ledger: PgConnection,
    ranking: MultiplexedConnection,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let redis = redis::Client::open(std::env::var("REDIS_URL")?)?;
    let stores = Stores {
        ledger: PgConnection::connect(&std::env::var("DATABASE_URL")?).await?,
        ranking: redis.get_multiplexed_async_connection().await?,
    };
    let stores = &Mutex::new(stores);
    lambda_runtime::run(service_fn(async move |event: LambdaEvent<Value>| {
        let stores = &mut *stores.lock().await;
        for record in event.payload["Records"].as_array().into_iter().flatten() {
            count(record, stores).await?;
        }
        Ok::<_, Error>(json!({ "batchItemFailures": [] }))
    }))
    .await
}

async fn count(record: &Value, stores: &mut Stores) -> Result<(), Error> {
    let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("the record lacks a field");
    let vote: Value = serde_json::from_str(&text(&record["body"])?)?;
    let (poll, contestant) =
        (vote["poll"].as_i64().ok_or("poll")?, vote["contestant"].as_i64().ok_or("contestant")?);
    let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant) \
               VALUES ($1, hashtextextended($2, 0), to_timestamp($3 / 1000.0), $4, $5)";
    sqlx::query(sql)
        .bind(text(&record["messageId"])?.parse::<Uuid>()?)
        .bind(text(&record["attributes"]["MessageGroupId"])?)
        .bind(text(&record["attributes"]["SentTimestamp"])?.parse::<f64>()?)
        .bind(i32::try_from(poll)?)
        .bind(i16::try_from(contestant)?)
        .execute(&mut stores.ledger)
        .await?;
    let _score: f64 = stores.ranking.zincr(format!("first:{poll}"), contestant, 1).await?;
    Ok(())
}
