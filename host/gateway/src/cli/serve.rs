//! `hookloom serve`

use std::{process::ExitCode, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    clock::SystemClock,
    config::Config,
    server::Server,
    store::{PageRequest, resource::ApiKey},
};

pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(config.log_format, &config.log_filter)?;
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    anstream::eprintln!("hookloom listens on http://{}", server.address());
    let keys = server.gateway().store.list::<ApiKey>(None, PageRequest::oldest(1)).await?;
    if keys.rows.is_empty() {
        anstream::eprintln!("There is no operator key yet; make one with: hookloom key create --operator");
    }
    until_told_to_stop().await?;
    tracing::info!("stopping");
    let drained = server.stop().await;
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn until_told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
