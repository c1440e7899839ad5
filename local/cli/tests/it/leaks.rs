//! No route and no file shows a withheld standing or a draft without the crew's scope.

use emulator::template::{Context, Template};
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::{Value, json};

use crate::stack::{TestStack, until};

/// Returns every GET path of the template's API.
fn readable_paths() -> Vec<String> {
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let parameters = [
        text("DatabaseUrl", "postgres://unused"),
        text("RedisUrl", "redis://unused"),
        text("VoterHashKey", &"0".repeat(64)),
        text("JwtIssuer", "https://issuer.example"),
        text("JwtAudience", "votes"),
    ];
    let context = Context { parameters: parameters.into(), ..Context::default() };
    let template = Template::load("../../template.yaml".as_ref(), &context).unwrap();
    let functions: Vec<_> = template.of_kind("AWS::Serverless::Function").collect();
    let events =
        functions.iter().flat_map(|function| function.properties["Events"].as_object().into_iter().flatten());
    events
        .map(|(_, event)| event)
        .filter(|event| event["Type"] == "HttpApi" && event["Properties"]["Method"] == "GET")
        .map(|event| event["Properties"]["Path"].as_str().unwrap().to_owned())
        .collect()
}

/// Tells whether a response body shows the poll's standing.
fn shows_standing(poll: i64, text: &str) -> bool {
    let has_standing = |value: &Value| value.get("ranking").is_some() || value.get("totalVotes").is_some();
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let is_of_poll = body["poll"] == poll || body["id"] == poll;
    is_of_poll
        && (has_standing(&body)
            || text.contains("\"share\"")
            || body.get("contestants").is_some_and(has_votes))
}

fn has_votes(contestants: &Value) -> bool {
    contestants
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one.get("votes").is_some() || one.get("tally").is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_and_no_file_shows_a_withheld_standing() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    for results in ["afterClose", "hidden"] {
        let draft = json!({"title": "Who stays?", "results": results, "opensAt": "2020-01-01T00:00:00Z",
            "contestants": [{"name": "Ana"}, {"name": "Bia"}]});
        let (status, created) = stack.as_crew("POST", "/admin/polls", &draft.to_string());
        assert_eq!(status, 201, "{created}");
        let poll = serde_json::from_str::<Value>(&created).unwrap()["id"].as_i64().unwrap();
        for contestant in [1, 1, 2] {
            stack.vote_in(poll, contestant);
        }
        let file = format!("/results/{poll}.json");
        let turnout = || {
            serde_json::from_str::<Value>(&stack.as_anyone(&file).1)
                .ok()
                .map(|file| file["turnout"]["votes"].clone())
        };
        until("the file has the turnout", || turnout() == Some(json!(3)));
        let mut paths: Vec<_> =
            readable_paths().iter().map(|path| path.replace("{id}", &poll.to_string())).collect();
        assert!(paths.len() >= 7, "{paths:?}");
        paths.extend([file, "/results/polls.json".to_owned()]);
        for path in paths {
            for (status, text) in [stack.as_anyone(&path), stack.as_voter(&path)] {
                assert!(!shows_standing(poll, &text), "{results}: {path} answered {status}: {text}");
                assert!(
                    !path.starts_with("/admin") || status == 401 || status == 403,
                    "{path} answered {status}"
                );
            }
        }
        let (_, crew) = stack.as_crew("GET", &format!("/admin/polls/{poll}/audit"), "");
        assert!(shows_standing(poll, &crew), "the crew sees the standing: {crew}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_and_no_file_shows_a_draft() {
    const SECRET: &str = "Who leaves tonight?";
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let opens_at =
        serde_json::to_value(domain::Timestamp::from_millis(Clock::system().now().millis() + 3_600_000));
    let draft = json!({"title": SECRET, "opensAt": opens_at.unwrap(), "contestants": [{"name": SECRET}]});
    let (status, created) = stack.as_crew("POST", "/admin/polls", &draft.to_string());
    assert_eq!(status, 201, "{created}");
    let created: Value = serde_json::from_str(&created).unwrap();
    assert_eq!(created["draft"], true);
    let poll = created["id"].as_i64().unwrap();
    stack.vote_in(poll, 1);
    stack.until_the_queue_is_empty();
    let (_, audit) = stack.as_crew("GET", &format!("/admin/polls/{poll}/audit"), "");
    assert_eq!(serde_json::from_str::<Value>(&audit).unwrap()["rejected"], json!({"unknownPoll": 1}));
    let file = format!("/results/{poll}.json");
    let mut paths: Vec<_> =
        readable_paths().iter().map(|path| path.replace("{id}", &poll.to_string())).collect();
    paths.extend([file.clone(), "/results/polls.json".to_owned()]);
    for path in &paths {
        for (status, text) in [stack.as_anyone(path), stack.as_voter(path)] {
            assert!(!text.contains(SECRET), "{path} answered {status}: {text}");
            let is_of_poll = path.contains(&poll.to_string());
            assert!(!is_of_poll || status >= 400, "{path} answered {status}: {text}");
        }
    }
    let mine = |poll| stack.as_voter(&format!("/polls/{poll}/votes/mine"));
    assert_eq!(mine(poll), mine(poll + 1_000), "a draft looks like an unknown poll");
    let (status, opened) = stack.as_crew("POST", &format!("/admin/polls/{poll}/open"), "");
    assert_eq!(status, 200, "{opened}");
    let names = || {
        let file: Value = serde_json::from_str(&stack.as_anyone(&file).1).ok()?;
        Some(file["names"].as_str()?.to_owned())
    };
    until("it is public", || names().is_some_and(|names| stack.as_anyone(&names).1.contains(SECRET)));
    let listed = format!("\"id\":{poll},");
    until("the list's file has it", || stack.as_anyone("/results/polls.json").1.contains(&listed));
    until("it is listed", || stack.as_anyone("/polls").1.contains(SECRET));
    assert_eq!(mine(poll).0, 200);
}
