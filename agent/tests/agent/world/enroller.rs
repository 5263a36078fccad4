//! The runner's HTTPS, with a hub behind it that knows one token.

use std::sync::{Arc, Mutex};

use domain::{digest::Digest, ids::SourceServerId};
use identity::{Authority, Credentials, Role};
use protocol::enrol::{AgentEnrolment, EnrolledAgent, Problem, Token};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

pub const SERVER: u128 = 0xabc;

pub struct Enroller {
    pub port: u16,
    pub seen: Arc<Mutex<Vec<AgentEnrolment>>>,
    ca_sha256: [u8; 32],
    _tasks: JoinSet<()>,
}

fn secret(fill: &str) -> String {
    fill.repeat(43)
}

impl Enroller {
    pub async fn start(authority: Authority, credentials: &Credentials) -> Self {
        let ca_sha256 = identity::credentials::fingerprint(authority.certificate_pem()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(
            identity::tls::server_for_enrolment(credentials).unwrap(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = seen.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                // A check of the port, or a client that does not trust us.
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let enrolment: AgentEnrolment = serde_json::from_slice(&body(&mut stream).await).unwrap();
                let (status, answer) = answer(&authority, &enrolment);
                requests.lock().unwrap().push(enrolment);
                let response = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                     connection: close\r\n\r\n{answer}",
                    answer.len()
                );
                stream.write_all(response.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        Self {
            port,
            seen,
            ca_sha256,
            _tasks: tasks,
        }
    }

    pub fn token(&self) -> String {
        self.reveal("a")
    }

    pub fn used_token(&self) -> String {
        self.reveal("b")
    }

    fn reveal(&self, fill: &str) -> String {
        Token {
            secret: secret(fill),
            ca_sha256: self.ca_sha256,
        }
        .reveal()
    }

    /// A token of another console.
    pub fn foreign_token() -> String {
        let foreign = Token {
            secret: secret("a"),
            ca_sha256: Digest([7; 32]).0,
        };
        foreign.reveal()
    }
}

fn answer(authority: &Authority, enrolment: &AgentEnrolment) -> (&'static str, String) {
    if enrolment.token_secret != secret("a") {
        let problem = Problem {
            code: "token_used".into(),
            message: "this token has been used; create a new one in the console".into(),
        };
        return ("403 Forbidden", serde_json::to_string(&problem).unwrap());
    }
    let server = SourceServerId::from_entropy(SERVER);
    let signed = authority
        .sign(&enrolment.csr_pem, &Role::Agent(server.clone()))
        .unwrap();
    let enrolled = EnrolledAgent {
        server,
        certificate_pem: signed.certificate_pem,
        ca_pem: authority.certificate_pem().to_owned(),
        active_servers: 3,
    };
    ("200 OK", serde_json::to_string(&enrolled).unwrap())
}

/// Reads one HTTP/1.1 request and gives its body.
async fn body(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        let mut room = [0; 4096];
        let got = stream.read(&mut room).await.unwrap();
        assert!(got > 0, "a whole request");
        request.extend_from_slice(&room[..got]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with("POST /v1/enrol "), "{head}");
        let length: usize = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map(|(_, value)| value.parse().unwrap())
            .unwrap();
        if rest.len() >= length {
            return rest.as_bytes().to_vec();
        }
    }
}
