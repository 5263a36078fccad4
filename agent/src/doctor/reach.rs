//! Whether a connection comes about, and if not, which of the reasons that have different remedies it was.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    report::{Check, Verdict},
    socket,
};

/// Three attempts of the kernel fit in, one second and two seconds apart.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    #[error("no answer within {} s: something drops what is sent, or the answers", CONNECT_MAX.as_secs())]
    Silent,
    #[error("refused: nothing listens there, or a firewall rejects it")]
    Refused,
    #[error("cut off at once: a device on the way, or what listens there, does not want it")]
    Reset,
    #[error("no route: a router says that there is no way, or there is none out of this server")]
    NoRoute,
    #[error("this server's own firewall forbids it")]
    Forbidden,
    #[error("cannot connect: {0}")]
    Other(String),
}

impl From<io::Error> for Unreached {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::TimedOut => Self::Silent,
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted => Self::Reset,
            Kind::NetworkUnreachable | Kind::HostUnreachable => Self::NoRoute,
            Kind::PermissionDenied => Self::Forbidden,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Opens a connection and says how long that took: once there and back.
pub async fn connect(to: SocketAddr, segment: Option<u16>) -> Result<(TcpStream, Duration), Unreached> {
    let socket = if to.is_ipv6() {
        TcpSocket::new_v6()?
    } else {
        TcpSocket::new_v4()?
    };
    if let Some(bytes) = segment {
        socket::set_segment(&socket, bytes)?;
    }
    let began = Instant::now();
    let stream = timeout(CONNECT_MAX, socket.connect(to))
        .await
        .map_err(|_| Unreached::Silent)??;
    Ok((stream, began.elapsed()))
}

/// The address that this server would send from. Sends nothing.
pub fn source_towards(to: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if to.is_ipv6() {
        "[::]:0".parse().ok()?
    } else {
        "0.0.0.0:0".parse().ok()?
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// What to tell of a connection that did not come about.
pub fn check(to: SocketAddr, unreached: &Unreached) -> Check {
    let from = source_towards(to);
    let (here, port) = (source_name(from), to.port());
    let allow = format!("TCP from {here} to {}, port {port}", to.ip());
    let remedy = match unreached {
        Unreached::Silent => format!(
            "Allow {allow}: outward at the source network's firewall, inward in the runner's security group and its \
             subnet's network ACL, where the answers to ports 1024-65535 of {here} have to be allowed too. The \
             runner's route table needs a way back to {here}."
        ),
        Unreached::Refused => format!(
            "See whether orglift-runner runs at {} and listens on port {port}, and whether both are what the console \
             shows. If so, a firewall rejects it: allow {allow}.",
            to.ip()
        ),
        Unreached::Reset => {
            format!("Have the device on the way let through {allow}, without looking into it.")
        }
        Unreached::NoRoute => format!(
            "Add a route from {here} to {}, on this server or on the routers of its network; a firewall that rejects \
             may say the same: allow {allow}.",
            to.ip()
        ),
        Unreached::Forbidden => {
            format!("Allow {allow}, outward in this server's firewall (nft list ruleset).")
        }
        Unreached::Other(_) => format!("Allow {allow}, and try again."),
    };
    Check {
        from,
        to: Some(to),
        remedy: Some(remedy),
        ..Check::new("tcp", Verdict::NeedsAHand, unreached.to_string())
    }
}

pub fn source_name(from: Option<IpAddr>) -> String {
    from.map_or_else(|| "this server".to_owned(), |from| from.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        connect(to, Some(536)).await.unwrap();
        drop(listener);
        let unreached = connect(to, None).await.unwrap_err();
        assert_eq!(unreached, Unreached::Refused);
        let check = check(to, &unreached);
        assert_eq!(check.from, Some("127.0.0.1".parse().unwrap()));
        let remedy = check.remedy.unwrap();
        let allow = format!("allow TCP from 127.0.0.1 to 127.0.0.1, port {}", to.port());
        assert!(remedy.contains(&allow), "{remedy}");
    }

    #[test]
    fn each_reason_has_its_own_remedy() {
        let to = "192.0.2.7:1500".parse().unwrap();
        let remedies: std::collections::BTreeSet<_> = [
            Unreached::Silent,
            Unreached::Refused,
            Unreached::Reset,
            Unreached::NoRoute,
            Unreached::Forbidden,
            Unreached::Other("x".into()),
        ]
        .iter()
        .map(|unreached| check(to, unreached).remedy)
        .collect();
        assert_eq!(remedies.len(), 6);
        for remedy in remedies.into_iter().flatten() {
            assert!(remedy.contains("to 192.0.2.7, port 1500"), "{remedy}");
        }
    }
}
