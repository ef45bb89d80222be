//! Each profile as the customer of its system meets it: the catalogue, the envelope, the headers, the signature checked as that
//! system's own documentation does it, time, status codes, retries, switching off, roles, failures, limits.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chekkit;
mod cheqroom;
mod customertext;
mod helpkit;
mod kit;
mod rkt;
mod senders;
mod sixth;
mod standard;
