//! Ctrl-C and SIGTERM: the first asks to stop, the second to stop at once.
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
    /// Takes over Ctrl-C and SIGTERM.
    ///
    /// # Errors
    /// The signals cannot be taken over.
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

    /// Waits until there have been this many.
    pub async fn reached(&self, number: u32) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count >= number).await.is_err() {
            // No more signals can come.
            std::future::pending::<()>().await;
        }
    }
}
