//! Recognizes components whose core module can be run without the component around it.
//!
//! Most plugins are one core module that a build tool has wrapped: a shim and a fixup module connect it with the host functions,
//! which need its memory, and `canon` definitions say how values cross. The engine makes three instances of that for each call.
//! [`find`] evaluates the wiring symbolically; where it is exactly what `wit-component` makes for contract 1.0, the module alone
//! has the same behavior under `bindings/v1_0/unwrapped.rs`. What is not recognized, for whatever reason, is run as the component
//! that it is: a doubt costs some microseconds a call and nothing else. Pure; the component is valid already.
//!
//! What is proved, so that both forms do the same:
//!
//! - Three modules, each instantiated once, or the main module alone; no start function, so that nothing runs before the call.
//! - The main module imports `log` and `settings` and nothing else; each leads through a shim function (`modules.rs`) and the table
//!   slot that the fixup module fills to the function that lowers the component's own import of that name.
//! - All lifting and lowering has the same memory and `realloc`, both of the main module, and UTF-8; none is asynchronous.
//! - The types are the contract's, item by item (`types.rs`).

mod modules;
mod reset;
mod sections;
mod types;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use wasmparser::types::Types;
use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, ExternalKind, Instance, Payload,
};

use self::modules::{Fixup, Shim};
pub(crate) use self::reset::Reset;
use self::sections::{is_plain, plain, renaming, sections};
use crate::bindings::v1_0;

/// Bytes of all names of a module's exports together: they are kept with a cached artefact.
const NAMES_BYTES_MAX: usize = 1024;

/// A core module that can be run alone, and what of it its component uses.
///
/// It is kept with a cached artefact, as a part of [`super::Structure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unwrapped {
    /// Where it lies in the component.
    pub(crate) module: Range<u64>,
    /// The export that is its memory.
    pub(crate) memory: String,
    /// The export that makes room for what the host writes.
    pub(crate) realloc: String,
    pub(crate) map: Option<Entry>,
    pub(crate) reshape: Option<Entry>,
    /// Elements of the shim's table, which a call has to be able to afford.
    pub(crate) shim_elements: usize,
    /// How an instance is put back to how it began, where that is possible.
    pub(crate) reset: Option<Reset>,
}

/// The exports behind a function of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) function: String,
    pub(crate) post_return: Option<String>,
}

/// Finds the module in `component` that can be run alone; `types` are the component's.
pub(super) fn find(component: &[u8], types: &Types) -> Option<Unwrapped> {
    (is_plain(component) && types::imports_fit(types)).then_some(())?;
    let mut wiring = Wiring::default();
    let end = sections(component, |payload| wiring.read(component, types, payload))?;
    (end == component.len()).then_some(())?;
    let mut found = wiring.conclude()?;
    found.reset = Reset::find(found.module_in(component)?);
    Some(found)
}

/// A function that the host offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostFunction {
    Log,
    Settings,
}

impl HostFunction {
    fn named(name: &str) -> Option<HostFunction> {
        match name {
            "log" => Some(HostFunction::Log),
            "settings" => Some(HostFunction::Settings),
            _ => None,
        }
    }

    /// Parameters of its core function, each an `i32`; there are no results.
    fn parameters(self) -> usize {
        match self {
            HostFunction::Log => 3,
            HostFunction::Settings => 1,
        }
    }
}

/// A core function, by what it leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CoreFunction<'a> {
    /// Of the shim, by its place there.
    Shim(usize),
    /// An export of the main module.
    Main(&'a str),
    Lowered(HostFunction),
}

/// Something else that a core instance exports.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Item<'a> {
    Function(CoreFunction<'a>),
    ShimTable,
}

#[derive(Debug)]
enum CoreInstance<'a> {
    Main,
    Shim,
    Fixup,
    /// Put together of what others export.
    Items(HashMap<&'a str, Item<'a>>),
}

/// A function of the component.
#[derive(Clone, Copy, Debug)]
enum Function<'a> {
    Host(HostFunction),
    Lifted(Lifted<'a>),
}

#[derive(Clone, Copy, Debug)]
struct Lifted<'a> {
    function: &'a str,
    post_return: Option<&'a str>,
    /// Index of the type that it is lifted to.
    ty: u32,
}

