//! The attributes of `hookloom-plugin`.
//!
//! Written on plain tokens: a parser of Rust would cost every cold build of a plugin several seconds, and all that is needed
//! is the function's name. The function itself stays as it is; its type is checked by what the expansion calls.

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Exports a function as the plugin's mapper.
///
/// Its type is `fn(Event<Payload>, &[Rule]) -> Result<Vec<RuleMatch>, Failure>`.
#[proc_macro_attribute]
pub fn mapper(arguments: TokenStream, item: TokenStream) -> TokenStream {
    export("mapper", arguments, item)
}

/// Exports a function as the plugin's reshaper.
///
/// Its type is `fn(Message<Payload>) -> Result<Reshaped, Failure>`.
#[proc_macro_attribute]
pub fn reshaper(arguments: TokenStream, item: TokenStream) -> TokenStream {
    export("reshaper", arguments, item)
}

/// The item, followed by `::hookloom_plugin::__export_KIND! { NAME }`.
fn export(kind: &str, arguments: TokenStream, item: TokenStream) -> TokenStream {
    if let Some(argument) = arguments.into_iter().next() {
        return error(argument.span(), &format!("#[hookloom_plugin::{kind}] takes no arguments"));
    }
    let name = match function_name(kind, item.clone()) {
        Ok(name) => name,
        Err(error) => return error,
    };
    let mut expansion = item;
    expansion.extend(path(["hookloom_plugin", &format!("__export_{kind}")]));
    expansion.extend([
        TokenTree::Punct(Punct::new('!', Spacing::Alone)),
        TokenTree::Group(Group::new(Delimiter::Brace, TokenTree::Ident(name).into())),
    ]);
    expansion
}

/// The name after `fn`. Attributes, visibility and the function's body are groups and so never looked into.
fn function_name(kind: &str, item: TokenStream) -> Result<Ident, TokenStream> {
    let start = item.clone().into_iter().next().map_or_else(Span::call_site, |token| token.span());
    let mut tokens = item.into_iter();
    while let Some(token) = tokens.next() {
        let TokenTree::Ident(word) = token else { continue };
        match word.to_string().as_str() {
            "async" | "unsafe" => {
                return Err(error(word.span(), &format!("a {kind} is a plain function, neither async nor unsafe")));
            }
            "struct" | "enum" | "mod" | "impl" | "trait" | "static" | "type" | "use" => break,
            "fn" => {
                if let Some(TokenTree::Ident(name)) = tokens.next() {
                    return Ok(name);
                }
                break;
            }
            _ => {}
        }
    }
    Err(error(start, &format!("#[hookloom_plugin::{kind}] goes before a function")))
}

/// `::std::compile_error! { "text" }`, reported at `span`.
fn error(span: Span, text: &str) -> TokenStream {
    let mut expansion: TokenStream = path(["std", "compile_error"]).collect();
    let text = TokenTree::Literal(proc_macro::Literal::string(text));
    expansion.extend([
        TokenTree::Punct(Punct::new('!', Spacing::Alone)),
        TokenTree::Group(Group::new(Delimiter::Brace, text.into())),
    ]);
    expansion.into_iter().map(|token| at(span, token)).collect()
}

fn at(span: Span, mut token: TokenTree) -> TokenTree {
    token.set_span(span);
    token
}

/// `::a::b`
fn path(segments: [&str; 2]) -> impl Iterator<Item = TokenTree> {
    segments.map(str::to_owned).into_iter().flat_map(|segment| {
        [
            TokenTree::Punct(Punct::new(':', Spacing::Joint)),
            TokenTree::Punct(Punct::new(':', Spacing::Alone)),
            TokenTree::Ident(Ident::new(&segment, Span::call_site())),
        ]
    })
}
