//! From a place in a component's code to the function, file and line that its author wrote.
//!
//! Runs in the compile child only: debug information is a stranger's input, and reading it is neither bounded in time nor in
//! stack. Never on the path of a call. What can't be read is left out; nothing here is an error.

use std::collections::HashMap;
use std::ops::Range;

use addr2line::{Context, gimli};
use wasmparser::{Chunk, Parser, Payload, WasmFeatures};

use super::job::Place;
use crate::outcome::Frame;

/// Places of one frame, inlined functions included.
const PLACES_MAX: usize = 16;

/// Bytes of a name or a path.
const TEXT_BYTES_MAX: usize = 300;

type Slice<'a> = gimli::EndianSlice<'a, gimli::LittleEndian>;

/// A core module of the component, as far as it matters here.
struct Module<'a> {
    /// Where its code section's contents lie in the component; addresses in debug information count from its start.
    code: Range<u64>,
    sections: HashMap<&'a str, &'a [u8]>,
}

/// For each frame its places, innermost first; empty where nothing is known.
pub(crate) fn find(component: &[u8], frames: &[Frame]) -> Vec<Vec<Place>> {
    let modules = modules(component);
    let mut contexts: HashMap<usize, Option<Context<Slice<'_>>>> = HashMap::new();
    let mut places = |frame: &Frame| {
        // Offsets count from the component's first byte, so they tell the module too.
        let offset = frame.offset?;
        let index = modules.iter().position(|module| module.code.contains(&offset))?;
        let context = contexts.entry(index).or_insert_with(|| context(&modules[index])).as_ref()?;
        look_up(context, offset - modules[index].code.start)
    };
    frames.iter().map(|frame| places(frame).unwrap_or_default()).collect()
}

/// The core modules with code, in whatever depth.
fn modules(component: &[u8]) -> Vec<Module<'_>> {
    let mut modules = Vec::new();
    let mut open: Vec<Module<'_>> = Vec::new();
    let mut parser = Parser::new(0);
    parser.set_features(WasmFeatures::all());
    let mut parents = Vec::new();
    let mut rest = component;
    while let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) {
        match payload {
            Payload::Version { .. } => open.push(Module { code: 0..0, sections: HashMap::new() }),
            Payload::CodeSectionStart { range, size, .. } => {
                if let Some(module) = open.last_mut() {
                    module.code = range.start as u64..range.end as u64;
                }
                // Function bodies are of no interest: over all of them at once.
                parser.skip_section();
                let Some(after) = rest.get(consumed + size as usize..) else { break };
                rest = after;
                continue;
            }
            Payload::CustomSection(section) if section.name().starts_with(".debug_") => {
                if let Some(module) = open.last_mut() {
                    module.sections.insert(section.name(), section.data());
                }
            }
            Payload::ModuleSection { parser: nested, .. } | Payload::ComponentSection { parser: nested, .. } => {
                parents.push(std::mem::replace(&mut parser, nested));
            }
            Payload::End(_) => {
                modules.extend(open.pop().filter(|module| !module.code.is_empty()));
                match parents.pop() {
                    Some(parent) => parser = parent,
                    None => break,
                }
            }
            _ => {}
        }
        rest = &rest[consumed..];
    }
    modules
}

fn context<'a>(module: &Module<'a>) -> Option<Context<Slice<'a>>> {
    let section = |id: gimli::SectionId| -> Result<Slice<'a>, gimli::Error> {
        let data = module.sections.get(id.name()).copied().unwrap_or_default();
        Ok(gimli::EndianSlice::new(data, gimli::LittleEndian))
    };
    Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()
}

fn look_up(context: &Context<Slice<'_>>, address: u64) -> Option<Vec<Place>> {
    let mut frames = context.find_frames(address).skip_all_loads().ok()?;
    let mut places = Vec::new();
    while let (true, Ok(Some(frame))) = (places.len() < PLACES_MAX, frames.next()) {
        let function = frame.function.as_ref().and_then(|name| name.raw_name().ok()).map(|name| cut(&name));
        let (file, line) = frame.location.map_or((None, None), |place| (place.file.map(cut), place.line));
        places.push(Place { function, file, line });
    }
    Some(places)
}

/// The beginning of a text.
fn cut(text: &str) -> String {
    text.chars()
        .scan(0, |bytes, character| {
            *bytes += character.len_utf8();
            (*bytes <= TEXT_BYTES_MAX).then_some(character)
        })
        .collect()
}
