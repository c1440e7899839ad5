//! Answers Cognito before it makes a token: members of the group `crew` get the scope `admin`, nobody else does.
//!
//! A scope that a client may ask for would be anybody's who signs in with that client. So the client has none, and
//! the group decides, into which only the user pool's administrators can put someone.
//!
//! Event and answer, version 2 of the trigger:
//! <https://docs.aws.amazon.com/cognito/latest/developerguide/user-pool-lambda-pre-token-generation.html>

use serde_json::{Value, json};

/// The group of the user pool whose members may use the crew's routes.
const GROUP: &str = "crew";

/// The scope that the crew's routes ask for.
const SCOPE: &str = "admin";

/// The event as Cognito wants it back: whole, with the response filled in.
pub fn with_scopes(mut event: Value) -> Value {
    let groups = event.pointer("/request/groupConfiguration/groupsToOverride").and_then(Value::as_array);
    if groups.is_some_and(|groups| groups.iter().any(|group| group == GROUP)) {
        event["response"] = json!({
            "claimsAndScopeOverrideDetails": {"accessTokenGeneration": {"scopesToAdd": [SCOPE]}},
        });
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(group_configuration: &Value) -> Value {
        json!({
            "version": "2",
            "triggerSource": "TokenGeneration_HostedAuth",
            "region": "us-east-1",
            "userPoolId": "us-east-1_EXAMPLE",
            "userName": "9f1e",
            "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": "1example"},
            "request": {
                "userAttributes": {"sub": "9f1e", "email_verified": "true"},
                "groupConfiguration": group_configuration,
                "scopes": ["openid"],
            },
            "response": {"claimsAndScopeOverrideDetails": null},
        })
    }

    #[test]
    fn the_crew_gets_the_scope() {
        let given = event(&json!({"groupsToOverride": ["vip", "crew"], "iamRolesToOverride": []}));
        let answer = with_scopes(given.clone());
        let added =
            &answer["response"]["claimsAndScopeOverrideDetails"]["accessTokenGeneration"]["scopesToAdd"];
        assert_eq!(added, &json!(["admin"]));
        assert_eq!(answer["request"], given["request"]);
        assert_eq!(answer["userName"], given["userName"]);
    }

    #[test]
    fn nobody_else_does() {
        for groups in [json!({}), Value::Null, json!({"groupsToOverride": ["crews", "Crew", "admin"]})] {
            let given = event(&groups);
            assert_eq!(with_scopes(given.clone()), given, "{groups}");
        }
    }
}
