//! Every mistake of `tests/ui`, as rustc prints it: `NAME.stderr` beside `NAME.rs` is what it says of that program.
//!
//! All are checked in this one process, in a fraction of a second. That rustc prints these very texts is checked by
//! `compile_errors` of the workspace's tests.
//!
//! `UPDATE_EXPECT=1 cargo test --workspace --test mistakes` writes the `.stderr` files anew.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use purview_language::{Diagnostic, Kind, check};
use std::path::Path;
use std::{env, fs};

#[test]
fn mistakes_are_reported_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let mut programs: Vec<_> =
        fs::read_dir(folder).expect("tests/ui").map(|file| file.expect("a file").path()).collect();
    programs.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    programs.sort();
    assert!(!programs.is_empty(), "tests/ui has no programs");
    // In CI nothing is written, whatever is asked for.
    let is_update = env::var_os("UPDATE_EXPECT").is_some() && env::var_os("CI").is_none();
    let mut different = Vec::new();
    for program in programs {
        let found = report(&program);
        assert!(!found.is_empty(), "{} has no mistake", program.display());
        let expected = program.with_extension("stderr");
        if fs::read_to_string(&expected).is_ok_and(|text| text == found) {
            continue;
        }
        if is_update {
            fs::write(&expected, found).expect("a file that can be written");
        } else {
            different.push(format!("{}, which is not what {} says:\n\n{found}", program.display(), expected.display()));
        }
    }
    assert!(different.is_empty(), "{} programs:\n\n{}", different.len(), different.join("\n"));
}

/// What is said of the functions in a program with mistakes.
fn report(program: &Path) -> String {
    let source = fs::read_to_string(program).expect("a program");
    let name = program.file_name().and_then(|name| name.to_str()).expect("a name");
    let tokens = source.parse().expect("tokens");
    let mut texts = Vec::new();
    for (kind, arguments, item) in functions(tokens) {
        if let Err(rejected) = check(kind, arguments, item) {
            texts.extend(rejected.errors.iter().map(|error| rendered(error, &source, &format!("ui/{name}"))));
        }
    }
    texts.join("\n")
}

fn rendered(error: &Diagnostic, source: &str, path: &str) -> String {
    let span = error.source.start.byte_range().start..error.source.end.byte_range().end;
    let title = error.to_string();
    let snippet = Snippet::source(source).path(path).annotation(AnnotationKind::Primary.span(span));
    Renderer::plain().render(&[Level::ERROR.primary_title(title).element(snippet)]) + "\n"
}

/// The functions with an attribute of the language: which, its arguments, and the function without it.
fn functions(program: TokenStream) -> Vec<(Kind, TokenStream, TokenStream)> {
    let mut functions = Vec::new();
    let mut item: Vec<TokenTree> = Vec::new();
    for token in program {
        let is_end = match &token {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        item.push(token);
        if !is_end {
            continue;
        }
        match (attribute(&item), item.last()) {
            (Some((place, kind, arguments)), _) => {
                item.drain(place..place + 2);
                functions.push((kind, arguments, item.drain(..).collect()));
            }
            // An `impl`, or a module.
            (None, Some(TokenTree::Group(body))) => functions.extend(self::functions(body.stream())),
            _ => {}
        }
        item.clear();
    }
    functions
}

/// The place of the `#` of the attribute that `item` has, which one it is, and its arguments.
fn attribute(item: &[TokenTree]) -> Option<(usize, Kind, TokenStream)> {
    item.windows(2).enumerate().find_map(|(place, pair)| {
        let [TokenTree::Punct(pound), TokenTree::Group(attribute)] = pair else { return None };
        let mut tokens = attribute.stream().into_iter();
        let kind = match tokens.next()?.to_string().as_str() {
            "attention" => Kind::Attention,
            "mask" => Kind::Mask,
            "score" => Kind::Score,
            "index" => Kind::Index,
            _ => return None,
        };
        let arguments = match tokens.next() {
            Some(TokenTree::Group(arguments)) => arguments.stream(),
            _ => TokenStream::new(),
        };
        (pound.as_char() == '#').then_some((place, kind, arguments))
    })
}
