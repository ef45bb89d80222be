//! Svix's official clients, unchanged, against a gateway: each drives every resource that it has and the document lists. Their
//! versions are pinned in `tests/clients` and `Cargo.toml`; what newer ones have and the document lacks answers 404.
//!
//! And a property-based client over the whole document, and the page behind a portal link in a browser's stead.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use hookloom::toolchain;
use hookloom_tests::{
    gateway::TestGateway,
    python::{self, run},
    receiver::Receiver,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A gateway, its operator's key, and a receiver.
struct Scene {
    gateway: TestGateway,
    receiver: Receiver,
}

impl Scene {
    async fn start() -> Self {
        Self { gateway: TestGateway::start().await, receiver: Receiver::start().await }
    }

    fn url(&self) -> String {
        format!("http://{}", self.gateway.server().address())
    }

    /// Runs a program that finds the gateway and the receiver in its environment.
    async fn run(&self, mut command: Command) -> String {
        command.env("SVIX_SERVER_URL", self.url()).env("SVIX_TOKEN", self.gateway.key());
        command.env("RECEIVER_URL", self.receiver.url("")).env("NO_PROXY", "127.0.0.1");
        let ran = tokio::task::spawn_blocking(move || run(&mut command)).await.unwrap();
        ran.unwrap_or_else(|problem| panic!("{problem}"))
    }
}

async fn python_program(requirements: &str, name: &str) -> Command {
    let requirements = folder().join(requirements);
    let environment = tokio::task::spawn_blocking(move || python::environment(&requirements)).await.unwrap();
    Command::new(environment.unwrap_or_else(|problem| panic!("{problem}")).join("bin").join(name))
}

/// Installs what the scripts need.
async fn install() {
    tokio::task::spawn_blocking(|| toolchain::install_npm_packages(&folder(), &mut |note| eprintln!("{note}")))
        .await
        .unwrap()
        .unwrap_or_else(|problem| panic!("{problem}"));
}

fn script(name: &str) -> Command {
    let mut program = Command::new("node");
    program.arg(name).current_dir(folder());
    program
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_works_unchanged() {
    // The newest, and one from before rotations were answered with the new secret.
    for requirements in ["requirements.txt", "svix-2.5.txt"] {
        let scene = Scene::start().await;
        let mut program = python_program(requirements, "python").await;
        program.arg(folder().join("check.py"));
        assert!(scene.run(program).await.ends_with("all of it held\n"), "{requirements}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_javascript_client_works_unchanged_and_passes_its_own_tests() {
    let scene = Scene::start().await;
    install().await;
    assert!(scene.run(script("check.mjs")).await.ends_with("all of it held\n"));
    // The only one of the package's own tests that asks a server.
    let mut own = Command::new("node");
    own.args(["--import", "tsx", "--test", "node_modules/svix/src/KitchenSink.test.ts"]).current_dir(folder());
    let said = scene.run(own).await;
    assert!(said.contains("fail 0") && said.contains("skipped 0") && !said.contains("pass 0"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_the_page_behind_a_portal_link_does_what_a_tenants_people_need_and_runs_nothing_that_it_shows() {
    let scene = Scene::start().await;
    install().await;
    assert!(scene.run(script("portal.mjs")).await.ends_with("all of it held\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_rust_client_works_unchanged() {
    let scene = Scene::start().await;
    // A workspace of its own: the client brings another TLS than ours.
    let mut program = Command::new(env!("CARGO"));
    program
        .args(["run", "--quiet", "--locked", "--target-dir", "../../../target/clients"])
        .current_dir(folder().join("rust"));
    assert!(scene.run(program).await.ends_with("all of it held\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_based_client_finds_no_server_error_and_no_undocumented_answer() {
    let scene = Scene::start().await;
    let mut program = python_program("requirements.txt", "schemathesis").await;
    let report = tempfile::tempdir().unwrap();
    program.current_dir(report.path()).args(["run", &format!("{}/openapi.json", scene.url()), "--url", &scene.url()]);
    program.args(["--header", &format!("Authorization: Bearer {}", scene.gateway.key())]);
    program.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    program.args(["--checks", "response_schema_conformance,response_headers_conformance"]);
    program.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--seed", "5", "--workers", "1"]);
    // The one would end the key that asks, the other's body is no text.
    program.args(["--exclude-operation-id", "v1.instance.delete-key", "--exclude-operation-id", "v1.version.create"]);
    program.args(["--suppress-health-check", "all", "--no-color", "--max-time", "150"]);
    scene.run(program).await;
}
