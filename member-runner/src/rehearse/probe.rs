//! What an operator has said that must answer in a machine that came up.

use std::{net::SocketAddr, time::Duration};

use domain::launch::Expects;
use tokio::{net::TcpStream, time::timeout};

use crate::machine::{Forward, Machine};

/// Over the loopback; the machine itself may be slow.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long the machine may take to accept a connection.
const ACCEPT_MAX: Duration = Duration::from_secs(1);

/// `forward` must be one of the machine's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub forward: Forward,
    pub expects: Expects,
}

impl Probe {
    /// Whether the machine gives the answer now.
    pub async fn answers(&self, machine: &mut Machine) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.forward.host));
        match &self.expects {
            Expects::Tcp => accepts(machine, address, self.forward.guest).await,
            Expects::Http { path, status } => http_status(address, path).await == Some(*status),
        }
    }
}

/// QEMU accepts a connection before it asks the machine, so the machine's own answer is looked up.
async fn accepts(machine: &mut Machine, address: SocketAddr, guest_port: u16) -> bool {
    let Ok(Ok(_connection)) = timeout(ACCEPT_MAX, TcpStream::connect(address)).await else {
        return false;
    };
    tokio::time::sleep(ACCEPT_MAX / 4).await;
    matches!(machine.has_accepted(guest_port).await, Ok(true))
}

/// `None` if there is no answer. The body is not read.
async fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(ANSWER_MAX)
        .build()
        .ok()?;
    let path = path.trim_start_matches('/');
    let answer = client.get(format!("http://{address}/{path}")).send().await.ok()?;
    Some(answer.status().as_u16())
}
