//! The state of the ledger before the load: the votes of an earlier poll, and statistics from when it was empty.

use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    certificates,
    client::Crew,
    polls::{DAY_MS, moment},
};

/// The tables that grow with every vote.
const GROWING: [&str; 3] = ["votes", "rejections", "tallies"];

/// Contestants of the earlier poll.
const CONTESTANTS: i64 = 10;

/// An earlier, certified poll.
#[derive(Debug, Clone, Copy)]
pub struct History {
    /// Id in the ledger.
    pub poll: i32,
    /// Number of its votes.
    pub votes: u64,
}

impl History {
    /// Inserts an earlier poll with this number of votes and waits until it is certified.
    ///
    /// # Errors
    /// The admin API or the ledger answers with an error, or the poll is not certified in time.
    pub async fn make(crew: &mut Crew, database_url: &str, votes: u64, now_ms: i64) -> Result<Self> {
        let contestants: Vec<_> = (1..=CONTESTANTS)
            .map(|number| json!({"number": number, "name": format!("No. {number}")}))
            .collect();
        let draft = json!({
            "title": "History", "contestants": contestants, "draft": false,
            "opensAt": moment(now_ms - 2 * DAY_MS)?, "closesAt": moment(now_ms - DAY_MS)?,
        });
        let created = crew.call("POST", "/admin/polls", &draft).await?;
        let poll = i32::try_from(created["id"].as_i64().unwrap_or_default())?;
        insert(database_url, poll, votes).await?;
        crew.call("POST", &format!("/admin/polls/{poll}/certify"), &json!({"force": true})).await?;
        let found = certificates::wait_for(database_url, &[poll]).await?;
        ensure!(
            found.iter().any(|one| one.certified_ms.is_some() && one.votes.cast_unsigned() == votes),
            "the earlier poll is not certified with its votes: {found:?}"
        );
        Ok(Self { poll, votes })
    }
}

/// Inserts votes and their tally. The keys begin with the moment of casting, as those of the functions do.
async fn insert(database_url: &str, poll: i32, votes: u64) -> Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    let mut transaction = connection.begin().await?;
    let sql = "INSERT INTO votes (key, poll, voter, cast_at, contestant) \
               SELECT (lpad(to_hex((extract(epoch FROM cast_at) * 1000)::bigint), 12, '0') \
                       || left(md5(number::text), 20))::uuid, \
                   $1, hashtextextended(number::text, 0), cast_at, 1 + number % $3 \
               FROM generate_series(1, $2::bigint) AS number, polls, \
                   LATERAL (SELECT date_trunc('milliseconds', \
                       opens_at + (closes_at - opens_at) * (number::float8 / ($2 + 1))) AS cast_at) AS moment \
               WHERE polls.id = $1";
    let insert = sqlx::query(sql).bind(poll).bind(votes.cast_signed()).bind(CONTESTANTS);
    insert.execute(&mut *transaction).await?;
    let sql = "UPDATE tallies SET votes = counted.votes, casts = counted.votes \
               FROM (SELECT contestant, count(*) AS votes FROM votes WHERE poll = $1 GROUP BY contestant) AS counted \
               WHERE tallies.poll = $1 AND tallies.contestant = counted.contestant";
    sqlx::query(sql).bind(poll).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Keeps the planner's statistics at those of empty tables for the whole run. Storage parameters belong to the leaves
/// of a partitioned table.
///
/// # Errors
/// The ledger answers with an error.
pub async fn freeze_statistics(database_url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    let sql = "WITH RECURSIVE tree AS ( \
                   SELECT name::regclass::oid AS oid FROM unnest($1::text[]) AS name \
                   UNION ALL SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid) \
               SELECT oid::regclass::text FROM tree JOIN pg_class USING (oid) WHERE relkind = 'r'";
    let tables: Vec<String> = sqlx::query_scalar(sql).bind(&GROWING[..]).fetch_all(&mut connection).await?;
    for table in tables {
        // The catalog quotes its names.
        let sql = format!("ALTER TABLE {table} SET (autovacuum_enabled = false)");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await?;
    }
    for table in GROWING {
        sqlx::query(AssertSqlSafe(format!("ANALYZE {table}"))).execute(&mut connection).await?;
    }
    Ok(())
}
