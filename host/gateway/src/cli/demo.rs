//! `hookloom demo`: both directions on real input, in one process, on loopback.
//!
//! Builds the example plugins, starts a gateway on the embedded store and a receiver that verifies every signature with
//! the published Standard Webhooks library, sets a tenant up through the API, and tells what happens to one inbound
//! event and five messages. Then it stays up, unless `--once` asks for the verdict alone.

mod receiver;
mod story;
mod system;
mod tenant;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Instant};

use anyhow::Context as _;

use super::{
    client::Client,
    style::{DIM, GOOD, HEADING, RESET},
};
use crate::{
    api::auth::NewKey,
    cli::serve::StopSignals,
    clock::SystemClock,
    config::Config,
    server::Server,
    store::resource::Role,
    toolchain::{self, Built},
};

use receiver::Receiver;
use tenant::Tenant;

/// The plugins that the demo builds.
const PLUGINS: [&str; 3] = ["job-completed", "crm-contact", "redact"];

/// Where the examples lie in a clone of the repository.
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../example-plugins");

#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Tell the story, then end: with 0 only if all of it held.
    #[arg(long)]
    once: bool,
    /// Where the gateway listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Folder for the store; a second run goes on with it.
    #[arg(long, value_name = "DIR", default_value = "hookloom-demo")]
    data: PathBuf,
    /// Folder with the example plugins.
    #[arg(long, value_name = "DIR", default_value = EXAMPLES)]
    examples: PathBuf,
}

pub async fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    super::log_to_stderr(crate::config::LogFormat::Text, "warn")?;
    let config = config(&arguments)?;
    anstream::println!("{HEADING}Hookloom demo{RESET}");
    let plugins = build(arguments.examples.clone()).await?;
    let receiver = Receiver::start().await.context("could not start the receiver")?;
    let server = Server::start(config, Arc::new(SystemClock)).await?;
    let told = tell(&server, &receiver, &plugins, &arguments).await;
    let held = match told {
        Ok((tenant, held)) => {
            if !arguments.once {
                let stop = StopSignals::listen()?;
                go_on(&server, &tenant, &arguments);
                stop.wait().await;
            }
            Ok(held)
        }
        Err(error) => Err(error),
    };
    server.stop().await;
    Ok(if held? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn config(arguments: &DemoArguments) -> anyhow::Result<Config> {
    // The receiver is on loopback, over HTTP: what a gateway refuses unless its operator allows it.
    let egress = "[egress]\nallow_subnets = [\"127.0.0.0/8\"]\ndangerous_allow_http = true\n";
    let mut config = Config::parse(egress, &[]).map_err(|problems| anyhow::anyhow!(problems.join("\n")))?;
    config.listen = arguments.listen;
    config.store_path = arguments.data.join("hookloom.db");
    config.secret_key_file = arguments.data.join("secret.key");
    config.cache_path = arguments.data.join("cache");
    Ok(config)
}

async fn build(examples: PathBuf) -> anyhow::Result<Vec<Built>> {
    anyhow::ensure!(
        examples.join("Cargo.toml").is_file(),
        "the example plugins are not at {}: clone the repository, or name their folder with --examples",
        examples.display()
    );
    let start = Instant::now();
    let built = tokio::task::spawn_blocking(move || {
        toolchain::build_workspace(&examples, &PLUGINS, &mut |note| anstream::eprintln!("{DIM}  {note}{RESET}"))
    });
    let built = built.await??;
    let sizes: Vec<String> = built.iter().map(|it| format!("{} {} KiB", it.name, it.bytes.div_ceil(1024))).collect();
    anstream::println!(
        "  plugins   {} {DIM}(built in {:.1} s){RESET}",
        sizes.join(", "),
        start.elapsed().as_secs_f64()
    );
    Ok(built)
}

/// Sets the tenant up and tells the story; answers whether all of it held.
async fn tell(
    server: &Server,
    receiver: &Receiver,
    plugins: &[Built],
    arguments: &DemoArguments,
) -> anyhow::Result<(Tenant, bool)> {
    let gateway = server.gateway();
    let now = gateway.clock.now();
    let (_, key, writes) = NewKey::lasting(None, Role::Operator, "demo").make(&gateway.minter, now);
    gateway.write(writes, now).await?;
    anstream::println!(
        "  gateway   http://{} {DIM}(store: {}){RESET}",
        server.address(),
        arguments.data.join("hookloom.db").display()
    );
    anstream::println!("  receiver  {} {DIM}(verifies with the `standardwebhooks` crate){RESET}", receiver.url());
    let operator = Client::new(&format!("http://{}", server.address()), &key)?;
    let tenant = Tenant::set_up(&operator, receiver, plugins, &gateway.minter).await?;
    let held = story::tell(&tenant, receiver).await?;
    match held {
        true => anstream::println!("\n{GOOD}All of it held.{RESET}"),
        false => anstream::println!("\n{}Not all of it held.{RESET}", super::style::ERROR),
    }
    Ok((tenant, held))
}

fn go_on(server: &Server, tenant: &Tenant, arguments: &DemoArguments) {
    let base = format!("http://{}/api/v1/app/{}", server.address(), tenant.app);
    let auth = format!("-H 'Authorization: Bearer {}'", tenant.key);
    anstream::println!("\n{HEADING}Go on{RESET} {DIM}(the gateway stays up; Ctrl-C stops it){RESET}");
    anstream::println!("  post another event:");
    anstream::println!(
        "    curl -X POST '{}' -H 'Content-Type: application/json' \\\n      -d '{}'",
        tenant.source_url,
        system::SYSTEM.event
    );
    anstream::println!("  publish a message:");
    anstream::println!(
        "    curl -X POST '{base}/msg' {auth} \\\n      -H 'Content-Type: application/json' -d '{{\"eventType\":\"message.inbound\",\"payload\":{{\"name\":\"Ann\",\"message\":\"Hi\"}}}}'"
    );
    anstream::println!("  see what became of it:");
    for what in ["inbound", "msg", "call", "dead-letter"] {
        anstream::println!("    curl '{base}/{what}' {auth}");
    }
    anstream::println!("  break the mapper and see it held: upload another version to '{base}/plugin', activate it");
    anstream::println!("  the store stays in {}", arguments.data.display());
}
