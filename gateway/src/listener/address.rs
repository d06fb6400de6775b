//! Whose request it is, when proxies stand between.

use std::net::IpAddr;

use http::HeaderMap;

use crate::limits::Network;

/// The client's address: the peer's, unless that is a trusted proxy. Then it is the right-most of `X-Forwarded-For` that
/// is no trusted proxy; what stands left of it may be invented.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    let mut client = peer;
    if !is_proxy(peer) {
        return client;
    }
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Some(address) = parse(hop.trim()) else { break };
        client = address;
        if !is_proxy(address) {
            break;
        }
    }
    client
}

/// Some proxies write a port.
fn parse(hop: &str) -> Option<IpAddr> {
    let address = hop.parse().or_else(|_| hop.parse().map(|address: std::net::SocketAddr| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(peer: &str, lines: &[&str]) -> String {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn a_stranger_is_believed_nothing() {
        assert_eq!(ask("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn behind_a_proxy_the_right_most_stranger_counts() {
        assert_eq!(ask("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(ask("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"]), "198.51.100.7");
        assert_eq!(ask("::1", &["203.0.113.9", "198.51.100.7:4711"]), "198.51.100.7");
    }

    #[test]
    fn rubbish_ends_the_search() {
        assert_eq!(ask("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(ask("10.0.0.1", &[]), "10.0.0.1");
    }
}
