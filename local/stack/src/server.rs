//! The two listeners: the edge with the stack's own routes, and the AWS endpoint.
use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    response::Response,
    serve::ListenerExt as _,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{RunArguments, local_api::LocalApi};
use emulator::{
    aws_endpoint::{self, Services},
    edge::Edge,
    http_api::Viewer,
};

/// Path prefix of the stack's own routes.
pub const BASE_PATH: &str = "/_local";

/// Time for requests in flight to end; those of the API take at most 30 s, nearly all far less.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The bound ports; binding comes before any other start.
#[derive(Debug)]
pub struct Listeners {
    edge: TcpListener,
    aws: TcpListener,
}

impl Listeners {
    /// Binds both ports on the loopback interface only, since the stack issues tokens to anybody. A port 0 in the
    /// arguments becomes the port that the kernel chose.
    ///
    /// # Errors
    /// Names the port in use and the option that chooses another.
    pub async fn bind(arguments: &mut RunArguments) -> Result<Self> {
        let bind = async |port: &mut u16, flag: &str| {
            let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, *port)).await;
            let listener = listener
                .with_context(|| format!("port {port} cannot be used: choose another with {flag}"))?;
            *port = listener.local_addr()?.port();
            anyhow::Ok(listener)
        };
        Ok(Self {
            edge: bind(&mut arguments.port, "--port").await?,
            aws: bind(&mut arguments.aws_port, "--aws-port").await?,
        })
    }
}

/// The running listeners.
#[derive(Debug)]
pub struct Servers {
    edge: Server,
    aws: Server,
}

#[derive(Debug)]
struct Server {
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Servers {
    /// Starts both servers.
    pub fn start(listeners: Listeners, edge: Arc<Edge>, local_api: LocalApi, aws: Services) -> Self {
        let router = Router::new().nest(BASE_PATH, local_api.router()).fallback(to_edge).with_state(edge);
        Self {
            edge: Server::start(listeners.edge, router),
            aws: Server::start(listeners.aws, aws_endpoint::router(aws)),
        }
    }

    /// Stops accepting requests at the edge and waits for those in flight.
    pub async fn stop_edge(&self) {
        self.edge.stop().await;
    }

    /// Stops both servers.
    pub async fn stop(self) {
        self.edge.stop().await;
        self.aws.stop().await;
        self.edge.task.abort();
        self.aws.task.abort();
    }
}

impl Server {
    fn start(listener: TcpListener, router: Router) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        // Small answers over persistent connections: Nagle's algorithm would only add delay.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let task = tokio::spawn(async move {
            let until = async move { drop(stopped.wait_for(|stop| *stop).await) };
            axum::serve(listener, service).with_graceful_shutdown(until).await
        });
        Self { stop, task }
    }

    async fn stop(&self) {
        self.stop.send_replace(true);
        let ended = async {
            while !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, ended).await;
    }
}

async fn to_edge(
    State(edge): State<Arc<Edge>>,
    ConnectInfo(viewer): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    request.extensions_mut().insert(Viewer(viewer.ip()));
    edge.handle(request).await
}
