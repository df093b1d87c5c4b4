//! The end: stop accepting, let what is under way finish, say what could not.

use std::{io, process::ExitCode, sync::atomic::Ordering, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{admin::Admin, server::Listeners};

/// Serves until SIGTERM or SIGINT, and then drains for at most this long.
pub(crate) async fn wait_and_drain(
    listeners: Listeners,
    admin: &Admin,
    limit: Duration,
) -> ExitCode {
    match told_to_stop().await {
        Ok(by) => tracing::info!(by, "stopping"),
        Err(error) => {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
    }
    admin.stopping.store(true, Ordering::Relaxed);
    if timeout(limit, listeners.drain()).await.is_ok() {
        tracing::info!("drained");
        return ExitCode::SUCCESS;
    }
    for proxy in &admin.proxies {
        let requests = proxy.outcomes.in_flight();
        if requests > 0 {
            tracing::warn!(upstream = proxy.name, requests, "cut off");
        }
    }
    ExitCode::FAILURE
}

async fn told_to_stop() -> io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
