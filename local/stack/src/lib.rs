//! Starts the parts of the stack in order, keeps them running and stops them in reverse order.
//!
//! To add a part: 1. write it in the `emulator`, which reads its resource from the template. 2. Create it in
//! [`start`] and, if other code calls it, add it to [`Running`]. 3. Stop it in `serve`, before the parts that it
//! uses. A new figure of a part goes into `local_api/metrics.rs`, a route of the stack's own into `local_api.rs`.
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

/// The scopes of tokens: a viewer's, the default, and the crew's.
const SCOPES: [&str; 2] = ["vote", "admin"];

/// Time to count some ten thousand votes; messages left after it are saved.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the stack until Ctrl-C or SIGTERM.
///
/// # Errors
/// Returns one line with the cause and the remedy; every started part has been stopped.
pub async fn run(arguments: &RunArguments) -> Result<()> {
    let stop = StopRequests::listen()?;
    let arguments = &mut arguments.clone();
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

/// The options, signals, data folder and stores of one run of the stack.
#[derive(Clone, Copy)]
pub struct Session<'a> {
    /// The command line's options.
    pub arguments: &'a RunArguments,
    /// Ctrl-C and SIGTERM.
    pub stop: &'a StopRequests,
    /// The data folder.
    pub folder: &'a DataFolder,
    /// The running PostgreSQL and Redis.
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
    folder.write_environments(&functions)?;
    let result = run_with_functions(session, listeners, blueprint, logs, &functions).await;
    functions.shut_down().await;
    result
}

