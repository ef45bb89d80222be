//! Extism takes core modules, and the linker of this project's guests makes components.

fn main() {
    println!("cargo:rustc-link-arg=--skip-wit-component");
}
