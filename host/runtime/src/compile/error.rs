//! Why a component is refused, each with what its author can do about it.

use thiserror::Error;

use crate::call;

/// Bytes of what a parser or compiler says about a component, in a message.
const DETAIL_BYTES_MAX: usize = 1000;

/// Bytes of a name from a component, in a message.
const NAME_BYTES_MAX: usize = 200;

/// A component was not accepted. The fault is its author's, and the text says what to do; but for
/// [`CompileError::Compiler`], where the host is to blame.
///
/// The fields have names and words from the component as they are. In the message they are escaped as a log line is, and cut, so
/// that it can be shown on a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// More bytes than an upload may have.
    #[error(
        "the component has {bytes} bytes, and at most {max} are allowed: strip debug information and build for size"
    )]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Anything but WebAssembly.
    #[error("this is no WebAssembly component: {}", shown(detail, DETAIL_BYTES_MAX))]
    NotAComponent {
        /// What it looks like.
        detail: String,
    },
    /// A core module, which has no component type.
    #[error(
        "this is a core WebAssembly module, not a component: link it with `wasm-component-ld`, or wrap it with \
         `wasm-tools component new`; `hookloom plugin build` does either"
    )]
    CoreModule,
    /// Machine code of some machine instead of WebAssembly.
    #[error(
        "this is compiled for a processor already (an ELF file): upload the WebAssembly component that it was made from"
    )]
    Precompiled,
    /// The end is missing.
    #[error("the component is cut off: {detail}")]
    Truncated {
        /// Where it ends and what is missing.
        detail: String,
    },
    /// It breaks the rules of WebAssembly.
    #[error("the component is invalid: {}", shown(detail, DETAIL_BYTES_MAX))]
    Invalid {
        /// What is wrong, and where.
        detail: String,
    },
    /// It wants what a plugin doesn't get.
    #[error(
        "the component imports {}, which plugins may not use: a plugin gets nothing but `hookloom:plugin/host`; build without \
         WASI, or have the build tool stub it",
        list(imports)
    )]
    ForbiddenImports {
        /// Each forbidden import, `interface` or `interface#function`, in the component's order.
        imports: Vec<String>,
    },
    /// It is built for a contract that this host doesn't know.
    #[error(
        "the component is built for version {0} of the plugin contract, and this host knows {supported}: build it with an SDK for \
         {supported}, or upgrade the host if {0} is newer",
        shown(found, NAME_BYTES_MAX)
    )]
    UnknownContract {
        /// The version that the component names.
        found: String,
        /// The newest version that the host knows.
        supported: String,
    },
    /// It exports neither a mapper nor a reshaper.
    #[error(
        "the component exports neither `hookloom:plugin/mapping` nor `hookloom:plugin/reshaping`: build it for one of the \
         worlds `mapper`, `reshaper` and `plugin`"
    )]
    NoExport,
    /// An import or export of the contract has another type than the contract says.
    #[error("`{item}` has another type than the plugin contract says: {}", shown(detail, DETAIL_BYTES_MAX))]
    WrongType {
        /// The import or export, `interface` or `interface#function`.
        item: String,
        /// What differs.
        detail: String,
    },
    /// It is composed of several components.
    #[error("the file is a composition of several components: upload one component")]
    SeveralComponents,
    /// It needs more of something than any instance gets.
    #[error("the component needs {needed} {what}, and at most {max} are allowed")]
    TooManyResources {
        /// What it needs.
        what: &'static str,
        /// How much.
        needed: u64,
        /// How much there is.
        max: u64,
    },
    /// It would take, or took, more than it may to compile it.
    #[error("compiling the component takes {}: {}", excess(*bound, *needed, *allowed), bound.advice())]
    Limit {
        /// Of what.
        bound: CompileBound,
        /// How much it would take, where that is known beforehand.
        needed: Option<u64>,
        /// How much is allowed, in the unit of the bound.
        allowed: u64,
    },
    /// The compiler could not be run, or failed in a way that is not the author's fault.
    #[error("the compiler failed: {}", shown(detail, DETAIL_BYTES_MAX))]
    Compiler {
        /// What happened, for the operator.
        detail: String,
    },
    /// The compiler refuses it.
    #[error("the component can't be compiled: {}", shown(detail, DETAIL_BYTES_MAX))]
    Compile {
        /// What the compiler says.
        detail: String,
    },
}

/// What compiling a component is bounded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileBound {
    /// Functions of all its core modules.
    Functions,
    /// Bytes of its largest function.
    FunctionBytes,
    /// Types.
    Types,
    /// Imports, exports, globals, aliases, instances, segments and custom sections.
    Items,
    /// Components, modules or their types within one another.
    Depth,
    /// Blocks open at once in a function.
    Nesting,
    /// Targets of the `br_table`s of a function.
    BranchTargets,
    /// Seconds of processor time.
    CpuSeconds,
    /// Seconds by the clock.
    WallClockSeconds,
    /// Bytes of memory.
    MemoryBytes,
    /// The machine's memory: the system ended the compiler.
    MachineMemory,
    /// The compiler's own stack.
    Stack,
    /// Bytes of the result.
    ArtefactBytes,
}

