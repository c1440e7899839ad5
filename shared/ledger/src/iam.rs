use std::{fmt, time::Duration};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        SignableBody, SignableRequest, SignatureLocation, SigningError, SigningParams, SigningSettings, sign,
    },
    sign::v4,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use runtime::Clock;

/// The maximum lifetime of a token in RDS. A connection needs it only while connecting.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.Connecting.html>
const TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A signer of RDS IAM tokens, which serve as passwords. It makes no network calls.
#[derive(Clone)]
pub struct IamSigner {
    credentials: Credentials,
    region: String,
    clock: Clock,
}

impl IamSigner {
    /// Creates a signer with the credentials of the function's role, which Lambda puts into the environment. They
    /// are valid as long as the instance lives.
    pub fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
        region: String,
        clock: Clock,
    ) -> Self {
        let credentials =
            Credentials::new(access_key_id, secret_access_key, session_token, None, "environment");
        Self { credentials, region, clock }
    }

    /// Returns a token for `user` at this host and port. It is valid for connecting for 15 minutes.
    ///
    /// # Errors
    /// If host and user do not form a valid URL.
    pub fn token(&self, host: &str, port: u16, user: &str) -> Result<String, SigningError> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(TOKEN_LIFETIME);
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("rds-db")
            .time(self.clock.now().into())
            .settings(settings)
            .build()
            .expect("all parameters are set");
        let mut url = format!("https://{host}:{port}/?Action=connect&DBUser={}", encoded(user));
        let request = SignableRequest::new("GET", url.clone(), std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (instructions, _) = sign(request, &SigningParams::V4(parameters))?.into_parts();
        for (name, value) in instructions.params() {
            url.push_str(&format!("&{name}={}", encoded(value)));
        }
        // The token is the URL without its scheme.
        Ok(url.split_off("https://".len()))
    }
}

impl fmt::Debug for IamSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("IamSigner")
    }
}

/// All characters except the unreserved ones of RFC 3986, as the signature requires.
const RESERVED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn encoded(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, &RESERVED)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use domain::Timestamp;

    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signer(session_token: Option<&str>, region: &str) -> IamSigner {
        let session_token = session_token.map(str::to_owned);
        IamSigner::new(
            "AKIDEXAMPLE".to_owned(),
            SECRET.to_owned(),
            session_token,
            region.to_owned(),
            Clock::from_fn(moment),
        )
    }

    /// 2026-11-21T04:40:00Z
    fn moment() -> Timestamp {
        Timestamp::from_millis(1_795_236_000_000).unwrap()
    }

    fn parts(token: &str) -> BTreeSet<&str> {
        token.split(['?', '&']).collect()
    }

    /// The expected tokens come from `generate_db_auth_token` of boto3 1.43.108, with its clock fixed at `moment`.
    #[test]
    fn tokens_are_those_of_the_aws_sdk() {
        let host = "votes.cluster-x.eu-west-1.rds.amazonaws.com";
        let signer_of_role = signer(Some("IQoJb3JpZ2luX2VjE/+=EXAMPLE"), "eu-west-1");
        let token = signer_of_role.token(host, 5432, "votes").unwrap();
        let expected = "votes.cluster-x.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=votes\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Feu-west-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20261121T044000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900\
            &X-Amz-Security-Token=IQoJb3JpZ2luX2VjE%2F%2B%3DEXAMPLE\
            &X-Amz-Signature=42a8628b99aecd61bf5106dd6045e5866352292fa2b68a57305e36fa941a0983";
        assert_eq!(parts(&token), parts(expected));

        let token = signer(None, "us-east-1").token("db.example", 5432, "some one+two").unwrap();
        let expected = "db.example:5432/?Action=connect&DBUser=some%20one%2Btwo&X-Amz-Algorithm=AWS4-HMAC-SHA256\
            &X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Fus-east-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20261121T044000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900\
            &X-Amz-Signature=fd7b1f5c666c924b204664ea8f4734f5601d6d2c467141d176c69477f7f6f9b3";
        assert_eq!(parts(&token), parts(expected));
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", signer(Some("SESSION"), "us-east-1"));
        assert!(!shown.contains(SECRET) && !shown.contains("SESSION"), "{shown}");
    }
}
