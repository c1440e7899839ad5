//! Tests of tokens and scopes.
use super::*;

#[tokio::test]
async fn tokens_that_do_not_hold_are_unauthorized() {
    let fixture = Fixture::new();
    let stranger = Fixture::new();
    let signed = |change: fn(&mut Value)| {
        let mut claims = fixture.claims();
        change(&mut claims);
        fixture.issuer.sign(&claims).unwrap()
    };
    let good = fixture.issuer.token("alice", None).unwrap();
    let hs256 = {
        let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
        let header = jsonwebtoken::Header {
            kid: jsonwebtoken::decode_header(&good).unwrap().kid,
            ..jsonwebtoken::Header::default()
        };
        jsonwebtoken::encode(&header, &fixture.claims(), &key).unwrap()
    };
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let forged = BASE64_STANDARD.encode(fixture.claims().to_string()).replace('=', "");
    for (token, what) in [
        (stranger.issuer.token("alice", None).unwrap(), "foreign key"),
        (format!("{head}.{forged}.{signature}"), "changed claims"),
        (hs256, "another algorithm"),
        (signed(|c| c["iss"] = json!("https://elsewhere")), "issuer"),
        (signed(|c| c["aud"] = json!("other")), "audience"),
        (signed(|c| drop(c.as_object_mut().unwrap().remove("aud"))), "no audience"),
        (signed(|c| c["exp"] = json!(now_s() - 1)), "expired"),
        (signed(|c| drop(c.as_object_mut().unwrap().remove("exp"))), "no expiry"),
        (signed(|c| c["nbf"] = json!(now_s() + 60)), "not yet"),
        (signed(|c| c["iat"] = json!(now_s() + 60)), "issued in the future"),
        ("nonsense".to_owned(), "no token at all"),
    ] {
        let answer = fixture.call_as(&token, "GET", "/polls/1/votes/mine", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (401, "{\"message\":\"Unauthorized\"}"), "{what}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    }
    let missing = fixture.call("GET", "/polls/1/votes/mine", &[], "").await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    assert!(fixture.backend.events.lock().unwrap().is_empty(), "no function runs");
}

#[tokio::test]
async fn client_id_stands_in_for_the_audience() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    let mut claims = fixture.claims();
    claims.as_object_mut().unwrap().remove("aud");
    claims["client_id"] = json!("votes");
    let token = fixture.issuer.sign(&claims).unwrap();
    assert_eq!(fixture.call_as(&token, "GET", "/polls/1/votes/mine", "").await.status, 200);
}

#[tokio::test]
async fn a_remembered_token_still_expires() {
    let fixture = Fixture::new();
    let authorizer = Authorizer::new(&fixture.api_configuration(), fixture.issuer.verifying_keys());
    let token = fixture.issuer.sign(&fixture.claims()).unwrap();
    assert!(authorizer.authorize(Some(&token), &[], now_s()).is_ok());
    assert!(authorizer.authorize(Some(&token), &[], now_s() + 30).is_ok());
    // The cache entry expires at `exp`. The new verification uses the wall clock, by which the token is still valid.
    let later = authorizer.authorize(Some(&token), &["admin".to_owned()], now_s() + 61);
    assert_eq!(later.unwrap_err(), Denial::Scope);
}

impl Fixture {
    fn api_configuration(&self) -> definition::JwtConfiguration {
        definition::JwtConfiguration {
            issuer: self.issuer.url().to_owned(),
            audience: vec!["votes".to_owned()],
        }
    }
}

#[tokio::test]
async fn a_route_with_scopes_wants_one_of_them() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    let token = |scope| fixture.issuer.token("crew", scope).unwrap();
    for (scope, method, uri, status) in [
        (None, "GET", "/admin/polls", 403),
        (Some("administrator"), "GET", "/admin/polls", 403),
        (Some("vote admin"), "PUT", "/admin/polls", 200),
        (Some("vote"), "POST", "/polls/1/open", 403),
        (Some("crew"), "POST", "/polls/1/open", 200),
    ] {
        let answer = fixture.call_as(&token(scope), method, uri, "").await;
        assert_eq!(answer.status, status, "{scope:?} {uri}");
        if status == 403 {
            assert_eq!(answer.body, "{\"message\":\"Forbidden\"}");
        }
    }
}
