//! The test kit: a gateway on a store of its own, a client, a scripted receiver, plugins built from their sources.

pub mod client;
pub mod gateway;
pub mod judge;
pub mod patience;
pub mod plugins;
pub mod postgres;
pub mod python;
pub mod receiver;
