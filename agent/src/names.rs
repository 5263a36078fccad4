//! Addresses of names, without the resolver of the C library: it loads modules of the host, which a
//! statically linked program does not survive.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{TokioResolver, net::NetError};

#[derive(Debug, thiserror::Error)]
pub enum NameError {
    #[error("cannot read this machine's name service settings; give the runner's IP address instead")]
    Settings(#[source] NetError),
    #[error("cannot find the address of {host}; check the name, or give the runner's IP address instead")]
    Lookup {
        host: String,
        #[source]
        source: NetError,
    },
}

/// The addresses of `host`, an IP address or a name.
pub async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, NameError> {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let lookup_failed = |source| NameError::Lookup {
        host: host.to_owned(),
        source,
    };
    let resolver = TokioResolver::builder_tokio()
        .map_err(NameError::Settings)?
        .build()
        .map_err(NameError::Settings)?;
    let found = resolver.lookup_ip(host).await.map_err(lookup_failed)?;
    Ok(found.iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Splits `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare IPv6 address.
pub fn split_host_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        let port = match rest {
            "" => default_port,
            rest => rest.strip_prefix(':')?.parse().ok()?,
        };
        return Some((host.to_owned(), port));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Some((text.to_owned(), default_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, default_port),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_ports() {
        let split = |text| split_host_port(text, 443);
        let some = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(split("10.0.0.7"), some("10.0.0.7", 443));
        assert_eq!(split("runner:8443"), some("runner", 8443));
        assert_eq!(split("fd00::7"), some("fd00::7", 443));
        assert_eq!(split("[fd00::7]:99"), some("fd00::7", 99));
        for bad in ["", ":1", "runner:", "runner:x", "[fd00::7", "[::1]1"] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn addresses_need_no_name_service() {
        assert_eq!(addresses("[::1]", 5).await.unwrap(), ["[::1]:5".parse().unwrap()]);
    }
}
