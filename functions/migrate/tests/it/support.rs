use std::{path::Path, sync::Arc};

use emulator::{
    cloudwatch::CloudWatch,
    custom_resource::{self, AnswerBox, request},
    lambda::Functions,
    template::{Context, Template},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

/// The function as the template defines it, and the receiver of its answers.
pub struct Deployment {
    template: Template,
    functions: Arc<Functions>,
    answers: AnswerBox,
    logs: TempDir,
}

impl Deployment {
    /// A deployment with this database, and `role` as the functions' role.
    pub async fn of(database_url: &str, role: &str) -> Self {
        Self::with(json!({
            "DATABASE_URL": database_url, "DATABASE_AUTH": "password", "TLS_CA_FILE": "", "APPLICATION_ROLE": role,
        }))
        .await
    }

    /// A deployment with this environment.
    pub async fn with(variables: Value) -> Self {
        Self::lasting(60, variables).await
    }

    /// A deployment with this `Timeout`.
    pub async fn lasting(timeout_seconds: u64, variables: Value) -> Self {
        let function = json!({
            "Type": "AWS::Serverless::Function",
            "Metadata": {"BuildProperties": {"Binary": "migrate"}},
            "Properties": {
                "Timeout": timeout_seconds,
                "LoggingConfig": {"LogFormat": "JSON", "ApplicationLogLevel": "INFO"},
                "Environment": {"Variables": variables},
            },
        });
        let schema = json!({
            "Type": "Custom::Schema",
            "Properties": {"ServiceToken": {"Fn::GetAtt": ["MigrateFunction", "Arn"]}, "Release": release(2)},
        });
        let resources = format!("Resources:\n  MigrateFunction: {function}\n  Schema: {schema}");
        let template = Template::parse(&resources, "template.yaml", &Context::default()).unwrap();
        let logs = tempfile::tempdir().unwrap();
        let cloudwatch = Arc::new(CloudWatch::new(logs.path().to_owned()).unwrap());
        let artifacts = Path::new(env!("CARGO_BIN_EXE_migrate")).parent().unwrap().to_owned();
        let functions = Functions::from_template(&template, artifacts, cloudwatch).unwrap();
        Self { template, functions, answers: AnswerBox::open().await.unwrap(), logs }
    }

    /// Sends a request and returns the function's answer. An update starts from the previous release.
    pub async fn ask(&mut self, kind: &str) -> Value {
        if kind == "Update" {
            return self.update_from(1).await;
        }
        let mut event = request(kind, self.template.resource("Schema").unwrap(), &self.answers.url);
        if kind != "Create" {
            event["PhysicalResourceId"] = "schema".into();
        }
        self.answered(&event).await
    }

    /// Sends an update to release 2 and returns the function's answer. From a later release it is a rollback.
    pub async fn update_from(&mut self, number: u64) -> Value {
        let schema = self.template.resource("Schema").unwrap();
        let mut from = schema.properties.clone();
        from["Release"] = release(number).into();
        let mut event = custom_resource::update(schema, &from, &self.answers.url);
        event["PhysicalResourceId"] = "schema".into();
        self.answered(&event).await
    }

    async fn answered(&mut self, event: &Value) -> Value {
        self.invoke(event).await;
        let answer = self.answers.take().unwrap();
        for id in ["RequestId", "StackId", "LogicalResourceId"] {
            assert_eq!(answer[id], event[id], "{answer}");
        }
        assert_eq!(answer["PhysicalResourceId"], "schema", "another name would delete the old one");
        answer
    }

    /// Sends the same request twice at once and returns both answers.
    pub async fn ask_twice(&mut self, kind: &str) -> [Value; 2] {
        let event = request(kind, self.template.resource("Schema").unwrap(), &self.answers.url);
        tokio::join!(self.invoke(&event), self.invoke(&event));
        [self.answers.take().unwrap(), self.answers.take().unwrap()]
    }

    async fn invoke(&self, event: &Value) {
        let answer = self.functions.invoke("MigrateFunction", event.to_string().into()).await;
        assert_eq!(answer.unwrap(), "null");
    }

    /// Returns the function's log.
    pub async fn log(&self) -> String {
        self.functions.shut_down().await;
        let files = std::fs::read_dir(self.logs.path()).unwrap();
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// The ARN of a version of the function, as `Ref` returns it.
fn release(number: u64) -> String {
    format!("arn:aws:lambda:us-east-1:000000000000:function:MigrateFunction:{number}")
}

/// A role name unique to the test, since roles belong to the server.
pub fn new_role() -> String {
    let digits = tempfile::Builder::new().prefix("").rand_bytes(12).tempfile().unwrap();
    let name = digits.path().file_name().unwrap().to_str().unwrap().to_lowercase();
    format!("role_{name}")
}

/// Runs statements.
pub async fn execute(url: &str, sql: &str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await
}

/// Runs a query that returns one number.
pub async fn number(url: &str, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let number = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    number
}

/// Inserts a poll and a vote.
pub async fn fill(url: &str) {
    let sql = "INSERT INTO polls (title, results, contestants) VALUES ('Who stays?', 'live', '[]'); \
               INSERT INTO votes (key, voter, cast_at, poll, contestant) VALUES (gen_random_uuid(), 1, now(), 1, 1)";
    execute(url, sql).await.unwrap();
}

/// Returns the number of votes.
pub async fn votes(url: &str) -> i64 {
    number(url, "SELECT count(*) FROM votes").await
}