/// The running parts that depend on the stores and the functions.
pub struct Running {
    /// SQS.
    pub queues: Arc<Queues>,
    /// The issuer of tokens.
    pub issuer: Arc<Issuer>,
    /// CloudFront.
    pub edge: Arc<Edge>,
    /// The parts' counters.
    pub figures: Arc<Figures>,
    /// The event source mappings.
    pub mappings: Mappings,
    /// The schedules, started by the caller after the demo poll exists.
    pub schedules: Vec<Schedule>,
    /// The servers of the edge and of the AWS endpoint.
    pub servers: Servers,
    /// Number of messages restored from the last run.
    pub restored: usize,
    /// Whether the edge limits each token's votes.
    pub limits_votes: bool,
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

/// Starts and connects the parts that depend on the stores and the functions. The schema must be in place.
///
/// # Errors
/// The template has a mistake, or a part does not start.
pub async fn start(
    session: Session<'_>,
    listeners: Listeners,
    blueprint: Blueprint,
    logs: Arc<CloudWatch>,
    functions: &Arc<Functions>,
    disturbance: Option<&Arc<dyn Disturbance>>,
) -> Result<Running> {
    let Session { arguments, folder, stores, .. } = session;
    let limits_votes = blueprint.limits_votes();
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
    let key_file = folder.path().join("issuer-key.der");
    let issuer = Issuer::open(&key_file, &issuer_url(arguments.port), AUDIENCE)?.with_scopes(&SCOPES);
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
    Ok(Running { queues, issuer, edge, figures, mappings, schedules, servers, restored, limits_votes })
}

async fn serve(session: Session<'_>, running: Running, functions: &Arc<Functions>) -> Result<()> {
    let Session { arguments, stop, folder, .. } = session;
    let Running { queues, issuer, edge, figures, mut mappings, schedules, servers, restored, limits_votes } =
        running;
    let base_url = format!("http://localhost:{}", arguments.port);
    let poll = tokio::select! {
        poll = demo::prepare(&edge, &issuer, arguments.no_demo, limits_votes) => poll,
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
    let versions = session.stores.versions().await?;
    announce(arguments, &base_url, &issuer, poll.as_ref(), &versions, restored)?;
    if let Some(file) = &arguments.urls_file {
        write_urls(file, &base_url, &aws_url(arguments))?;
    }
    let status = StatusLine::start(Arc::clone(&figures));
    stop.reached(1).await;
    drop(started);
    servers.stop_edge().await;
    // A scheduled invocation may run for a minute and continues at the next start: draining does not wait for it.
    for Schedule { function, .. } in &schedules {
        functions.end(function);
        mappings.leave_out(function);
    }
    drain(stop, mappings, &status).await;
    status.finish();
    let left = folder.save_messages(&queues)?;
    servers.stop().await;
    if left > 0 && folder.is_kept() {
        eprintln!("{left} messages are saved in {} for the next start", folder.path().display());
    } else if left > 0 {
        eprintln!("{left} messages were left in the queues and are lost with the ephemeral stack");
    }
    Ok(())
}

/// Drains the queues, for at most [`DRAIN_TIMEOUT`] or until a second request to stop.
async fn drain(stop: &StopRequests, mappings: Mappings, status: &StatusLine) {
    status.draining();
    let drained = async {
        // Even after the timeout, running batches are awaited: their counted messages must leave the queue.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, mappings.drained()).await;
        mappings.stop().await;
    };
    tokio::select! {
        () = drained => {}
        () = stop.reached(2) => {}
    }
}

/// Returns the last line of the newest log. It names the cause of a failed start, and an ephemeral folder's logs are
/// about to be removed.
fn last_log_line(logs: &Path) -> Option<String> {
    let files = std::fs::read_dir(logs).ok()?.flatten();
    let newest = files.max_by_key(|file| file.metadata().and_then(|file| file.modified()).ok())?;
    let text = std::fs::read_to_string(newest.path()).ok()?;
    Some(format!("{}: {}", newest.file_name().display(), text.lines().last()?))
}

/// Returns the folder of the functions' binaries.
///
/// # Errors
/// The folder does not exist.
pub fn artifacts(arguments: &RunArguments) -> Result<PathBuf> {
    if let Some(folder) = &arguments.artifacts {
        if !folder.is_dir() {
            bail!("--artifacts {} is not a folder", folder.display());
        }
        return Ok(folder.clone());
    }
    let program = std::env::current_exe()?;
    Ok(program.parent().ok_or_else(|| anyhow!("this program's folder is unknown"))?.to_owned())
}

fn aws_url(arguments: &RunArguments) -> String {
    format!("http://localhost:{}", arguments.aws_port)
}

/// Writes the URLs in one step, so that a reader never finds half a file.
fn write_urls(file: &Path, base_url: &str, aws_url: &str) -> Result<()> {
    let draft = file.with_added_extension("draft");
    let urls = serde_json::json!({"baseUrl": base_url, "awsUrl": aws_url}).to_string();
    std::fs::write(&draft, urls)
        .and_then(|()| std::fs::rename(&draft, file))
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn announce(
    arguments: &RunArguments,
    base_url: &str,
    issuer: &Issuer,
    poll: Option<&demo::Poll>,
    versions: &str,
    restored: usize,
) -> Result<()> {
    let token = issuer.token("viewer", None)?;
    let (id, contestant) = poll.map_or((1, 1), |poll| (poll.id, poll.contestant));
    println!("The stack is ready.");
    println!("  viewers       {base_url}/");
    println!("  control room  {base_url}/control/");
    println!("  overlay       {base_url}/overlay/?poll={id}");
    println!("  AWS endpoint  {} (SQS, S3, CloudFront)", aws_url(arguments));
    println!("  metrics       {base_url}{BASE_PATH}/metrics");
    println!("  stores        {versions}");
    if restored > 0 {
        println!("  {restored} messages of the last run were restored to their queues");
    }
    println!("\nA voter's token, valid for 12 hours:\n  TOKEN={token}");
    println!("Vote, and see the ranking move within seconds:");
    println!("  curl -X POST {base_url}/votes -H \"Authorization: Bearer $TOKEN\" \\");
    println!("    -H 'Content-Type: application/json' -d '{{\"poll\":{id},\"contestant\":{contestant}}}'");
    println!("  curl {base_url}/polls/{id}/ranking");
    println!("As the show's crew:");
    println!("  ADMIN=$(curl -s '{base_url}{BASE_PATH}/token?sub=crew&scope=admin' | cut -d'\"' -f4)");
    println!("  curl {base_url}/admin/polls -H \"Authorization: Bearer $ADMIN\"");
    println!("Ctrl-C counts the queued votes and stops.\n");
    Ok(())
}
