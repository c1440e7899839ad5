use local_stores::scratch::empty_database;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::support::{Deployment, execute, fill, new_role, votes};

fn assert_failed(answer: &Value, reason: &str) {
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    let text = answer["Reason"].as_str().unwrap();
    assert!(text.contains(reason), "{reason:?} in {text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_fails_the_deployment_and_not_its_rollback() {
    let url = "postgres://owner:very-secret@127.0.0.1:9/votes";
    let mut deployment = Deployment::of(url, &new_role()).await;
    let answer = deployment.ask("Create").await;
    assert_failed(&answer, "the ledger is unavailable: ");
    // CloudFormation deletes a resource whose creation failed.
    assert_eq!(deployment.ask("Delete").await["Status"], "SUCCESS");
    let log = deployment.log().await;
    assert!(log.contains("schema.failed"), "{log}");
    for text in [answer.to_string(), log] {
        assert!(!text.contains("very-secret") && !text.contains("X-Amz-Signature"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_succeeds_while_the_database_is_away() {
    let mut deployment = Deployment::of("postgres://owner@127.0.0.1:9/votes", &new_role()).await;
    assert_failed(&deployment.update_from(1).await, "the ledger is unavailable: ");
    let answer = deployment.update_from(3).await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    // Neither release nor database changes, so no migration is needed.
    assert_eq!(deployment.update_from(2).await["Status"], "SUCCESS");
    let log = deployment.log().await;
    assert_eq!(log.matches("schema.kept: this release was deployed before").count(), 2, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_environment_fails_no_rollback() {
    let mut deployment = Deployment::with(json!({"DATABASE_AUTH": "token"})).await;
    assert_failed(&deployment.update_from(1).await, "DATABASE_URL is not set");
    assert_eq!(deployment.update_from(3).await["Status"], "SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_somebody_elses_is_left_alone() {
    let url = empty_database().await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    deployment.ask("Create").await;
    fill(&url).await;
    execute(&url, "UPDATE _sqlx_migrations SET checksum = '\\x00'").await.unwrap();
    let answer = deployment.ask("Update").await;
    assert_failed(&answer, "migration 1 was previously applied but has been modified");
    assert_eq!(votes(&url).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_fails_leaves_nothing_half_done() {
    let url = empty_database().await.unwrap();
    execute(&url, "CREATE TABLE tallies (of text)").await.unwrap();
    let mut deployment = Deployment::of(&url, &new_role()).await;
    assert_failed(&deployment.ask("Create").await, "relation \"tallies\" already exists");
    execute(&url, "SELECT FROM polls").await.unwrap_err();
    execute(&url, "DROP TABLE tallies").await.unwrap();
    assert_eq!(deployment.ask("Create").await["Status"], "SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_takes_too_long_is_answered_while_there_is_time() {
    let url = empty_database().await.unwrap();
    let variables = json!({
        "DATABASE_URL": url, "DATABASE_AUTH": "password", "TLS_CA_FILE": "", "APPLICATION_ROLE": new_role(),
    });
    let mut deployment = Deployment::lasting(21, variables).await;
    deployment.ask("Create").await;
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let lock = "BEGIN; LOCK TABLE _sqlx_migrations";
    sqlx::raw_sql(lock).execute(&mut holder).await.unwrap();
    assert_failed(&deployment.ask("Update").await, "it took longer than ");
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    assert_eq!(deployment.ask("Update").await["Status"], "SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_the_environment_is_told_to_whoever_deploys() {
    let variables =
        json!({"DATABASE_AUTH": "token", "TLS_CA_FILE": "", "APPLICATION_ROLE": "votes; DROP TABLE votes"});
    let mut deployment = Deployment::with(variables).await;
    let answer = deployment.ask("Create").await;
    for name in [
        "DATABASE_URL is not set",
        "DATABASE_AUTH: use iam",
        "APPLICATION_ROLE: use 1 to 63 lowercase letters",
    ] {
        assert_failed(&answer, name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_knows_is_refused() {
    let mut deployment = Deployment::of("postgres://owner@127.0.0.1:9/votes", "votes").await;
    assert_failed(&deployment.ask("Observe").await, "the request Observe is unknown");
}
