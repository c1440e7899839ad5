//! What the edge keeps from the gateway, as the template configures it.

use std::str::FromStr;

use runtime::environment::Reader;

/// The protection of `POST /votes`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    /// Limit of requests by token and minute; 0: none.
    votes_per_token: u32,
    gateway_address: GatewayAddress,
}

/// Whether the gateway has an address of its own, by which clients bypass the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GatewayAddress {
    Open,
    Closed,
}

impl Edge {
    /// Reads `VOTES_PER_TOKEN` and `GATEWAY_ADDRESS`.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (votes_per_token, gateway_address) =
            (reader.parsed("VOTES_PER_TOKEN"), reader.parsed("GATEWAY_ADDRESS"));
        Some(Self { votes_per_token: votes_per_token?, gateway_address: gateway_address? })
    }

    /// Returns whether each token's votes are limited, whatever way they take.
    pub fn limits_votes(self) -> bool {
        self.votes_per_token > 0 && self.gateway_address == GatewayAddress::Closed
    }
}

impl FromStr for GatewayAddress {
    type Err = InvalidGatewayAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(InvalidGatewayAddress),
        }
    }
}

/// The error for any other word than `open` and `closed`.
#[derive(Debug)]
pub(crate) struct InvalidGatewayAddress;

impl std::fmt::Display for InvalidGatewayAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("must be open or closed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_limited_by_a_rule_that_no_client_bypasses() {
        for (votes_per_token, gateway_address, limited) in
            [("120", "closed", true), ("0", "closed", false), ("120", "open", false)]
        {
            let lookup = |name: &str| match name {
                "VOTES_PER_TOKEN" => Some(votes_per_token.to_owned()),
                "GATEWAY_ADDRESS" => Some(gateway_address.to_owned()),
                _ => None,
            };
            let edge = Edge::read(&mut Reader::new(&lookup)).expect("both are given");
            assert_eq!(edge.limits_votes(), limited, "{votes_per_token} {gateway_address}");
        }
    }
}
