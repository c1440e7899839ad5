//! The floor: the cost of the same votes for an insert-only client.
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use sqlx::PgConnection;
use tokio::{task::JoinSet, time::Instant};

use super::{
    ballots::Columns,
    cell::{Cell, Sample},
    test_bed::{Database, TestBed, VOTER_HASH_KEY},
    usage::Cpu,
};

/// Warm-up statements of each connection.
const WARM_UP_BATCHES: u64 = 8;

/// Inserts the votes through the cell's number of connections, with one statement and one commit per batch. The
/// client is this process; its CPU time stands for the function's.
///
/// # Errors
/// The server fails, or a vote is missing afterwards.
pub async fn run(cell: &Cell, test_bed: &TestBed, database: &Database) -> Result<Sample> {
    let mut connections = Vec::new();
    for _ in 0..cell.concurrency {
        connections.push(database.connect().await?);
    }
    let hasher = VOTER_HASH_KEY.parse()?;
    let warm_up = WARM_UP_BATCHES * cell.concurrency * cell.batch;
    let mut batches = database.ballots.columns(warm_up + cell.votes, cell.batch, &hasher);
    let measured = batches.split_off((warm_up / cell.batch) as usize);
    let connections = insert_all(connections, batches).await?;
    let size = database.size().await?;
    test_bed.checkpoint().await?;
    let wal = test_bed.wal_bytes().await?;
    let batch_count = measured.len() as u64;
    let cpu = test_bed.servers.cpu(&[]);
    let started = Instant::now();
    let connections = insert_all(connections, measured).await?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = test_bed.servers.cpu(&[]) - cpu;
    drop(connections);
    let counted = database.votes(true).await? - warm_up as i64;
    ensure!(counted == cell.votes as i64, "{} votes were inserted, {counted} are there", cell.votes);
    let grown = database.size().await?;
    Ok(Sample {
        votes: cell.votes,
        seconds,
        cpu: Cpu { function: cpu.stand_in, stand_in: 0.0, ..cpu },
        invocations: 0,
        commits_per_vote: batch_count as f64 / cell.votes as f64,
        syncs_per_vote: 0.0,
        wal_bytes: test_bed.wal_bytes().await? - wal,
        redis_commands: 0,
        table_bytes: grown.table - size.table,
        index_bytes: grown.indexes - size.indexes,
        memory_peak_bytes: 0,
    })
}

async fn insert_all(connections: Vec<PgConnection>, batches: Vec<Columns>) -> Result<Vec<PgConnection>> {
    let (batches, next) = (Arc::new(batches), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for mut connection in connections {
        let (batches, next) = (Arc::clone(&batches), Arc::clone(&next));
        clients.spawn(async move {
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                insert(&mut connection, batch).await?;
            }
            Ok::<_, sqlx::Error>(connection)
        });
    }
    let mut connections = Vec::new();
    while let Some(client) = clients.join_next().await {
        connections.push(client??);
    }
    Ok(connections)
}

async fn insert(connection: &mut PgConnection, batch: &Columns) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant) \
               SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::integer[], $5::smallint[])";
    let query = sqlx::query(sql)
        .bind(&batch.keys)
        .bind(&batch.voters)
        .bind(&batch.cast_at)
        .bind(&batch.polls)
        .bind(&batch.contestants);
    query.execute(connection).await?;
    Ok(())
}
