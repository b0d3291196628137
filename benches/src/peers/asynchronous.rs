//! Echo servers on tokio's current-thread runtime, one task per connection, as their crates' own examples
//! have them.

use std::future::Future;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use futures_util::{StreamExt, TryStreamExt, future};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::accept_async_with_config;
use tungstenite::protocol::WebSocketConfig;

use super::BACKLOG;

type Announce = fn(SocketAddr) -> std::io::Result<()>;

/// Echoes with `fastwebsockets`, upgraded through hyper.
pub(super) fn fastwebsockets(address: SocketAddr, announce: Announce) -> Result<()> {
    serve(address, announce, |stream| async move {
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(fast_upgrade));
        // A client that goes away is no event here.
        let _ = connection.with_upgrades().await;
    })
}

async fn fast_upgrade(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move {
        let _ = tokio::task::unconstrained(fast_echo(upgraded)).await;
    });
    Ok(response)
}

async fn fast_echo(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// What tungstenite's documentation recommends for many connections of modest rate. Answers of one wake-up
/// still leave together, as far as they fit.
pub(super) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096)
}

/// Echoes with `tokio-tungstenite`.
pub(super) fn tungstenite(address: SocketAddr, config: WebSocketConfig, announce: Announce) -> Result<()> {
    serve(address, announce, move |stream| async move {
        let Ok(socket) = accept_async_with_config(stream, Some(config)).await else { return };
        let (write, read) = socket.split();
        // `forward` flushes when there is nothing more to read, so a wake-up makes one write.
        let _ = read
            .try_filter(|message| future::ready(message.is_text() || message.is_binary()))
            .forward(write)
            .await;
    })
}

fn serve<F>(address: SocketAddr, announce: Announce, connection: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = listen(address).with_context(|| format!("listening on {address}"))?;
        announce(listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await.context("accepting")?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream));
        }
    })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG.unsigned_abs())
}
