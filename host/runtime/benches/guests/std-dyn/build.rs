//! Takes the smaller stack of the project's own toolchain back: the linker's last word counts.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-zstack-size=1048576");
}
