//! Ctrl-C and SIGTERM: the first requests a graceful stop, the second an immediate one.
use anyhow::Result;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Counts requests to stop.
#[derive(Debug, Clone)]
pub struct StopRequests {
    count: watch::Receiver<u32>,
}

impl StopRequests {
    /// Installs handlers for Ctrl-C and SIGTERM.
    ///
    /// # Errors
    /// A handler cannot be installed.
    pub fn listen() -> Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, count) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                sender.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { count })
    }

    /// Waits until this many requests have come.
    pub async fn reached(&self, number: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= number).await.is_err() {
            // The task is gone, so no more signals can come.
            std::future::pending::<()>().await;
        }
    }
}
