//! TLS: one crypto provider for every connection, and the certificate authorities that the stores' certificates must
//! be signed by.

use std::{borrow::Cow, fmt, io, path::Path};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem, pem::PemObject},
};

use crate::environment::Reader;

/// The authorities of Amazon RDS and ElastiCache, as PEM. `certs/README.md` documents their origin.
const AMAZON: &[u8] = include_bytes!("../certs/amazon.pem");

/// Certificate authorities. The constructors also install the crypto provider, which every connection needs.
#[derive(Clone)]
pub struct Authorities(Cow<'static, [u8]>);

/// The reason why a file contains no valid authorities.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the file cannot be read ({0})")]
    Unreadable(#[from] io::Error),
    /// The file is not PEM.
    #[error("the file is not in the PEM format ({0})")]
    NotPem(#[from] pem::Error),
    /// The file contains a certificate that is no authority.
    #[error("a certificate in the file cannot be an authority ({0})")]
    NotAuthority(#[from] rustls::Error),
    /// The file contains no certificate.
    #[error("there is no certificate in the file")]
    Empty,
}

impl Authorities {
    /// Returns the authorities of Amazon's stores.
    pub fn amazon() -> Self {
        install_provider();
        Self(Cow::Borrowed(AMAZON))
    }

    /// Reads the authorities in a PEM file, which replace Amazon's.
    ///
    /// # Errors
    /// If the file cannot be read or contains anything but authorities.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        install_provider();
        let authorities = Self(Cow::Owned(std::fs::read(path)?));
        if authorities.store()?.is_empty() {
            return Err(Error::Empty);
        }
        Ok(authorities)
    }

    /// Reads the PEM file that `TLS_CA_FILE` names. If the variable is empty, returns Amazon's authorities.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        match reader.optional("TLS_CA_FILE") {
            Some(file) => reader.built("TLS_CA_FILE", Self::from_file(Path::new(&file))),
            None => Some(Self::amazon()),
        }
    }

    /// Returns one PEM block for each authority.
    pub fn pem(&self) -> &[u8] {
        &self.0
    }

    /// Returns the root store for a rustls client.
    ///
    /// # Errors
    /// If a certificate is no authority.
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

/// Installs the crypto provider. Without a default provider, or with several to choose from, the Redis client panics.
fn install_provider() {
    // An error means that a provider is already installed.
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
