//! Hookloom, a multi-tenant webhook gateway with tenant-supplied WebAssembly transforms. Read in this order:
//!
//! - [`server`] wires the parts, starts and stops them; [`gateway`] is what they share; [`config`] what can be set.
//! - [`ingest`] accepts third parties' events, [`api`] the management requests and the platform's messages.
//! - [`console`] is the page that a portal link opens.
//! - [`pipeline`] takes what was accepted: event → mapper → [`rules`] → message → fan-out → reshaper → delivery.
//! - [`audit`] tells who changed what, and what was refused.
//! - [`replay`] sends again what was delivered, died or is missing.
//! - [`backtest`] is what a version would have made of recorded inputs, [`comparison`] how two answers to one input differ.
//! - [`profile`] is how webhook systems behave, as data: what sources take, and what endpoints get.
//! - [`delivery`] signs, sends, records and schedules the next attempt.
//! - [`store`] keeps everything; work resumes from it alone.
//! - [`plugins`] runs tenants' code on `hookloom-runtime`, under each tenant's [`limits`]; [`toolchain`] builds it.
//! - [`project`] is an author's folder: what its plugin is, and how a new one begins.
//! - [`login`] takes tokens of the platform's own login.
//! - [`sealing`] encrypts what is confidential in the store; [`reseal`] follows when its keys are rotated.
//! - [`timing`] counts how long each stage takes.
//! - `schema` describes to the document of the API what no wire type describes.
//! - [`secret`], [`id`], [`clock`], [`json`] are the small things underneath; [`cli`] is the command line.

pub mod api;
pub mod audit;
pub mod backtest;
pub mod cli;
pub mod clock;
pub mod comparison;
pub mod config;
pub mod console;
pub mod delivery;
pub mod directory;
pub mod engine;
pub mod gateway;
pub mod id;
pub mod ingest;
pub mod json;
pub mod keeper;
pub mod limits;
pub mod login;
pub mod pipeline;
pub mod plugins;
pub mod profile;
pub mod project;
pub mod quota;
pub mod replay;
pub mod reseal;
pub mod rollout;
pub mod rules;
pub(crate) mod schema;
pub mod sealing;
pub mod secret;
pub mod server;
pub mod store;
pub mod timing;
pub mod toolchain;
