//! No files of a crate import each other in a circle, so that each can be read after those that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module's path, such as `ptx::block`; empty for the crate's root.
type Module = Vec<String>;

#[test]
fn no_files_import_each_other_in_a_circle() {
    for source in ["language/src", "macros/src", "compiler/src", "runtime/src", "cli/src", "nvidia/src", "bench/src"] {
        let mut files = BTreeMap::new();
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source), &Vec::new(), &mut files);
        assert!(files.len() > 2, "{source}");
        let rest = circles(&files);
        assert!(rest.is_empty(), "{source} has a circle among {rest:#?}");
    }
}

#[test]
fn a_circle_is_found() {
    let file = |path: &str, text: &str| (path.split("::").map(String::from).collect(), text.to_string());
    let files = [
        file("a", "use crate::folder::b::{B, self};"),
        file("folder::b", "fn f() -> super::c::C {}"),
        file("folder::c", "use crate::{d, a::A};"),
        file("d", "use std::fmt;"),
        file("above", "use crate::a;"),
    ];
    let found: Vec<_> = circles(&BTreeMap::from(files)).into_keys().map(|module| module.join("::")).collect();
    assert_eq!(found, ["a", "above", "folder::b", "folder::c"]);
    let straight = [file("a", "use super::d;"), file("d", ""), file("above", "use crate::{a, d};")];
    assert!(circles(&BTreeMap::from(straight)).is_empty());
}

/// The files of circles and those that import them, with what they import of each other.
fn circles(files: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut rest: BTreeMap<Module, BTreeSet<Module>> =
        files.iter().map(|(module, text)| (module.clone(), imports(module, text, files))).collect();
    // Files that import no other are taken away until none is left, or only circles and what imports them.
    while let Some(module) = rest.iter().find(|(_, imports)| imports.is_empty()).map(|(module, _)| module.clone()) {
        rest.remove(&module);
        for imports in rest.values_mut() {
            imports.remove(&module);
        }
    }
    rest
}

/// The text of each file in `folder`, without comments and without its tests.
fn read(folder: &Path, parent: &Module, files: &mut BTreeMap<Module, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_string();
        let mut module = parent.clone();
        if path.is_dir() {
            module.push(name);
            read(&path, &module, files);
            continue;
        }
        // The root and a folder's `mod.rs` declare the others, and are what those are part of.
        if name == "lib" || name == "mod" {
            continue;
        }
        module.push(name);
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        files.insert(module, lines.collect::<Vec<_>>().join("\n"));
    }
}

/// The other files that `text`, of `module`, names by paths from `crate` or `super`.
fn imports(module: &Module, text: &str, files: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
        if text[..at].ends_with(in_path) {
            continue;
        }
        let end = text[at..].find(|c| !in_path(c)).map_or(text.len(), |length| at + length);
        let group = text[end..].strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        for item in group.split(',') {
            let path = format!("{}{}", &text[at..end], item.trim());
            found.extend(file_of(module, &path, files));
        }
    }
    found.remove(module);
    found
}

/// The file that `path` leads into, seen from `module`.
fn file_of(module: &Module, path: &str, files: &BTreeMap<Module, String>) -> Option<Module> {
    let mut place = module.clone();
    for step in path.split("::") {
        match step {
            "crate" => place.clear(),
            "super" => {
                place.pop();
            }
            name => place.push(name.to_string()),
        }
        if step != "super" && files.contains_key(&place) {
            return Some(place);
        }
    }
    None
}
