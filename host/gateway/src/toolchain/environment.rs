//! Which variables of our own environment a build of a plugin must not see.
//!
//! Under `cargo run` and `cargo test` the environment describes the build of *this* program: its compiler, its flags, its
//! target folder, its libraries. A plugin is built with another compiler for another target.

use std::ffi::{OsStr, OsString};

/// Cargo settings of the user about places and networks: they hold for a plugin as well.
const KEPT: [&str; 6] =
    ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRY_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];

/// Beginnings of the names that are removed, unless [`KEPT`] has them.
const REMOVED: [&str; 6] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "LD_LIBRARY_PATH", "DYLD_"];

/// The names among `inherited` that have to be removed before a build of a plugin.
///
/// rustup's choice of toolchain goes only where cargo runs us: there it is cargo's, elsewhere the user's.
pub(super) fn foreign(inherited: &[OsString]) -> Vec<&OsStr> {
    let under_cargo = inherited.iter().any(|name| name == "CARGO");
    let is_foreign = |name: &OsStr| {
        let name = name.to_string_lossy();
        let starts_with = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        (starts_with(&REMOVED) && !starts_with(&KEPT)) || (under_cargo && name == "RUSTUP_TOOLCHAIN")
    };
    inherited.iter().map(OsString::as_os_str).filter(|name| is_foreign(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(inherited: &[&str], expected: &[&str]) {
        let inherited: Vec<OsString> = inherited.iter().map(OsString::from).collect();
        assert_eq!(foreign(&inherited), expected);
    }

    #[test]
    fn what_a_surrounding_cargo_sets_is_removed() {
        check(
            &[
                "CARGO",
                "CARGO_PKG_NAME",
                "CARGO_TARGET_DIR",
                "RUSTC_WRAPPER",
                "RUSTFLAGS",
                "LD_LIBRARY_PATH",
                "RUSTUP_TOOLCHAIN",
            ],
            &[
                "CARGO",
                "CARGO_PKG_NAME",
                "CARGO_TARGET_DIR",
                "RUSTC_WRAPPER",
                "RUSTFLAGS",
                "LD_LIBRARY_PATH",
                "RUSTUP_TOOLCHAIN",
            ],
        );
    }

    #[test]
    fn what_the_user_set_about_places_and_networks_stays() {
        check(
            &["PATH", "HOME", "CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTUP_HOME", "RUST_BACKTRACE"],
            &[],
        );
        check(&["RUSTUP_TOOLCHAIN"], &[]);
    }
}
