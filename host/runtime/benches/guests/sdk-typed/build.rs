//! A payload of its own type that holds no `Value` nests no deeper than the type, so a small stack is enough; with it the memory is one page.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-cdylib=-zstack-size=16384");
}
