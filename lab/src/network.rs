//! The wire between agents and a runner: it can be cut in the middle of a frame, stalled and throttled.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::JoinSet,
};

/// Small, so that a cut or a stall strikes within a frame and soon.
const PIECE: usize = 4096;

/// What the wire does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Open,
    /// Nothing moves; connections stay.
    Stalled,
    /// Bytes per second, each way.
    Throttled(u32),
    /// Every connection breaks after this many more bytes towards the runner; new ones are refused.
    CutAfter(u64),
}

/// A proxy that stands for the network before one address.
#[derive(Debug)]
pub struct Network {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    traffic: Arc<Traffic>,
    _tasks: JoinSet<()>,
}

impl Network {
    pub async fn before(target: SocketAddr) -> anyhow::Result<Self> {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), target).await
    }

    /// At an address that whoever connects knows already.
    pub async fn at(address: SocketAddr, target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.context("cannot open a proxy")?;
        let address = listener.local_addr().context("a proxy without an address")?;
        let (wire, seen) = watch::channel(Wire::Open);
        let mut tasks = JoinSet::new();
        let traffic = Arc::default();
        let path = Path {
            target,
            wire: seen,
            traffic: Arc::clone(&traffic),
        };
        tasks.spawn(accept(listener, path));
        Ok(Self {
            address,
            wire,
            traffic,
            _tasks: tasks,
        })
    }

    /// Where to connect instead of to the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }

    /// Bytes that went towards the runner since the network was made.
    pub fn carried(&self) -> u64 {
        self.traffic.carried.load(Ordering::Relaxed)
    }

    /// Connections that were cut by [`Wire::CutAfter`].
    pub fn cuts(&self) -> u64 {
        self.traffic.cuts.load(Ordering::Relaxed)
    }

    /// Breaks every connection in the middle of what it carries next, and lets none through.
    pub fn cut_mid_frame(&self) {
        self.set(Wire::CutAfter(100_000));
    }

    pub fn restore(&self) {
        self.set(Wire::Open);
    }
}

/// What was seen of all connections.
#[derive(Debug, Default)]
struct Traffic {
    /// Bytes, towards the runner only.
    carried: AtomicU64,
    cuts: AtomicU64,
}

/// What each connection goes over.
#[derive(Debug, Clone)]
struct Path {
    target: SocketAddr,
    wire: watch::Receiver<Wire>,
    traffic: Arc<Traffic>,
}

/// Ports of the loopback that nobody listens on now. Who listens there says so if one is taken before that.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // All are held until all are known, so that they differ.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
        *port = listener
            .local_addr()
            .context("a listener without an address")?
            .port();
        held.push(listener);
    }
    Ok(ports)
}

async fn accept(listener: TcpListener, path: Path) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                if matches!(*path.wire.borrow(), Wire::CutAfter(_)) {
                    continue;
                }
                connections.spawn(carry(near, path.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(near: TcpStream, path: Path) {
    let Ok(far) = TcpStream::connect(path.target).await else {
        return;
    };
    let Path { wire, traffic, .. } = path;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    // Whichever way ends first takes the other with it: a cut cuts both.
    tokio::select! {
        () = one_way(near_in, far_out, wire.clone(), Some(&traffic)) => {}
        () = one_way(far_in, near_out, wire.clone(), None) => {}
    }
}

/// `traffic` counts what goes towards the runner; there is none for the way back.
async fn one_way(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut wire: watch::Receiver<Wire>,
    traffic: Option<&Traffic>,
) {
    let mut piece = vec![0; PIECE];
    let mut left_until_cut = None;
    loop {
        let mode = *wire.borrow_and_update();
        match mode {
            Wire::Stalled => {
                if wire.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Wire::CutAfter(_) if traffic.is_none() => {}
            Wire::CutAfter(bytes) => {
                left_until_cut.get_or_insert(bytes);
            }
            Wire::Open | Wire::Throttled(_) => left_until_cut = None,
        }
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            changed = wire.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok(read @ 1..) = read else { return };
        if let Wire::Throttled(per_second) = mode {
            let seconds = f64::from(u32::try_from(read).unwrap_or(u32::MAX)) / f64::from(per_second.max(1));
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        let pass = left_until_cut.map_or(read, |left| usize::try_from(left).unwrap_or(usize::MAX).min(read));
        if to.write_all(&piece[..pass]).await.is_err() {
            return;
        }
        if let Some(traffic) = traffic {
            traffic.carried.fetch_add(pass as u64, Ordering::Relaxed);
        }
        if let Some(left) = &mut left_until_cut {
            *left -= pass as u64;
            if *left == 0 {
                if let Some(traffic) = traffic {
                    traffic.cuts.fetch_add(1, Ordering::Relaxed);
                }
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn bytes_pass_until_the_wire_is_cut_and_again_once_it_is_restored() {
        let network = Network::before(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(network.address()).await.unwrap();
        let mut heard = [0; 5];
        stream.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");

        network.set(Wire::CutAfter(3));
        stream.write_all(b"hello").await.unwrap();
        let mut rest = Vec::new();
        // The end, or a reset: never all five bytes.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.len() <= 3, "{rest:?}");
        let mut refused = TcpStream::connect(network.address()).await.unwrap();
        assert!(matches!(refused.read(&mut heard).await, Ok(0) | Err(_)));

        network.restore();
        let mut stream = TcpStream::connect(network.address()).await.unwrap();
        stream.write_all(b"again").await.unwrap();
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"again");
    }
}
