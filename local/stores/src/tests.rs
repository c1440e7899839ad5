//! Tests against real servers.
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;

use super::*;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

async fn start(folder: &Path) -> Stores {
    Stores::start(folder, &Given::default(), false).await.unwrap()
}

async fn connect(url: &str) -> PgConnection {
    url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap()
}

fn is_alive(pid: u32) -> bool {
    kill(Pid::from_raw(pid.cast_signed()), None).is_ok()
}

#[tokio::test]
async fn both_start_keep_the_ledger_and_leave_nothing_behind() {
    let folder = folder();
    let stores = start(folder.path()).await;
    let mut connection = connect(&stores.database_url).await;
    let fsync: String = sqlx::query_scalar("SHOW fsync").fetch_one(&mut connection).await.unwrap();
    assert_eq!(fsync, "on");
    sqlx::query("CREATE TABLE kept (n int)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    given::check_redis(&stores.redis_url).await.unwrap();
    let pids = stores.pids();
    assert_eq!(pids.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["postgres", "redis"]);
    stores.stop().await;
    assert!(pids.iter().all(|(_, pid)| !is_alive(*pid)), "{pids:?}");

    let stores = start(folder.path()).await;
    let mut connection = connect(&stores.database_url).await;
    sqlx::query("SELECT n FROM kept").execute(&mut connection).await.unwrap();
    stores.stop().await;
}

#[tokio::test]
async fn what_a_killed_server_leaves_is_no_obstacle() {
    let folder = folder();
    let stores = start(folder.path()).await;
    let (_, pid) = stores.pids()[0];
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
    // A killed server removes neither its pid file nor its socket.
    stores.stop().await;
    start(folder.path()).await.stop().await;
}

#[tokio::test]
async fn a_store_comes_back_where_it_was() {
    let folder = folder();
    let mut stores = start(folder.path()).await;
    let mut connection = connect(&stores.database_url).await;
    sqlx::query("CREATE TABLE kept (n int)").execute(&mut connection).await.unwrap();
    for end in [End::Killed, End::Stopped] {
        for store in [Store::Postgres, Store::Redis] {
            stores.take_down(store, end).await.unwrap();
            stores.bring_back(store).await.unwrap();
        }
        given::check_redis(&stores.redis_url).await.unwrap();
        let mut connection = connect(&stores.database_url).await;
        sqlx::query("SELECT n FROM kept").execute(&mut connection).await.unwrap();
    }
    stores.stop().await;
}

#[tokio::test]
async fn a_server_left_running_is_stopped_first() {
    let folder = folder();
    let first = start(folder.path()).await;
    let (_, left) = first.pids()[0];
    let second = start(folder.path()).await;
    assert_ne!(second.pids()[0].1, left);
    connect(&second.database_url).await.close().await.unwrap();
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn given_stores_that_cannot_be_used_are_named() {
    let folder = folder();
    let refusal = async |database_url: Option<&str>, redis_url: Option<&str>| {
        let given =
            Given { database_url: database_url.map(str::to_owned), redis_url: redis_url.map(str::to_owned) };
        format!("{:#}", Stores::start(folder.path(), &given, false).await.unwrap_err())
    };
    let unreachable = refusal(Some("postgres://me:hidden@127.0.0.1:1/votes"), None).await;
    assert!(unreachable.starts_with("DATABASE_URL: PostgreSQL at 127.0.0.1:1 "), "{unreachable}");
    assert!(!unreachable.contains("hidden") && !unreachable.contains('\n'), "{unreachable}");
    let wrong = refusal(Some("mysql://x"), None).await;
    assert!(wrong.starts_with("DATABASE_URL is not a PostgreSQL URL"), "{wrong}");
    let unreachable = refusal(None, Some("redis://:hidden@127.0.0.1:1/0")).await;
    assert!(unreachable.starts_with("REDIS_URL: Redis at 127.0.0.1:1 "), "{unreachable}");
    assert!(!unreachable.contains("hidden"), "{unreachable}");
    let wrong = refusal(None, Some("nonsense")).await;
    assert!(wrong.starts_with("REDIS_URL is not a Redis URL"), "{wrong}");
    assert!(!folder.path().join("postgres").exists(), "nothing was started");
}

#[tokio::test]
async fn given_stores_are_used() {
    let folder = folder();
    let own = start(folder.path()).await;
    let given =
        Given { database_url: Some(own.database_url.clone()), redis_url: Some(own.redis_url.clone()) };
    let used = Stores::start(folder.path(), &given, false).await.unwrap();
    assert!(used.pids().is_empty());
    assert_eq!(used.database_url, own.database_url);
    used.stop().await;
    own.stop().await;
}

#[tokio::test]
async fn a_command_gets_both_urls_and_its_exit_code_is_passed_on() {
    let run = async |script: &str| {
        let command = ["sh", "-c", script].map(str::to_owned);
        command::run(&command).await.unwrap()
    };
    assert_eq!(run("test -n \"$DATABASE_URL\" && test -n \"$REDIS_URL\" && exit 7").await, 7);
    assert_eq!(run("kill -TERM $$").await, 128 + 15);
    assert!(command::run(&["/no/such/program".to_owned()]).await.is_err());
}

#[tokio::test]
async fn data_of_another_major_version_is_left_alone_and_named() {
    let folder = folder();
    start(folder.path()).await.stop().await;
    let version = folder.path().join("postgres/PG_VERSION");
    fs::write(&version, "9\n").unwrap();
    let error = Stores::start(folder.path(), &Given::default(), false).await.unwrap_err().to_string();
    assert!(
        error.starts_with("PostgreSQL 9 wrote the data in ") && error.contains("POSTGRES_BIN"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(version).unwrap(), "9\n");
}