#[derive(Debug)]
enum ComponentPart<'a> {
    /// The imported interface `host`.
    Host,
    /// An imported interface of types only.
    Types,
    /// An interface to export.
    Interface(HashMap<&'a str, Lifted<'a>>),
}

/// The index spaces of the component, as far as they have been read.
#[derive(Default)]
struct Wiring<'a> {
    modules: Vec<(Range<usize>, &'a [u8])>,
    instantiated: usize,
    core_instances: Vec<CoreInstance<'a>>,
    core_functions: Vec<CoreFunction<'a>>,
    /// Each is the main module's export of this name.
    memories: Vec<&'a str>,
    /// Each is the shim's.
    tables: usize,
    functions: Vec<Function<'a>>,
    /// Components that only rename: what they export, and the name of the import that it is.
    renamings: Vec<HashMap<&'a str, &'a str>>,
    instances: Vec<ComponentPart<'a>>,
    main: Option<Range<usize>>,
    shim: Option<Shim<'a>>,
    /// What the table's slots hold.
    slots: Option<Vec<CoreFunction<'a>>>,
    /// What the main module imports, and the function of the shim behind it.
    imports: Vec<(HostFunction, usize)>,
    memory: Option<&'a str>,
    realloc: Option<&'a str>,
    map: Option<Lifted<'a>>,
    reshape: Option<Lifted<'a>>,
}

