//! The parts of the stack that the template defines. The template is read before any process starts, so that a
//! mistake in it is reported at once.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{RunArguments, pages::PagesConfig};
use emulator::{
    edge::behavior::Distribution,
    http_api::definition::{self, Definition},
    template::{Context, Resource, Template},
};
use local_stores::FUNCTIONS_ROLE;

/// Audience of the local issuer's tokens.
pub const AUDIENCE: &str = "votes";

/// Template path of the variables that name the migrations' database user and the role that they grant to.
const MIGRATE_VARIABLES: &str = "MigrateFunction.Environment.Variables";

/// Template path of the variable that says whether clients reach the gateway beside the edge. On one machine none can.
const GATEWAY_ADDRESS: &str = "AdminFunction.Environment.Variables.GATEWAY_ADDRESS";

/// The function of the crew's API.
const ADMIN: &str = "AdminFunction";

/// Values of this machine for the template's parameters.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `DatabaseUrl`.
    pub database_url: String,
    /// `DATABASE_URL` of the migration function, if the other functions connect as [`FUNCTIONS_ROLE`] and do not own
    /// the database.
    pub owner_url: Option<String>,
    /// `RedisUrl`.
    pub redis_url: String,
    /// `VoterHashKey`.
    pub voter_hash_key: String,
}

impl Machine {
    /// Returns placeholders for use before the stores run.
    pub fn unknown() -> Self {
        Self {
            database_url: "postgres://localhost/votes".to_owned(),
            owner_url: None,
            redis_url: "redis://localhost:6379/0".to_owned(),
            voter_hash_key: "0".repeat(64),
        }
    }
}

/// The resolved template and the definitions read from it.
#[derive(Debug)]
pub struct Blueprint {
    /// The template, for the parts that read their own resources.
    pub template: Template,
    /// The HTTP API.
    pub api: Definition,
    /// The CloudFront distribution in front of the API.
    pub distribution: Distribution,
    /// The distribution's id in CloudFront's API.
    pub distribution_id: String,
    /// The pages' bucket: the origin of the default behaviour, if that origin is a bucket.
    pub pages_bucket: Option<String>,
}

impl Blueprint {
    /// Reads the template.
    ///
    /// # Errors
    /// Names the location in the template and the mistake.
    pub fn read(arguments: &RunArguments, machine: &Machine) -> Result<Self> {
        let context = Context {
            parameters: parameters(arguments, machine),
            overrides: overrides(arguments, machine),
            aws_endpoint: format!("http://localhost:{}", arguments.aws_port),
        };
        let template = Template::load(&arguments.template, &context)?;
        let api = only(&template, "AWS::Serverless::HttpApi")?;
        let api = definition::read(api, template.of_kind("AWS::Serverless::Function"))?;
        let distribution = only(&template, "AWS::CloudFront::Distribution")?;
        let distribution_id = distribution.id.clone();
        let distribution = Distribution::read(distribution, &|id| template.resource(id))?;
        let pages_bucket = pages_bucket(&distribution);
        Ok(Self { template, api, distribution, distribution_id, pages_bucket })
    }

    /// Returns whether the edge limits each token's votes, as the crew's API requires of a poll with `tapsMax`.
    pub fn limits_votes(&self) -> bool {
        let function = self.template.resource(ADMIN).map(|function| &function.properties);
        let limit =
            function.and_then(|function| function["Environment"]["Variables"]["VOTES_PER_TOKEN"].as_str());
        limit.is_some_and(|limit| limit != "0")
    }

    /// Returns the pages' configuration. `issuer` and `client_id` name the OpenID Connect issuer and its client.
    pub fn pages_config(&self, issuer: String, client_id: String) -> PagesConfig {
        let has_results =
            self.distribution.behaviors.iter().any(|behavior| behavior.pattern() == "/results/*");
        let offers = |action: &&str| {
            let path = format!("/admin/polls/{{id}}/{action}");
            self.api.routes.iter().any(|route| route.key.path == path)
        };
        PagesConfig {
            api: String::new(),
            issuer,
            client_id,
            scope: "openid".to_owned(),
            crew_scope: "openid admin".to_owned(),
            results: has_results.then(|| "/results/{id}.json".to_owned()),
            crew: ["certify", "export"].into_iter().filter(offers).collect(),
        }
    }
}

/// Returns the `iss` claim of the local issuer's tokens.
pub fn issuer_url(port: u16) -> String {
    format!("http://localhost:{port}/_local")
}

fn pages_bucket(distribution: &Distribution) -> Option<String> {
    let origin = &distribution.behaviors.last()?.origin;
    let origin = distribution.origins.iter().find(|candidate| candidate.id == *origin)?;
    Some(origin.domain_name.split_once(".s3.")?.0.to_owned())
}

fn parameters(arguments: &RunArguments, machine: &Machine) -> BTreeMap<String, String> {
    let own = [
        ("DatabaseUrl", machine.database_url.clone()),
        ("RedisUrl", machine.redis_url.clone()),
        ("VoterHashKey", machine.voter_hash_key.clone()),
        ("JwtIssuer", issuer_url(arguments.port)),
        ("JwtAudience", AUDIENCE.to_owned()),
        // On one machine all viewers have one address.
        ("WafRequestsPerAddress", "2000000000".to_owned()),
        ("WafPollReadsPerAddress", "0".to_owned()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(arguments.parameter.iter().cloned()).collect()
}

/// Returns the overrides; those of `--set` come last and win.
fn overrides(arguments: &RunArguments, machine: &Machine) -> Vec<String> {
    // The template assumes that the functions own a local database. Here they connect as a role that owns nothing, so
    // that a missing GRANT shows.
    let owner = machine.owner_url.iter().flat_map(|url| {
        let variables = [("DATABASE_URL", url.as_str()), ("APPLICATION_ROLE", FUNCTIONS_ROLE)];
        variables.map(|(name, value)| format!("{MIGRATE_VARIABLES}.{name}={}", json!(value)))
    });
    owner.chain([format!("{GATEWAY_ADDRESS}=closed")]).chain(arguments.set.iter().cloned()).collect()
}

fn only<'a>(template: &'a Template, kind: &'a str) -> Result<&'a Resource> {
    template.of_kind(kind).next().with_context(|| format!("the template has no resource of type {kind}"))
}
