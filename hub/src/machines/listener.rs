//! TLS for machines, with what the client's certificate says, and where it reached the hub, put beside each request.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Extension, middleware::AddExtension};
use axum_server::{
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use futures_util::future::BoxFuture;
use identity::{IdentityError, Peer, tls::server_for_enrolment};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tower::Layer;

use crate::pki::Pki;

/// What the client's certificate says of it; nothing if it showed none.
#[derive(Debug, Clone)]
pub struct Shown(pub Option<Peer>);

/// The hub's address as the connection came in: where its firewall must let machines through.
#[derive(Debug, Clone, Copy)]
pub struct ArrivedAt(pub SocketAddr);

#[derive(Debug, Clone)]
pub struct MachineAcceptor(RustlsAcceptor);

impl MachineAcceptor {
    pub fn new(pki: &Pki) -> Result<Self, IdentityError> {
        let mut config = server_for_enrolment(&pki.credentials)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(RustlsAcceptor::new(RustlsConfig::from_config(Arc::new(
            config,
        )))))
    }
}

impl<S> Accept<TcpStream, S> for MachineAcceptor
where
    S: Send + 'static,
{
    type Stream = TlsStream<TcpStream>;
    type Service = AddExtension<AddExtension<S, Shown>, ArrivedAt>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let acceptor = self.0.clone();
        Box::pin(async move {
            let at = stream.local_addr()?;
            // A listener of both families shows IPv4 within IPv6.
            let at = ArrivedAt(SocketAddr::new(at.ip().to_canonical(), at.port()));
            let (stream, service) = acceptor.accept(stream, service).await?;
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first());
            let peer = leaf
                .map(Peer::from_certificate)
                .transpose()
                .map_err(io::Error::other)?;
            Ok((stream, Extension(at).layer(Extension(Shown(peer)).layer(service))))
        })
    }
}
