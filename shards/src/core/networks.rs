//! Networks: whose word about somebody else's address is taken.

use ::core::net::{IpAddr, Ipv6Addr};
use ::core::str::FromStr;

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// An address and how many of its leading bits count, IPv4 as the part of IPv6 that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    bits: u128,
    mask: u128,
}

/// What is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network such as 10.0.0.0/8, fd00::/8 or 192.0.2.7")]
pub struct BadNetwork(Box<str>);

impl Networks {
    /// Whether the address is in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = bits_of(address);
        self.0.iter().any(|network| bits & network.mask == network.bits)
    }
}

/// Whom an address stands for: itself, or with IPv6 its /64, all of which one host may have.
pub(super) fn host_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        four @ IpAddr::V4(_) => four,
    }
}

/// An address as a number, IPv4 as the part of IPv6 that stands for it.
pub(super) fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

impl FromStr for Networks {
    type Err = BadNetwork;

    /// Reads a list separated by commas.
    fn from_str(list: &str) -> Result<Self, BadNetwork> {
        let named = list.split(',').map(str::trim).filter(|network| !network.is_empty());
        named.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let bad = || BadNetwork(text.into());
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let (most, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let length = length.map_or(Ok(most), str::parse).map_err(|_| bad())?;
        if length > most {
            return Err(bad());
        }
        let mask = u128::MAX.checked_shl(128 - before - length).unwrap_or(0);
        let bits = bits_of(address);
        // Bits behind the mask are a slip that would widen what is trusted.
        if bits & mask == bits { Ok(Self { bits, mask }) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_or_not() {
        let networks: Networks = "10.0.0.0/8, 192.0.2.7,fd00::/8,".parse().expect("networks");
        for inside in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.7", "fd12::1"] {
            assert!(networks.contains(inside.parse().expect("an address")), "{inside}");
        }
        for outside in ["11.0.0.0", "192.0.2.8", "fe00::1", "::", "::10.1.2.3"] {
            assert!(!networks.contains(outside.parse().expect("an address")), "{outside}");
        }
        assert!(!Networks::default().contains("10.1.2.3".parse().expect("an address")));
        let all: Networks = "0.0.0.0/0".parse().expect("a network");
        assert!(all.contains("8.8.8.8".parse().expect("an address")));
        assert!(!all.contains("2001:db8::1".parse().expect("an address")));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for bad in ["10.0.0.0/33", "10.0.0.1/8", "10.0.0", "fd00::/129", "a", "10.0.0.0/-1", "/8"] {
            let error = bad.parse::<Networks>().expect_err(bad).to_string();
            assert!(error.contains(bad), "{error}");
        }
    }
}