impl<'a> Wiring<'a> {
    /// Takes in a section of the component; `None` where it has something that is not recognized.
    fn read(&mut self, component: &'a [u8], types: &Types, payload: Payload<'a>) -> Option<()> {
        match payload {
            Payload::Version { encoding, .. } => (encoding == Encoding::Component).then_some(()),
            // Types are looked up where they are used.
            Payload::ComponentTypeSection(_) | Payload::CoreTypeSection(_) | Payload::CustomSection(_) => Some(()),
            Payload::ModuleSection { unchecked_range: range, .. } => {
                self.modules.push((range.clone(), component.get(range)?));
                Some(())
            }
            Payload::ComponentSection { unchecked_range: range, .. } => {
                self.renamings.push(renaming(component.get(range)?)?);
                Some(())
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import.ok()?;
                    let ComponentTypeRef::Instance(_) = import.ty else { return None };
                    self.instances.push(match plain(&import.name)? {
                        v1_0::HOST => ComponentPart::Host,
                        v1_0::TYPES => ComponentPart::Types,
                        _ => return None,
                    });
                }
                Some(())
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    let instance = self.core_instance(instance.ok()?)?;
                    self.core_instances.push(instance);
                }
                Some(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(&alias.ok()?)?;
                }
                Some(())
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical(&function.ok()?)?;
                }
                Some(())
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    let instance = self.instance(&instance.ok()?)?;
                    self.instances.push(instance);
                }
                Some(())
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    let ComponentExternalKind::Instance = export.kind else { return None };
                    self.export(types, plain(&export.name)?, export.index)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn core_instance(&mut self, instance: Instance<'a>) -> Option<CoreInstance<'a>> {
        let (module, args) = match instance {
            Instance::FromExports(exports) => {
                let mut items = HashMap::new();
                for export in &exports {
                    let index = usize::try_from(export.index).ok()?;
                    let item = match export.kind {
                        ExternalKind::Func => Item::Function(*self.core_functions.get(index)?),
                        ExternalKind::Table if index < self.tables => Item::ShimTable,
                        _ => return None,
                    };
                    items.insert(export.name, item);
                }
                return Some(CoreInstance::Items(items));
            }
            Instance::Instantiate { module_index, args } => {
                (self.modules.get(usize::try_from(module_index).ok()?)?.clone(), args)
            }
        };
        self.instantiated += 1;
        let (range, bytes) = module;
        if args.is_empty()
            && self.shim.is_none()
            && let Some(shim) = Shim::parse(bytes)
        {
            self.shim = Some(shim);
            return Some(CoreInstance::Shim);
        }
        let argument = |module: &str, name: &str| {
            let arg = args.iter().find(|arg| arg.name == module)?;
            match self.core_instances.get(usize::try_from(arg.index).ok()?)? {
                CoreInstance::Items(items) => items.get(name).copied(),
                _ => None,
            }
        };
        if self.main.is_none() {
            let mut imports = Vec::new();
            for (module, name) in modules::parse_main(bytes)? {
                let function = HostFunction::named(name).filter(|_| module == v1_0::HOST)?;
                let Item::Function(CoreFunction::Shim(place)) = argument(module, name)? else { return None };
                imports.push((function, place));
            }
            (self.main, self.imports) = (Some(range), imports);
            return Some(CoreInstance::Main);
        }
        if self.slots.is_some() {
            return None;
        }
        let fixup = Fixup::parse(bytes)?;
        if argument(fixup.table.0, fixup.table.1)? != Item::ShimTable {
            return None;
        }
        let slots = fixup.slots.iter().map(|(module, name)| match argument(module, name)? {
            Item::Function(function) => Some(function),
            Item::ShimTable => None,
        });
        self.slots = Some(slots.collect::<Option<_>>()?);
        Some(CoreInstance::Fixup)
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) -> Option<()> {
        match *alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let instance = self.core_instances.get(usize::try_from(instance_index).ok()?)?;
                match (kind, instance) {
                    (ExternalKind::Func, CoreInstance::Main) => self.core_functions.push(CoreFunction::Main(name)),
                    (ExternalKind::Func, CoreInstance::Shim) => {
                        let place = *self.shim.as_ref()?.exports.get(name)?;
                        self.core_functions.push(CoreFunction::Shim(place));
                    }
                    (ExternalKind::Table, CoreInstance::Shim) => {
                        (self.shim.as_ref()?.table == name).then_some(())?;
                        self.tables += 1;
                    }
                    (ExternalKind::Memory, CoreInstance::Main) => self.memories.push(name),
                    _ => return None,
                }
            }
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                let instance = self.instances.get(usize::try_from(instance_index).ok()?)?;
                match (kind, instance) {
                    (ComponentExternalKind::Type, _) => {}
                    (ComponentExternalKind::Func, ComponentPart::Host) => {
                        self.functions.push(Function::Host(HostFunction::named(name)?));
                    }
                    _ => return None,
                }
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Type, .. } => {}
            ComponentAlias::Outer { .. } => return None,
        }
        Some(())
    }

    fn canonical(&mut self, function: &CanonicalFunction) -> Option<()> {
        match function {
            CanonicalFunction::Lower { func_index, options } => {
                let Function::Host(host) = *self.functions.get(usize::try_from(*func_index).ok()?)? else {
                    return None;
                };
                let needs_realloc = host == HostFunction::Settings;
                if self.options(options, needs_realloc)?.is_some() {
                    return None;
                }
                self.core_functions.push(CoreFunction::Lowered(host));
            }
            CanonicalFunction::Lift { core_func_index, type_index, options } => {
                let function = self.main_function(*core_func_index)?;
                let post_return = self.options(options, true)?;
                self.functions.push(Function::Lifted(Lifted { function, post_return, ty: *type_index }));
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes in how values cross; answers with the function to call after a return, if there is one.
    fn options(&mut self, options: &[CanonicalOption], needs_realloc: bool) -> Option<Option<&'a str>> {
        let (mut memory, mut realloc, mut post_return) = (None, None, None);
        for option in options {
            match *option {
                CanonicalOption::UTF8 => {}
                CanonicalOption::Memory(index) => memory = Some(*self.memories.get(usize::try_from(index).ok()?)?),
                CanonicalOption::Realloc(index) => realloc = Some(self.main_function(index)?),
                CanonicalOption::PostReturn(index) => post_return = Some(self.main_function(index)?),
                _ => return None,
            }
        }
        let is_same = |known: Option<&str>, found: &str| known.is_none_or(|known| known == found);
        self.memory = Some(memory.filter(|memory| is_same(self.memory, memory))?);
        if let Some(realloc) = realloc {
            self.realloc = Some(Some(realloc).filter(|realloc| is_same(self.realloc, realloc))?);
        } else if needs_realloc {
            return None;
        }
        Some(post_return)
    }

    fn main_function(&self, index: u32) -> Option<&'a str> {
        match *self.core_functions.get(usize::try_from(index).ok()?)? {
            CoreFunction::Main(name) => Some(name),
            _ => None,
        }
    }

    fn instance(&self, instance: &ComponentInstance<'a>) -> Option<ComponentPart<'a>> {
        let ComponentInstance::Instantiate { component_index, args } = instance else { return None };
        let renaming = self.renamings.get(usize::try_from(*component_index).ok()?)?;
        let mut functions = HashMap::new();
        for (export, import) in renaming {
            let arg = args.iter().find(|arg| arg.name == *import && arg.kind == ComponentExternalKind::Func)?;
            let Function::Lifted(lifted) = *self.functions.get(usize::try_from(arg.index).ok()?)? else { return None };
            functions.insert(*export, lifted);
        }
        Some(ComponentPart::Interface(functions))
    }

    fn export(&mut self, types: &Types, name: &'a str, index: u32) -> Option<()> {
        let ComponentPart::Interface(functions) = self.instances.get(usize::try_from(index).ok()?)? else {
            return None;
        };
        let function = |member: &str, ty: &types::Function| {
            let lifted = *functions.get(member)?;
            (types::lifts(types, lifted.ty, ty) && types::exports(types, name, member, ty)).then_some(lifted)
        };
        match name {
            v1_0::MAPPING => self.map = Some(function("map", &types::MAP)?),
            v1_0::RESHAPING => self.reshape = Some(function("reshape", &types::RESHAPE)?),
            _ => return None,
        }
        // An export takes the next place in its index space.
        self.instances.push(ComponentPart::Types);
        Some(())
    }

    /// Whether everything fits together.
    fn conclude(self) -> Option<Unwrapped> {
        (self.instantiated == self.modules.len()).then_some(())?;
        let shim_elements = match (&self.shim, &self.slots) {
            (None, None) => 0,
            (Some(shim), Some(slots)) => {
                self.check_shim(shim, slots)?;
                slots.len()
            }
            _ => return None,
        };
        let entry = |lifted: Lifted<'_>| Entry {
            function: lifted.function.to_owned(),
            post_return: lifted.post_return.map(str::to_owned),
        };
        let (map, reshape) = (self.map.map(entry), self.reshape.map(entry));
        if map.is_none() && reshape.is_none() {
            return None;
        }
        let (memory, realloc) = (self.memory?.to_owned(), self.realloc?.to_owned());
        let main = self.main?;
        let module = main.start as u64..main.end as u64;
        let unwrapped = Unwrapped { module, memory, realloc, map, reshape, shim_elements, reset: None };
        (unwrapped.names_bytes() <= NAMES_BYTES_MAX).then_some(unwrapped)
    }

    /// Whether each function of the shim leads to a host function of its core type, and each import of the main module to the
    /// one that has its name.
    fn check_shim(&self, shim: &Shim<'_>, slots: &[CoreFunction<'_>]) -> Option<()> {
        (shim.table_elements == slots.len() as u64).then_some(())?;
        let mut behind = Vec::new();
        for function in &shim.functions {
            let CoreFunction::Lowered(host) = *slots.get(function.slot)? else { return None };
            (function.parameters == host.parameters()).then_some(())?;
            behind.push(host);
        }
        self.imports.iter().all(|(host, place)| behind.get(*place) == Some(host)).then_some(())
    }
}

impl Unwrapped {
    /// The module that the engine compiles; `None` where `component` is another one.
    pub(super) fn code<'a>(&self, component: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let module = self.module_in(component)?;
        match &self.reset {
            Some(reset) => reset.exposed(module).map(Cow::Owned),
            None => Some(Cow::Borrowed(module)),
        }
    }

    /// What is added to a place in that module to get the place in the component, modulo 2⁶⁴.
    pub(crate) fn offset(&self) -> u64 {
        let shift = self.reset.as_ref().map_or(0, |reset| reset.shift);
        self.module.start.wrapping_add_signed(-shift)
    }

    fn module_in<'a>(&self, component: &'a [u8]) -> Option<&'a [u8]> {
        component.get(usize::try_from(self.module.start).ok()?..usize::try_from(self.module.end).ok()?)
    }

    fn names_bytes(&self) -> usize {
        let entries = [&self.map, &self.reshape].into_iter().flatten();
        let functions = entries.flat_map(|entry| [Some(&entry.function), entry.post_return.as_ref()]).flatten();
        functions.chain([&self.memory, &self.realloc]).map(String::len).sum()
    }
}
