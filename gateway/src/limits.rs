//! Bounds that many sockets share, and the rates of one.

use std::{
    collections::{HashMap, hash_map},
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Sustained; at least 1.
    pub per_second: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// What is left of a [`Rate`]: one number, the time at which the bucket will be full again.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes one at `now`, a time since any fixed moment; or says how long to wait.
    pub(crate) fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        let one = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.full_at.max(now);
        let room_from = (full_at + one).saturating_sub(one * rate.burst.max(1));
        if room_from > now {
            return Err(room_from - now);
        }
        self.full_at = full_at + one;
        Ok(())
    }
}

/// A network in CIDR notation; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The text was not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address or a network such as 10.0.0.0/8")]
pub struct ParseNetworkError(String);

impl Network {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, ParseNetworkError> {
        let wrong = || ParseNetworkError(text.to_owned());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(at, prefix)| (at, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse().map_err(|_| wrong()))?;
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

/// What one address holds, counted so that no address takes all.
#[derive(Debug)]
pub(crate) struct Addresses {
    most: u32,
    held: Mutex<HashMap<IpAddr, u32>>,
}

/// One of what an address holds; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// One more for this address, unless it has as many as it may.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let address = network_of(address);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Permit { addresses: self.clone(), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.addresses.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let hash_map::Entry::Occupied(mut count) = held.entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Whom an address belongs to: IPv6 users are given a /64 at least.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let rate = Rate { per_second: 10, burst: 3 };
        let mut bucket = Bucket::default();
        let start = Duration::from_secs(5);
        assert!((0..3).all(|_| bucket.take(rate, start).is_ok()));
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(rate, start + Duration::from_millis(100)).is_err());
        let later = start + Duration::from_secs(60);
        assert!((0..3).all(|_| bucket.take(rate, later).is_ok()));
        assert!(bucket.take(rate, later).is_err(), "rest does not add to the burst");
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_others() {
        let network: Network = "10.1.0.0/16".parse().unwrap();
        assert!(network.contains("10.1.255.255".parse().unwrap()));
        assert!(network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!network.contains("10.2.0.0".parse().unwrap()));
        assert!(!network.contains("::1".parse().unwrap()));
        assert!("::/0".parse::<Network>().unwrap().contains("2001:db8::1".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "ten/8", "::1/129", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_address_gets_back_what_it_drops() {
        let addresses = Addresses::new(2);
        let mine = "192.0.2.1".parse().unwrap();
        let first = addresses.admit(mine).unwrap();
        let _second = addresses.admit(mine).unwrap();
        assert!(addresses.admit(mine).is_none());
        assert!(addresses.admit("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(addresses.admit(mine).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let addresses = Addresses::new(1);
        let _one = addresses.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(addresses.admit("2001:db8::2".parse().unwrap()).is_none());
        assert!(addresses.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
    }

    #[test]
    fn nothing_is_kept_of_an_address_that_is_gone() {
        let addresses = Addresses::new(1);
        drop(addresses.admit("192.0.2.1".parse().unwrap()));
        assert!(addresses.held.lock().unwrap().is_empty());
    }
}
