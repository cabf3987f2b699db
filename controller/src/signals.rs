//! Being asked to end, on any system.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Whoever may ask this program to end.
pub(crate) struct End {
    #[cfg(unix)]
    signals: [Signal; 2],
}

impl End {
    /// Listens from now on.
    ///
    /// # Errors
    /// When signals cannot be received.
    #[cfg(unix)]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { signals: [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?] })
    }

    /// Waits for the first of them.
    #[cfg(unix)]
    pub(crate) async fn asked(&mut self) {
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }

    /// Listens from now on.
    ///
    /// # Errors
    /// Never: Windows has Ctrl-C alone, which is listened for when it is waited for.
    #[cfg(not(unix))]
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) async fn asked(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
