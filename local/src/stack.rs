//! Starts the parts in order, keeps them running, and stops them in the reverse order.
mod blueprint;
mod data_folder;
mod server;
mod signals;
mod wiring;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

pub use self::server::BASE_PATH;
use self::{
    blueprint::{AUDIENCE, issuer_url},
    data_folder::DataFolder,
    server::{Listeners, Servers},
    wiring::{ApiOrigin, Integrations},
};
pub(crate) use self::{
    blueprint::{Blueprint, Machine},
    signals::StopRequests,
};
use crate::{
    cli::RunArguments,
    cloudwatch::CloudWatch,
    demo,
    edge::{Edge, Origin},
    event_source::{self, Mappings},
    http_api::HttpApi,
    issuer::Issuer,
    lambda::Functions,
    local_api::LocalApi,
    sqs::Queues,
    status::{Figures, StatusLine},
    stores::{Given, Stores},
};

/// Some ten thousand votes are counted in this time; what is left then is saved.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the stack until Ctrl-C or SIGTERM.
///
/// # Errors
/// One line that says what is wrong and what to do; whatever was started has been stopped.
pub async fn run(arguments: &RunArguments) -> Result<()> {
    let stop = StopRequests::listen()?;
    let listeners = Listeners::bind(arguments).await?;
    let folder = DataFolder::open(arguments)?;
    Blueprint::read(arguments, &Machine::unknown())?;
    let given = Given::from_environment();
    let starting = Stores::start(folder.path(), &given, folder.is_kept());
    let stores = tokio::select! {
        stores = starting => stores?,
        () = stop.reached(1) => return Ok(()),
    };
    let ground = Ground { arguments, stop: &stop, folder: &folder, stores: &stores };
    let result = run_with_stores(ground, listeners).await;
    stores.stop().await;
    result
}

/// What everything else stands on.
#[derive(Clone, Copy)]
struct Ground<'a> {
    arguments: &'a RunArguments,
    stop: &'a StopRequests,
    folder: &'a DataFolder,
    stores: &'a Stores,
}

async fn run_with_stores(ground: Ground<'_>, listeners: Listeners) -> Result<()> {
    let Ground { arguments, stop, folder, stores } = ground;
    tokio::select! {
        migrated = migrate(&stores.database_url) => migrated?,
        () = stop.reached(1) => return Ok(()),
    }
    let machine = Machine {
        database_url: stores.database_url.clone(),
        redis_url: stores.redis_url.clone(),
        voter_hash_key: folder.voter_hash_key()?,
    };
    let blueprint = Blueprint::read(arguments, &machine)?;
    let logs = Arc::new(CloudWatch::new(folder.path().join("logs"))?);
    let functions = Functions::from_template(&blueprint.template, artifacts(arguments)?, Arc::clone(&logs))?;
    let result = run_with_functions(ground, listeners, blueprint, logs, &functions).await;
    functions.shut_down().await;
    result
}

/// The schema, as a deployment's migrations make it.
async fn migrate(database_url: &str) -> Result<()> {
    shared::ledger::migrate(database_url).await.context("the database schema cannot be made")
}

