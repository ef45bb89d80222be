//! The checked-in bindings are what the generator makes of the contract today.
//!
//! `HOOKLOOM_BLESS=1` writes them instead of comparing.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
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
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR"));
    for world in WORLDS {
        let generated = generate(&sdk.join("../wit/v1.0"), world).unwrap();
        let path = file_of(sdk, world);
        if env::var_os("HOOKLOOM_BLESS").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == generated, "{} is out of date: run this test with HOOKLOOM_BLESS=1", path.display());
    }
}

fn file_of(sdk: &Path, world: &str) -> PathBuf {
    sdk.join("src/bindings").join(world).with_extension("rs")
}

fn generate(contract: &Path, world: &str) -> Result<String, Box<dyn Error>> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(contract)?;
    let world_id = resolve.select_world(&[package], Some(world))?;
    let mut files = Files::default();
    options(world).build().generate(&mut resolve, world_id, &mut files)?;
    let (_, contents) = files.iter().next().ok_or("the generator wrote no file")?;
    Ok(String::from_utf8(contents.to_vec())?)
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