impl CompileBound {
    fn unit(self) -> &'static str {
        match self {
            CompileBound::Functions => "functions",
            CompileBound::FunctionBytes => "bytes in one function",
            CompileBound::Types => "types",
            CompileBound::Items => "imports, exports, globals, aliases, instances, segments and custom sections",
            CompileBound::Depth => "components or types within one another",
            CompileBound::Nesting => "blocks nested in one function",
            CompileBound::BranchTargets => "branch targets in one function",
            CompileBound::CpuSeconds => "seconds of processor time",
            CompileBound::WallClockSeconds => "seconds",
            CompileBound::MemoryBytes => "bytes of memory",
            CompileBound::MachineMemory => "of the machine's memory",
            CompileBound::Stack => "of the compiler's stack",
            CompileBound::ArtefactBytes => "bytes of machine code",
        }
    }

    fn advice(self) -> &'static str {
        match self {
            CompileBound::Functions | CompileBound::Types | CompileBound::Items | CompileBound::Depth => {
                "leave out what the plugin doesn't use; build with optimization and without debug assertions"
            }
            CompileBound::FunctionBytes | CompileBound::Nesting | CompileBound::BranchTargets | CompileBound::Stack => {
                "split the function, or put what it contains into data"
            }
            CompileBound::CpuSeconds
            | CompileBound::WallClockSeconds
            | CompileBound::MemoryBytes
            | CompileBound::MachineMemory
            | CompileBound::ArtefactBytes => "make the component smaller, and its functions shorter",
        }
    }
}

/// `12 functions, and at most 10 are allowed`, as far as it is known.
fn excess(bound: CompileBound, needed: Option<u64>, allowed: u64) -> String {
    match (bound, needed) {
        (CompileBound::Stack | CompileBound::MachineMemory, _) => format!("more than there is {}", bound.unit()),
        (_, Some(needed)) => format!("{needed} {}, and at most {allowed} are allowed", bound.unit()),
        (_, None) => format!("more than the {allowed} {} that are allowed", bound.unit()),
    }
}

impl CompileError {
    /// The word for this error on the wire, in snake_case.
    pub fn code(&self) -> &'static str {
        match self {
            CompileError::Empty => "empty",
            CompileError::TooLarge { .. } => "component_too_large",
            CompileError::NotAComponent { .. } => "not_a_component",
            CompileError::CoreModule => "core_module",
            CompileError::Precompiled => "precompiled",
            CompileError::Truncated { .. } => "truncated",
            CompileError::Invalid { .. } => "invalid_component",
            CompileError::ForbiddenImports { .. } => "forbidden_imports",
            CompileError::UnknownContract { .. } => "unknown_contract",
            CompileError::NoExport => "no_export",
            CompileError::WrongType { .. } => "wrong_type",
            CompileError::SeveralComponents => "several_components",
            CompileError::TooManyResources { .. } => "too_many_resources",
            CompileError::Limit { .. } => "compile_limit",
            CompileError::Compiler { .. } => "compiler_failed",
            CompileError::Compile { .. } => "compile_failed",
        }
    }
}

/// Names in back quotes with commas; a long list is cut.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let name = |name: &String| format!("`{}`", shown(name, NAME_BYTES_MAX));
    let mut text = names.iter().take(SHOWN).map(name).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

/// Somebody else's words in a message: escaped as a log line is, and cut.
fn shown(text: &str, bytes_max: usize) -> String {
    let (mut shown, cut) = call::escape(text, bytes_max);
    if cut {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_from_a_component_are_harmless_and_bounded_in_every_message() {
        let harmful = || "\u{1b}]0;title\u{7}\r\n\u{202e}".repeat(10_000);
        let errors = [
            CompileError::NotAComponent { detail: harmful() },
            CompileError::Invalid { detail: harmful() },
            CompileError::ForbiddenImports { imports: vec![harmful(); 30] },
            CompileError::UnknownContract { found: harmful(), supported: "1.0.0".to_owned() },
            CompileError::WrongType { item: "hookloom:plugin/host".to_owned(), detail: harmful() },
            CompileError::Compiler { detail: harmful() },
            CompileError::Compile { detail: harmful() },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.len() < 5_000, "{}: {} bytes", error.code(), text.len());
            assert!(text.contains("\\u{1b}]0;title") && text.contains('…'), "{text}");
            assert!(!text.contains(|character: char| character.is_control() || character == '\u{202e}'), "{text:?}");
        }
    }
}
