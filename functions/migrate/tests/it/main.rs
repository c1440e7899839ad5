//! The real function, called as CloudFormation calls it, against a real PostgreSQL.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod failure;
mod rights;
mod schema;
mod support;
mod tls;
