//! The checked-in bindings, in Rust and in C, are what the generators make of the contract today. Rust's
//! leave out one export ([`without_post_return`]).
//!
//! `HOOKLOOM_BLESS=1` writes them instead of comparing.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};

/// The worlds, each in a file of its name. `mapper` also has the interfaces that all share.
const WORLDS: [&str; 2] = ["mapper", "reshaper"];

/// Interfaces that `mapper` has already.
const SHARED: [&str; 2] = ["host", "types"];

/// Records that have a default value.
const DEFAULTS: [(&str, &str); 2] = [
    ("hookloom:plugin/types@1.0.0/contact", "#[derive(Default)]"),
    ("hookloom:plugin/types@1.0.0/origin", "#[derive(Default)]"),
];

/// The default of an enumeration.
const DEFAULT_MEMBERS: [(&str, &str); 1] = [("hookloom:plugin/types@1.0.0/origin.system", "#[default]")];

#[test]
fn the_bindings_are_those_of_the_contract() {
    for world in WORLDS {
        let files = generate(Box::new(options(world).build()), world).unwrap();
        let (_, generated) = files.iter().next().expect("the generator writes a file");
        let generated = without_post_return(str::from_utf8(generated).unwrap());
        compare(&folder().join("src/bindings").join(world).with_extension("rs"), generated.as_bytes());
    }
}

#[test]
fn the_bindings_for_c_are_those_of_the_contract() {
    for world in WORLDS {
        let files = generate(options_for_c().build(), world).unwrap();
        let folder = folder().join("c/bindings").join(world);
        for (name, generated) in files.iter() {
            compare(&folder.join(name), generated);
        }
    }
}

/// The SDK's folder.
fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compare(path: &Path, generated: &[u8]) {
    if env::var_os("HOOKLOOM_BLESS").is_some() {
        let folder = path.parent().expect("a file lies in a folder");
        let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, generated));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(found == generated, "{} is out of date: run this test with HOOKLOOM_BLESS=1", path.display());
}

fn generate(mut generator: Box<dyn WorldGenerator>, world: &str) -> Result<Files, Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(folder().join("../wit/v1.0"))?;
    let world_id = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    generator.generate(&mut resolve, world_id, &mut files)?;
    Ok(files)
}

/// Leaves out the export that frees a result: the instance that it lies in ends with the call, so it would cost a call and do nothing.
fn without_post_return(generated: &str) -> String {
    let name = generated.find("\"cabi_post_").expect("the generator exports it");
    let start = generated[..name].rfind("#[unsafe").expect("an export has its name from an attribute");
    // What follows the function is the end of the block that it stands in.
    let end = name + generated[name..].find("};").expect("the exports stand in a block");
    let kept = [generated[..start].trim_end(), " ", &generated[end..]].concat();
    assert!(!kept.contains("cabi_post_"), "one export, one such function");
    kept
}

/// One name for both worlds, so that the SDK's own C speaks to either. The component's type comes from the contract when it is built.
fn options_for_c() -> wit_bindgen_c::Opts {
    wit_bindgen_c::Opts {
        rename_world: Some("contract".to_owned()),
        no_object_file: true,
        ..wit_bindgen_c::Opts::default()
    }
}

fn options(world: &str) -> Opts {
    let shared = SHARED.map(|interface| {
        let path = format!("crate::bindings::mapper::hookloom::plugin::{interface}");
        (format!("hookloom:plugin/{interface}@1.0.0"), WithOption::Path(path))
    });
    let first = world == "mapper";
    Opts {
        format: true,
        generate_all: true,
        with: if first { Vec::new() } else { shared.to_vec() },
        pub_export_macro: true,
        export_macro_name: Some(format!("__export_{world}_component")),
        default_bindings_module: Some(format!("$crate::bindings::{world}")),
        runtime_path: Some("crate::abi".to_owned()),
        // Rust guests have no static constructors.
        disable_run_ctors_once_workaround: true,
        additional_derive_attributes: vec!["PartialEq".to_owned(), "Eq".to_owned()],
        additional_type_attributes: if first { DEFAULTS.map(owned).to_vec() } else { Vec::new() },
        additional_member_attributes: if first { DEFAULT_MEMBERS.map(owned).to_vec() } else { Vec::new() },
        ..Opts::default()
    }
}

fn owned((name, attribute): (&str, &str)) -> (String, String) {
    (name.to_owned(), attribute.to_owned())
}
