//! The functions' user in the cache has exactly the rights that they need, as the template defines them.

use local_stores::scratch::Scratch;
use serde_json::json;
use uuid::Uuid;

use crate::one_call::{Call, invoke, with_a_poll};

/// Returns `CacheUser`'s rules in the syntax of `ACL SETUSER`. They are cut out of the template's text, since the
/// emulator has no caches.
fn rules() -> Vec<&'static str> {
    let template = include_str!("../../../../template.yaml");
    let user = template.split_once("\n  CacheUser:\n").expect("the template has a cache user").1;
    let rules = user.split_once("AccessString: ").expect("the cache user has rules").1;
    rules.lines().next().unwrap_or_default().split(' ').collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caches_user_may_do_what_the_functions_do_and_harm_nothing() {
    let scratch = Scratch::new().await.unwrap();
    with_a_poll(&scratch).await;
    let server = redis::Client::open(&*scratch.redis_url).unwrap();
    let mut connection = server.get_multiplexed_async_connection().await.unwrap();
    let name = format!("user{}", Uuid::new_v4().simple());
    let user = redis::cmd("ACL").arg("SETUSER").arg(&name).arg(">password").arg(rules()).to_owned();
    user.exec_async(&mut connection).await.unwrap();
    let redis_url = scratch.redis_url.replace("redis://", &format!("redis://{name}:password@"));
    let restricted = Scratch { redis_url: redis_url.clone(), ..scratch };

    let draft = json!({"title": "Who goes?", "contestants": [{"name": "Ana"}, {"name": "Bia"}]}).to_string();
    for (function, call) in [
        ("polls", Call::Http("GET /polls", "")),
        ("polls", Call::Http("GET /polls/{id}", "")),
        ("polls", Call::Http("GET /polls/{id}/ranking", "")),
        ("votes", Call::Vote),
        ("polls", Call::Http("GET /polls/{id}/ranking", "")),
        ("admin", Call::Http("POST /admin/polls", &draft)),
        ("admin", Call::Http("GET /admin/polls/{id}/audit", "")),
        ("admin", Call::Http("GET /admin/polls/{id}/live", "")),
        ("admin", Call::Http("POST /admin/polls/{id}/rebuild", "")),
        // The poll has votes, so deletion is refused, but only after every command was sent.
        ("admin", Call::Http("DELETE /admin/polls/{id}", "")),
    ] {
        let (answer, log) = invoke(&restricted, function, call).await;
        let answer = answer.unwrap_or_else(|error| panic!("{function}: {error}: {log}"));
        // Functions work without Redis and log a warning, which must not appear. There is no wake queue here, so that
        // warning is ignored.
        let log: String = log.lines().filter(|line| !line.contains("results.not_woken")).collect();
        for sign in ["WARN", "ERROR", "NOPERM"] {
            assert!(!log.contains(sign), "{function}: {answer} {log}");
        }
    }

    let user = redis::Client::open(redis_url).unwrap();
    let mut connection = user.get_multiplexed_async_connection().await.unwrap();
    for forbidden in
        ["FLUSHALL", "FLUSHDB", "CONFIG GET *", "CLIENT LIST", "ACL LIST", "KEYS *", "SHUTDOWN", "MONITOR"]
    {
        let mut words = forbidden.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        let refused = command.exec_async(&mut connection).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{forbidden}: {refused}");
    }
}
