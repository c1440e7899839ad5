//! An HTTP client of the edge with a persistent connection.
use anyhow::{Context as _, Result, ensure};
use axum::body::{Body, Bytes, to_bytes};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use emulator::http_api::PAYLOAD_BYTES_MAX;

/// A client with one connection.
#[derive(Debug)]
pub struct Client {
    port: u16,
    connection: Option<SendRequest<Body>>,
}

impl Client {
    /// Returns a client of the edge on this port; it connects at the first request.
    pub fn new(port: u16) -> Self {
        Self { port, connection: None }
    }

    /// Sends one request, with a JSON body unless it is empty.
    ///
    /// # Errors
    /// The edge cannot be reached, or closed the connection.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes)> {
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => connect(self.port).await.context("the edge cannot be reached")?,
        };
        let connection = self.connection.insert(connection);
        connection.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        Ok((status, to_bytes(Body::new(response.into_body()), PAYLOAD_BYTES_MAX).await?))
    }
}

async fn connect(port: u16) -> Result<SendRequest<Body>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The request in flight returns the connection's error.
    tokio::spawn(connection);
    Ok(sender)
}

/// A client of the admin API, with the crew's token.
#[derive(Debug)]
pub struct Crew {
    client: Client,
    token: String,
}

impl Crew {
    /// Returns a client with a token of the scope `admin`.
    pub fn new(port: u16, token: String) -> Self {
        Self { client: Client::new(port), token }
    }

    /// Sends a request and returns its answer.
    ///
    /// # Errors
    /// The request fails, or its status is not 2xx.
    pub async fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.client.send(method, path, &self.token, body).await?;
        let text = || String::from_utf8_lossy(&answer).into_owned();
        ensure!(status.is_success(), "{method} {path} answered {status}: {}", text());
        serde_json::from_slice(&answer).with_context(|| format!("{method} {path} answered {}", text()))
    }
}
