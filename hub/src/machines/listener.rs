//! TLS for machines, with what the client's certificate says put beside each request.

use std::{io, sync::Arc};

use axum::{Extension, middleware::AddExtension};
use axum_server::{
    accept::Accept,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use futures_util::future::BoxFuture;
use identity::{IdentityError, Peer, tls::server_for_enrolment};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use tower::Layer;

use crate::pki::Pki;

/// What the client's certificate says of it; nothing if it showed none.
#[derive(Debug, Clone)]
pub struct Shown(pub Option<Peer>);

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

impl<I, S> Accept<I, S> for MachineAcceptor
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Send + 'static,
{
    type Stream = TlsStream<I>;
    type Service = AddExtension<S, Shown>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let acceptor = self.0.clone();
        Box::pin(async move {
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
            Ok((stream, Extension(Shown(peer)).layer(service)))
        })
    }
}
