//! TLS: one provider of cryptography for every connection, and the authorities that the stores' certificates must
//! come from.

use std::{borrow::Cow, fmt, io, path::Path};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

use crate::environment::Reader;

/// The authorities of Amazon RDS and ElastiCache, as PEM; their origin is told in `certs/README.md`.
const AMAZON: &[u8] = include_bytes!("../certs/amazon.pem");

/// Certificate authorities. Whoever has them can connect: the provider is installed with the first of them.
#[derive(Clone)]
pub struct Authorities(Cow<'static, [u8]>);

/// Why a file gives no authorities.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the file cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// It is not PEM.
    #[error("the file is not in the PEM format ({0})")]
    NotPem(#[from] pem::Error),
    /// A certificate in it is none of an authority.
    #[error("a certificate in the file cannot be an authority ({0})")]
    NotAuthority(#[from] rustls::Error),
    /// There is none in it.
    #[error("there is no certificate in the file")]
    Empty,
}

impl Authorities {
    /// Those of Amazon's stores.
    pub fn amazon() -> Self {
        install_provider();
        Self(Cow::Borrowed(AMAZON))
    }

    /// Those in a PEM file, in place of Amazon's.
    ///
    /// # Errors
    /// When the file cannot be read or holds anything but authorities.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        install_provider();
        let authorities = Self(Cow::Owned(std::fs::read(path)?));
        if authorities.store()?.is_empty() {
            return Err(Error::Empty);
        }
        Ok(authorities)
    }

    /// Reads `TLS_CA_FILE`, the authorities of the stores' certificates as PEM; where it is empty: Amazon's.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.optional("TLS_CA_FILE") {
            Some(file) => reader.built("TLS_CA_FILE", Self::from_file(Path::new(&file))),
            None => Some(Self::amazon()),
        }
    }

    /// One PEM block for each.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }

    /// For a client of rustls.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn store(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&self.0) {
            store.add(certificate?)?;
        }
        Ok(store)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authorities")
    }
}

/// Before the first connection: the client of Redis panics when there is no provider, or a choice of several.
fn install_provider() {
    // An error says that it has been installed before.
    let _ = aws_lc_rs::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_that_is_compiled_in_can_be_one() {
        let text = std::str::from_utf8(AMAZON).unwrap();
        assert_eq!(Authorities::amazon().store().unwrap().len(), text.matches("-BEGIN CERTIFICATE-").count());
        for region in ["us-east-1", "eu-west-1", "sa-east-1"] {
            assert!(text.contains(&format!("# Amazon RDS {region} Root CA RSA2048 G1")), "{region}");
        }
    }
}
