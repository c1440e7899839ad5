use std::{fs, os::unix::fs::PermissionsExt as _};

use local_stores::{Given, Stores, scratch::empty_database};
use sqlx::error::DatabaseError;

use crate::support::{Deployment, execute, fill, new_role, number, votes};

/// The URL of the same database for another user. Local roles have no password.
fn as_user(url: &str, user: &str) -> String {
    let (_, rest) = url.split_once('@').unwrap();
    format!("postgres://{user}@{rest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_functions_may_count_and_read_and_neither_change_votes_nor_tables() {
    let (url, role) = (empty_database().await.unwrap(), new_role());
    let mut deployment = Deployment::of(&url, &role).await;
    let answer = deployment.ask("Create").await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    let functions = as_user(&url, &role);
    // All other tests show the permitted statements, since their databases have the same rights.
    fill(&functions).await;
    assert_eq!(votes(&functions).await, 1);
    for forbidden in [
        "UPDATE votes SET contestant = 2",
        "DELETE FROM votes",
        "TRUNCATE votes",
        "UPDATE rejections SET reason = 'none'",
        "TRUNCATE rejection_counts",
        "UPDATE journal SET who = 'nobody'",
        "DELETE FROM journal",
        "UPDATE late_votes SET contestant = 2",
        "DELETE FROM late_votes",
        "UPDATE _sqlx_migrations SET version = 0",
        "ALTER TABLE votes ADD COLUMN name text",
        "DROP TABLE votes",
        "CREATE TABLE more (id integer)",
        "CREATE OR REPLACE FUNCTION fence() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "CREATE ROLE another",
    ] {
        let error = execute(&functions, forbidden).await.unwrap_err();
        let code = error.as_database_error().and_then(DatabaseError::code).unwrap();
        assert_eq!(code, "42501", "{forbidden}: {error}");
    }
    assert_eq!(votes(&url).await, 1);
}

/// A server like RDS: its administrator is no superuser, and members of a role sign in with IAM tokens.
#[tokio::test(flavor = "multi_thread")]
async fn on_rds_the_functions_come_in_with_iam() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let given = Given { database_url: None, redis_url: Some(std::env::var("REDIS_URL").unwrap()) };
    let server = Stores::start(folder.path(), &given, false).await.unwrap();
    let like_rds = "CREATE ROLE rds_iam; CREATE ROLE master LOGIN CREATEROLE; GRANT rds_iam TO master WITH ADMIN OPTION; \
                    ALTER DATABASE votes OWNER TO master";
    execute(&server.database_url, like_rds).await.unwrap();
    let master = as_user(&server.database_url, "master");
    let mut deployment = Deployment::of(&master, "votes").await;
    for kind in ["Create", "Update"] {
        let answer = deployment.ask(kind).await;
        assert_eq!(answer["Status"], "SUCCESS", "{answer}");
    }
    let member = "SELECT pg_has_role('votes', 'rds_iam', 'MEMBER')::int::bigint";
    assert_eq!(number(&server.database_url, member).await, 1);
    fill(&server.functions_url).await;
    server.stop().await;
}

/// Creates a database whose owner may not create roles.
async fn without_the_right_to_make_roles() -> String {
    let (url, owner) = (empty_database().await.unwrap(), new_role());
    let database = url.rsplit_once("/scratch_").unwrap().1.split('?').next().unwrap();
    let hand_over = format!("CREATE ROLE {owner} LOGIN; ALTER DATABASE scratch_{database} OWNER TO {owner}");
    execute(&url, &hand_over).await.unwrap();
    as_user(&url, &owner)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_ones_own_gets_no_role_and_its_owner_needs_no_right_to_make_one() {
    let owner = without_the_right_to_make_roles().await;
    let mut deployment = Deployment::of(&owner, "").await;
    for kind in ["Create", "Update"] {
        let answer = deployment.ask(kind).await;
        assert_eq!(
            (&answer["Status"], &answer["Data"]["Version"]),
            (&"SUCCESS".into(), &1.into()),
            "{answer}"
        );
    }
    fill(&owner).await;
    assert_eq!(votes(&owner).await, 1);
    let granted = "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee <> current_user \
                   AND table_schema = 'public'";
    assert_eq!(number(&owner, granted).await, 0, "other roles of the server may read votes");
}

/// Without this failure, the deployment would succeed with functions that cannot connect.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_absent_and_may_not_be_made_fails_the_deployment() {
    let (owner, role) = (without_the_right_to_make_roles().await, new_role());
    let mut deployment = Deployment::of(&owner, &role).await;
    let answer = deployment.ask("Create").await;
    assert_eq!(answer["Status"], "FAILED", "{answer}");
    let reason = answer["Reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!("there is no role {role}, and the schema's owner may make none")),
        "{reason}"
    );
}
