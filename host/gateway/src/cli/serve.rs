//! `hookloom serve`

use std::{process::ExitCode, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigArguments, LogFilter};
use crate::{
    clock::SystemClock,
    server::Server,
    store::{PageRequest, resource::ApiKey},
};

pub async fn run(arguments: ConfigArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.load()?;
    let log = super::log_to_stderr(config.log_format, &config.log_filter)?;
    // First: who knows that the gateway listens may tell it to stop.
    let (stop, mut reload) = (StopSignals::listen()?, signal(SignalKind::hangup())?);
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    anstream::eprintln!("hookloom listens on http://{}", server.address());
    let keys = server.gateway().store.list::<ApiKey>(None, PageRequest::oldest(1)).await?;
    if keys.rows.is_empty() {
        anstream::eprintln!("There is no operator key yet; make one with: hookloom key create --operator");
    }
    let stopped = stop.wait();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            _ = reload.recv() => read_anew(&arguments, &log),
        }
    }
    tracing::info!("stopping");
    let drained = server.stop().await;
    Ok(if drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Takes from the configuration what can change while the gateway runs. If it is wrong, all stays as it is.
fn read_anew(arguments: &ConfigArguments, log: &LogFilter) {
    match arguments.load().and_then(|config| log.set(&config.log_filter).map(|()| config)) {
        Ok(config) => tracing::info!(
            filter = config.log_filter,
            "log.filter was read anew; keys for secrets are noticed by themselves, and all else counts from the next start"
        ),
        Err(error) => {
            tracing::error!(%error, "the configuration was not read anew: it is wrong, and nothing has changed")
        }
    }
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
