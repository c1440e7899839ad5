//! The address of a ledger, as a short hash: what other stores keep of a ledger is kept under it.

use std::fmt;

use sha2::{Digest, Sha256};

/// A hash of a ledger's host, port and database name. It contains no user, password or parameter, so all clients of a
/// ledger have the same one. A ledger restored into another server has another one. Displayed as 8 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerAddress([u8; 4]);

impl LedgerAddress {
    /// Hashes an address. `host` is a name, or the folder of a Unix socket.
    pub fn new(host: &str, port: u16, database: &str) -> Self {
        let hash: [u8; 32] = Sha256::digest(format!("{host}:{port}/{database}")).into();
        Self(std::array::from_fn(|byte| hash[byte]))
    }
}

impl fmt::Display for LedgerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_start_of_the_addresss_hash() {
        // printf db.example:5432/votes | sha256sum | head -c 8
        assert_eq!(LedgerAddress::new("db.example", 5432, "votes").to_string(), "cd3c5bf7");
    }
}
