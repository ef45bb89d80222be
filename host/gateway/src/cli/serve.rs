//! `hookloom serve`

use std::{process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    clock::SystemClock,
    config::Config,
    server::Server,
    store::{PageRequest, resource::ApiKey},
};

pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(config.log_format, &config.log_filter)?;
    // First: who knows that the gateway listens may tell it to stop.
    let stop = StopSignals::listen()?;
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    anstream::eprintln!("hookloom listens on http://{}", server.address());
    let keys = server.gateway().store.list::<ApiKey>(None, PageRequest::oldest(1)).await?;
    if keys.rows.is_empty() {
        anstream::eprintln!("There is no operator key yet; make one with: hookloom key create --operator");
    }
    stop.wait().await;
    tracing::info!("stopping");
    let drained = server.stop().await;
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C and SIGTERM, which end the process at once unless somebody listens for them.
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// From here on a signal waits for [`StopSignals::wait`].
    ///
    /// # Errors
    /// The system takes no handler.
    pub fn listen() -> std::io::Result<StopSignals> {
        Ok(StopSignals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for either.
    pub async fn wait(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
