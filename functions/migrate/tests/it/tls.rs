use std::{
    fs,
    path::{Path, PathBuf},
};

use local_stores::{Identity, Stores};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use crate::support::{Deployment, fill, new_role};

/// A certificate authority and its certificate file.
fn authority(folder: &Path, name: &str) -> (Issuer<'static, KeyPair>, PathBuf) {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let file = folder.join(name);
    fs::write(&file, parameters.self_signed(&key).unwrap().pem()).unwrap();
    (Issuer::new(parameters, key), file)
}

/// Returns answer and log of a deployment whose function trusts this authority.
async fn answer(database_url: &str, ca_file: &Path) -> (Value, String) {
    let mut deployment = Deployment::with(json!({
        "DATABASE_URL": database_url, "DATABASE_AUTH": "password", "TLS_CA_FILE": ca_file,
        "APPLICATION_ROLE": new_role(),
    }))
    .await;
    let answer = deployment.ask("Create").await;
    (answer, deployment.log().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_comes_up_over_tls_and_no_other_server_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (issuer, ca_file) = authority(folder.path(), "authority.pem");
    let (_, stranger) = authority(folder.path(), "stranger.pem");
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let identity =
        Identity { certificate: folder.path().join("server.crt"), key: folder.path().join("server.key") };
    fs::write(&identity.certificate, certificate.pem()).unwrap();
    fs::write(&identity.key, key.serialize_pem()).unwrap();
    let stores = Stores::start_with_tls(folder.path(), &identity).await.unwrap();
    let url = &stores.database_url;
    assert!(url.contains("@localhost:") && url.contains("sslmode=verify-full"), "{url}");

    let elsewhere = url.replace("localhost", "127.0.0.1");
    // An empty name stands for Amazon's authorities.
    for (url, trusted, reason) in [
        (url, &*stranger, "UnknownIssuer"),
        (url, Path::new(""), "UnknownIssuer"),
        (&elsewhere, &*ca_file, "certificate not valid for name \"127.0.0.1\""),
    ] {
        let (answer, log) = answer(url, trusted).await;
        assert_eq!(answer["Status"], "FAILED", "{answer}");
        let text = answer["Reason"].as_str().unwrap();
        assert!(text.starts_with("the ledger is unavailable: ") && text.contains(reason), "{text}");
        assert!(log.contains("schema.failed") && !log.contains("postgres://"), "{log}");
    }
    let (answer, log) = answer(url, &ca_file).await;
    assert_eq!(answer["Status"], "SUCCESS", "{answer} {log}");
    // The schema is there.
    let encrypted = url.replace("verify-full", "require");
    fill(&encrypted).await;
    stores.stop().await;
}
