//! Starts the parts in order, keeps them running, and stops them in the reverse order.
mod arguments;
mod blueprint;
pub mod data_folder;
mod demo;
mod local_api;
pub mod pages;
pub mod server;
mod signals;
pub mod status;
mod wiring;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};

pub use self::{
    arguments::RunArguments,
    blueprint::{Blueprint, Machine},
    server::BASE_PATH,
    signals::StopRequests,
};
use self::{
    blueprint::{AUDIENCE, issuer_url},
    data_folder::DataFolder,
    server::{Listeners, Servers},
    wiring::{ApiOrigin, Integrations},
};
use crate::{
    local_api::LocalApi,
    status::{Figures, StatusLine},
};
use domain::is_supported_subject;
use emulator::{
    aws_endpoint::Services,
    cloudfront::CloudFront,
    cloudwatch::CloudWatch,
    custom_resource,
    edge::{Edge, Origin},
    event_source::{self, Disturbance, Mappings},
    http_api::HttpApi,
    issuer::{Issuer, sign_in::Codes},
    lambda::Functions,
    s3::{BucketOrigin, Storage},
    schedule::{self, Schedule},
    sqs::{Misbehavior, Queues},
};
use local_stores::{Given, Stores};

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
    let session = Session { arguments, stop: &stop, folder: &folder, stores: &stores };
    let result = run_with_stores(session, listeners).await;
    stores.stop().await;
    result
}

/// What everything else stands on.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// What was asked for.
    pub arguments: &'a RunArguments,
    /// Ctrl-C and SIGTERM.
    pub stop: &'a StopRequests,
    /// Where data is kept.
    pub folder: &'a DataFolder,
    /// PostgreSQL and Redis, running.
    pub stores: &'a Stores,
}

async fn run_with_stores(session: Session<'_>, listeners: Listeners) -> Result<()> {
    let Session { arguments, folder, stores, .. } = session;
    let machine = Machine {
        database_url: stores.functions_url.clone(),
        owner_url: stores.owner_url(),
        redis_url: stores.redis_url.clone(),
        voter_hash_key: folder.voter_hash_key()?,
    };
    let blueprint = Blueprint::read(arguments, &machine)?;
    let logs = Arc::new(CloudWatch::new(folder.path().join("logs"))?);
    let functions = Functions::from_template(&blueprint.template, artifacts(arguments)?, Arc::clone(&logs))?;
    let result = run_with_functions(session, listeners, blueprint, logs, &functions).await;
    functions.shut_down().await;
    result
}

/// The parts that stand on the stores and call the functions.
pub struct Running {
    /// SQS.
    pub queues: Arc<Queues>,
    /// Of tokens.
    pub issuer: Arc<Issuer>,
    /// CloudFront.
    pub edge: Arc<Edge>,
    /// What is counted of all of them.
    pub figures: Arc<Figures>,
    /// The event source mappings.
    pub mappings: Mappings,
    /// To be started once there is something for them to find.
    pub schedules: Vec<Schedule>,
    /// Of the edge and of the AWS endpoint.
    pub servers: Servers,
    /// Messages of the last run that are back in their queues.
    pub restored: usize,
}

async fn run_with_functions(
    session: Session<'_>,
    listeners: Listeners,
    blueprint: Blueprint,
    logs: Arc<CloudWatch>,
    functions: &Arc<Functions>,
) -> Result<()> {
    tokio::select! {
        made = custom_resource::create_all(&blueprint.template, functions) => made?,
        () = session.stop.reached(1) => return Ok(()),
    }
    let running = start(session, listeners, blueprint, logs, functions, None).await?;
    serve(session, running, functions).await
}

/// Starts and wires what stands on the stores and the functions. The stores have the schema.
pub async fn start(
    session: Session<'_>,
    listeners: Listeners,
    blueprint: Blueprint,
    logs: Arc<CloudWatch>,
    functions: &Arc<Functions>,
    disturbance: Option<&Arc<dyn Disturbance>>,
) -> Result<Running> {
    let Session { arguments, folder, stores, .. } = session;
    let queues = Queues::from_template(&blueprint.template)?;
    for name in &arguments.bad_queue {
        let queue =
            queues.get(name).with_context(|| format!("--bad-queue {name}: there is no such queue"))?;
        queue.misbehave(Misbehavior::WORST, fastrand::u64(..));
    }
    let storage = Storage::open(&folder.path().join("s3"), &blueprint.template)?;
    if let Some(bucket) = &blueprint.pages_bucket {
        let config = blueprint.pages_config(issuer_url(arguments.port), AUDIENCE.to_owned());
        let pages = pages::assemble(&arguments.pages(), &config)?;
        pages::publish(pages, &storage, bucket).await?;
    }
    let issuer = Issuer::open(&folder.path().join("issuer-key.der"), &issuer_url(arguments.port), AUDIENCE)?;
    let issuer = Arc::new(issuer);
    let integrations = Integrations { queues: Arc::clone(&queues), functions: Arc::clone(functions) };
    let api = Arc::new(HttpApi::new(blueprint.api, &issuer, Arc::new(integrations))?);
    let edge = Edge::new(blueprint.distribution, |origin| {
        let is_api = origin.domain_name.contains(".execute-api.");
        let api = ApiOrigin { api: Arc::clone(&api), domain_name: origin.domain_name.clone() };
        let api = is_api.then(|| Arc::new(api) as Arc<dyn Origin>);
        api.or_else(|| BucketOrigin::find(&storage, &origin.domain_name))
    })?;
    let schedules = schedule::read(&blueprint.template)?;
    let restored = folder.restore_messages(&queues)?;
    let mappings = event_source::start(&blueprint.template, &queues, functions, disturbance)?;
    let figures = Arc::new(Figures { queues: Arc::clone(&queues), logs, functions: Arc::clone(functions) });
    let local_api = LocalApi {
        issuer: Arc::clone(&issuer),
        codes: Codes::new(is_supported_subject),
        edge: Arc::clone(&edge),
        figures: Arc::clone(&figures),
        stores: stores.pids(),
    };
    let cloudfront = CloudFront::new(blueprint.distribution_id, Arc::clone(&edge));
    let aws = Services { queues: Arc::clone(&queues), storage, cloudfront: Some(Arc::new(cloudfront)) };
    let servers = Servers::start(listeners, Arc::clone(&edge), local_api, aws);
    Ok(Running { queues, issuer, edge, figures, mappings, schedules, servers, restored })
}

async fn serve(session: Session<'_>, running: Running, functions: &Arc<Functions>) -> Result<()> {
    let Session { arguments, stop, folder, .. } = session;
    let Running { queues, issuer, edge, figures, mut mappings, schedules, servers, restored } = running;
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
    let started = schedule::start(&schedules, functions);
    announce(arguments, &base_url, &issuer, poll.as_ref(), restored)?;
    let status = StatusLine::start(Arc::clone(&figures));
    stop.reached(1).await;
    drop(started);
    servers.stop_edge().await;
    // What a schedule starts goes on by itself, for a minute, and with the next start: it is not waited for.
    for Schedule { function, .. } in &schedules {
        functions.end(function);
        mappings.leave_out(function);
    }
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

/// Where the functions' binaries are.
///
/// # Errors
/// There is no such folder.
pub fn artifacts(arguments: &RunArguments) -> Result<PathBuf> {
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
    println!("  viewers       {base_url}/");
    println!("  control room  {base_url}/control/");
    println!("  overlay       {base_url}/overlay/?poll={id}");
    println!("  AWS endpoint  http://localhost:{} (SQS, S3, CloudFront)", arguments.aws_port);
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
