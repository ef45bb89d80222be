//! The contract's records, imports and exports, generated from `wit/v1.0` and checked in.
//!
//! Never edited: `HOOKLOOM_BLESS=1 cargo test -p hookloom-plugin --test bindings` writes them anew, and without the variable
//! the same test compares. Checked in, since the generator's own dependencies would cost every cold build of a plugin half a
//! minute. One module a world, so that a plugin exports only what it has; the records are those of `mapper` in both.

#[expect(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
#[expect(clippy::allow_attributes, clippy::unwrap_used, reason = "generated")]
#[rustfmt::skip]
pub mod mapper;

#[expect(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
#[expect(clippy::allow_attributes, clippy::unwrap_used, reason = "generated")]
#[rustfmt::skip]
pub mod reshaper;