async fn run_with_functions(
    ground: Ground<'_>,
    listeners: Listeners,
    blueprint: Blueprint,
    logs: Arc<CloudWatch>,
    functions: &Arc<Functions>,
) -> Result<()> {
    let Ground { arguments, stop, folder, stores } = ground;
    let queues = Queues::from_template(&blueprint.template)?;
    let issuer = Issuer::open(&folder.path().join("issuer-key.der"), &issuer_url(arguments.port), AUDIENCE)?;
    let issuer = Arc::new(issuer);
    let integrations = Integrations { queues: Arc::clone(&queues), functions: Arc::clone(functions) };
    let api = Arc::new(HttpApi::new(blueprint.api, &issuer, Arc::new(integrations))?);
    let edge = Edge::new(blueprint.distribution, |origin| {
        // Other origins (S3) are not part of the stack yet.
        let is_api = origin.domain_name.contains(".execute-api.");
        let origin = ApiOrigin { api: Arc::clone(&api), domain_name: origin.domain_name.clone() };
        is_api.then(|| Arc::new(origin) as Arc<dyn Origin>)
    })?;
    let restored = folder.restore_messages(&queues)?;
    let mappings = event_source::start(&blueprint.template, &queues, functions)?;
    let figures = Arc::new(Figures { queues: Arc::clone(&queues), logs, functions: Arc::clone(functions) });
    let local_api = LocalApi {
        issuer: Arc::clone(&issuer),
        edge: Arc::clone(&edge),
        figures: Arc::clone(&figures),
        stores: stores.pids(),
    };
    let servers = Servers::start(listeners, Arc::clone(&edge), local_api, &queues);
    let base_url = format!("http://localhost:{}", arguments.port);
    let poll = tokio::select! {
        poll = demo::prepare(&edge, &issuer, arguments.no_demo) => poll,
        () = stop.reached(1) => Ok(None),
    };
    let poll = match poll {
        Ok(poll) => poll,
        Err(error) => {
            servers.stop().await;
            drop(mappings);
            return Err(match last_log_line(&folder.path().join("logs")) {
                Some(line) => error.context(line),
                None => error,
            });
        }
    };
    announce(arguments, &base_url, &issuer, poll.as_ref(), restored)?;
    let status = StatusLine::start(Arc::clone(&figures));
    stop.reached(1).await;
    servers.stop_edge().await;
    drain(stop, mappings, &status).await;
    status.finish();
    let left = folder.save_messages(&queues)?;
    servers.stop().await;
    if left > 0 && folder.is_kept() {
        eprintln!("{left} messages are kept in {} for the next start", folder.path().display());
    } else if left > 0 {
        eprintln!("{left} messages were left in the queues and are gone with the ephemeral stack");
    }
    Ok(())
}

/// Lets the functions empty their queues, for a time and unless asked again.
async fn drain(stop: &StopRequests, mappings: Mappings, status: &StatusLine) {
    status.draining();
    let emptied = async {
        // Late or not, running batches are waited for: what they have counted must leave the queue.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, mappings.drained()).await;
        mappings.stop().await;
    };
    tokio::select! {
        () = emptied => {}
        () = stop.reached(2) => {}
    }
}

/// What a function said last: the reason why the stack does not come up, and an ephemeral folder is about to go.
fn last_log_line(logs: &Path) -> Option<String> {
    let files = std::fs::read_dir(logs).ok()?.flatten();
    let newest = files.max_by_key(|file| file.metadata().and_then(|file| file.modified()).ok())?;
    let text = std::fs::read_to_string(newest.path()).ok()?;
    Some(format!("{}: {}", newest.file_name().display(), text.lines().last()?))
}

fn artifacts(arguments: &RunArguments) -> Result<PathBuf> {
    if let Some(folder) = &arguments.artifacts {
        if !folder.is_dir() {
            bail!("--artifacts {} is no folder", folder.display());
        }
        return Ok(folder.clone());
    }
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or_else(|| anyhow!("this program is in no folder"))?.to_owned())
}

fn announce(
    arguments: &RunArguments,
    base_url: &str,
    issuer: &Issuer,
    poll: Option<&demo::Poll>,
    restored: usize,
) -> Result<()> {
    let token = issuer.token("viewer", None)?;
    let (id, contestant) = poll.map_or((1, 1), |poll| (poll.id, poll.contestant));
    println!("The stack is ready.");
    println!("  edge          {base_url}");
    println!("  AWS endpoint  http://localhost:{} (SQS)", arguments.aws_port);
    println!("  metrics       {base_url}{BASE_PATH}/metrics");
    if restored > 0 {
        println!("  {restored} messages of the last run are back in their queues");
    }
    println!("\nA voter's token, good for 12 hours:\n  TOKEN={token}");
    println!("Vote, and see the ranking move within seconds:");
    println!("  curl -X POST {base_url}/votes -H \"Authorization: Bearer $TOKEN\" \\");
    println!("    -H 'Content-Type: application/json' -d '{{\"poll\":{id},\"contestant\":{contestant}}}'");
    println!("  curl {base_url}/polls/{id}/ranking");
    println!("As the show's crew:");
    println!("  ADMIN=$(curl -s '{base_url}{BASE_PATH}/token?sub=crew&scope=admin' | cut -d'\"' -f4)");
    println!("  curl {base_url}/admin/polls -H \"Authorization: Bearer $ADMIN\"");
    println!("Ctrl-C counts what is queued and stops.\n");
    Ok(())
}
