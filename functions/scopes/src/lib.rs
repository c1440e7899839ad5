//! Cognito's pre-token-generation trigger: adds the scope `admin` to the tokens of the group `crew`, and to no
//! others.
//!
//! A scope allowed to a client would be granted to every user of that client. So the client has none, and the group
//! decides. Only administrators of the user pool can add members.
//!
//! Event and response, version 2 of the trigger:
//! <https://docs.aws.amazon.com/cognito/latest/developerguide/user-pool-lambda-pre-token-generation.html>

use serde_json::{Value, json};

/// The group of the user pool whose members may use the crew's routes.
const GROUP: &str = "crew";

/// The scope that the crew's routes require.
const SCOPE: &str = "admin";

/// Returns the whole event with its response filled in, as Cognito expects it.
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
    fn members_of_the_crew_get_the_scope() {
        let given = event(&json!({"groupsToOverride": ["vip", "crew"], "iamRolesToOverride": []}));
        let answer = with_scopes(given.clone());
        let added =
            &answer["response"]["claimsAndScopeOverrideDetails"]["accessTokenGeneration"]["scopesToAdd"];
        assert_eq!(added, &json!(["admin"]));
        assert_eq!(answer["request"], given["request"]);
        assert_eq!(answer["userName"], given["userName"]);
    }

    #[test]
    fn others_get_no_scope() {
        for groups in [json!({}), Value::Null, json!({"groupsToOverride": ["crews", "Crew", "admin"]})] {
            let given = event(&groups);
            assert_eq!(with_scopes(given.clone()), given, "{groups}");
        }
    }
}
