//! The real functions on a ledger with an older or newer schema than their release's.

use emulator::lambda::InvokeError;
use local_stores::scratch::Scratch;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::one_call::{Call, invoke, with_a_poll};

/// Functions that use the ledger, with a call of each.
const FUNCTIONS: [(&str, Call<'_>); 3] = [
    ("votes", Call::Vote),
    ("polls", Call::Http("GET /polls", "")),
    ("admin", Call::Http("GET /admin/polls", "")),
];

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

async fn votes(scratch: &Scratch) -> i64 {
    let mut connection = scratch.connect().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM votes").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_refuse_a_schema_that_is_too_old_and_say_what_to_do() {
    let scratch = Scratch::new().await.unwrap();
    with_a_poll(&scratch).await;
    let mut owner = scratch.connect().await.unwrap();
    // Removes the last migration's entry, as if it had not run yet.
    let remove_last = "CREATE TABLE taken AS SELECT * FROM _sqlx_migrations ORDER BY version DESC LIMIT 1; \
                     DELETE FROM _sqlx_migrations WHERE version = (SELECT version FROM taken)";
    execute(&mut owner, remove_last).await;
    for (function, call) in FUNCTIONS {
        let (answer, log) = invoke(&scratch, function, call).await;
        match answer {
            // The batch stays in the queue.
            Err(InvokeError::Unhandled(error)) => assert!(error.contains("batch not counted"), "{error}"),
            Ok(answer) => assert_eq!(answer["statusCode"], 503, "{function}: {answer}"),
            other => panic!("{function}: {other:?}"),
        }
        for words in ["the ledger's schema is at version ", "this release needs ", "run the function migrate"]
        {
            assert!(log.contains(words), "{function}: {words:?} in {log}");
        }
    }
    assert_eq!(votes(&scratch).await, 0);
    // The functions work as soon as the migration has run.
    execute(&mut owner, "INSERT INTO _sqlx_migrations SELECT * FROM taken").await;
    let (answer, log) = invoke(&scratch, "votes", Call::Vote).await;
    assert_eq!(answer.unwrap()["batchItemFailures"], json!([]), "{log}");
    assert_eq!(votes(&scratch).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_work_with_the_schema_of_a_later_release() {
    let scratch = Scratch::new().await.unwrap();
    with_a_poll(&scratch).await;
    let mut owner = scratch.connect().await.unwrap();
    // Every change that a later migration may make: see shared/ledger/migrations/README.md.
    let expand = "ALTER TABLE votes ADD COLUMN later text, ADD COLUMN constant integer NOT NULL DEFAULT 7; \
                  ALTER TABLE polls ADD COLUMN later text; ALTER TABLE tallies ADD COLUMN later text; \
                  ALTER TABLE rejections ADD COLUMN later text; \
                  CREATE TABLE somebodys (poll integer PRIMARY KEY); \
                  CREATE INDEX ON votes (later); \
                  INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                  VALUES (9999, 'later', true, '\\x00', 1)";
    execute(&mut owner, expand).await;
    for (function, call) in FUNCTIONS {
        let (answer, log) = invoke(&scratch, function, call).await;
        let answer = answer.unwrap_or_else(|error| panic!("{function}: {error}: {log}"));
        match call {
            Call::Vote => assert_eq!(answer["batchItemFailures"], json!([]), "{log}"),
            Call::Http(..) => assert_eq!(answer["statusCode"], 200, "{function}: {answer} {log}"),
        }
    }
    assert_eq!(votes(&scratch).await, 1);
}
