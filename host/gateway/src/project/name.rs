//! What a plugin may be called: a name that is a package in every language's registry, and an identifier with `_` for `-`. Pure.

/// The longest name that every registry takes.
const BYTES_MAX: usize = 64;

/// Words of the languages, and packages that a plugin is built with: a package of that name can't be built beside them.
const TAKEN: [&str; 87] = [
    "abstract",
    "alloc",
    "and",
    "as",
    "assert",
    "async",
    "auto",
    "await",
    "become",
    "box",
    "break",
    "build",
    "case",
    "char",
    "class",
    "const",
    "continue",
    "core",
    "crate",
    "def",
    "default",
    "del",
    "do",
    "double",
    "dyn",
    "elif",
    "else",
    "enum",
    "except",
    "extern",
    "false",
    "final",
    "finally",
    "float",
    "fn",
    "for",
    "from",
    "global",
    "goto",
    "hookloom-plugin",
    "hookloom-plugin-macros",
    "if",
    "impl",
    "import",
    "in",
    "int",
    "is",
    "lambda",
    "let",
    "loop",
    "long",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "nonlocal",
    "not",
    "or",
    "override",
    "pass",
    "priv",
    "proc-macro",
    "pub",
    "raise",
    "ref",
    "return",
    "self",
    "serde",
    "serde-json",
    "static",
    "std",
    "struct",
    "super",
    "switch",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "use",
    "virtual",
    "where",
    "while",
];

/// Checks a name.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(name: &str) -> Result<(), &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err("it must be lower-case letters, digits and `-`");
    }
    if name.len() > BYTES_MAX {
        return Err("it must have at most 64 letters");
    }
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.ends_with('-') || name.contains("--") {
        return Err("it must begin with a letter, and each `-` must stand between two others");
    }
    if TAKEN.contains(&name) {
        return Err("it is a word of a language, or a package that plugins are built with");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_every_language() {
        for name in ["a", "order-review", "crm2", "x-1"] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let long = "a".repeat(65);
        let refused = ["", "Order", "a_b", "ä", "1a", "-a", "a-", "a--b", "fn", "serde-json", "../a", "a b", &long];
        for name in refused {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
