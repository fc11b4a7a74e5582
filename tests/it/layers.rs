//! The import rules of `src/`: folders import downward, operations do not import each other, and modules of a folder
//! form no import circle. The test reads `use` items and paths in the code; it does not ask the compiler.
//!
//! Code below `#[cfg(test)]` and files named `tests.rs` may import everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// The folders of `src/`, from the top layer to the bottom layer. A folder imports only from folders after it.
const LAYERS: [&str; 14] = [
    "cli",
    "ops",
    "notify",
    "retention",
    "catalog",
    "restore_target",
    "source",
    "mongo",
    "artifact",
    "dumpformat",
    "store",
    "model",
    "config",
    "base",
];

/// The modules of `ops` that are no operation. Every operation may import them.
const SHARED: [&str; 1] = ["places"];

/// The files in `src/` itself, which stand above all folders. `lib` only declares modules.
const ABOVE: [&str; 2] = ["lib", "main"];

/// The operations that may import another operation: importer and imported.
const ALLOWED: [(&str, &str); 2] = [("diff", "restore"), ("drill", "restore")];

/// The path of a module below the crate, such as `["ops", "restore", "plan"]`; empty for the crate's root.
type Module = Vec<String>;

/// The words that begin a path and name no module.
const RELATIVE: [&str; 4] = ["crate", "self", "super", "uzima_backup"];

/// For each module, the modules that it imports.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// Splits Rust code into identifiers, `::` and single characters. Comments, literals and lifetimes are left out.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let is = |at: usize, text: &str| text.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < chars.len() {
        let begin = at;
        if is(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if is(at, "/*") {
            let mut depth = 0;
            while at < chars.len() {
                depth += i32::from(is(at, "/*"));
                depth -= i32::from(is(at, "*/"));
                at += if is(at, "/*") || is(at, "*/") { 2 } else { 1 };
                if depth == 0 {
                    break;
                }
            }
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at += 1;
        } else if chars[at] == '\'' {
            // `'a'` and `'\n'` are characters; `'a` without a second quote is a lifetime.
            at = if is(at + 1, "\\") {
                at + 4 + chars[at + 3..].iter().take_while(|c| **c != '\'').count()
            } else if is(at + 2, "'") {
                at + 3
            } else {
                at + 1 + chars[at + 1..].iter().take_while(|c| word(**c)).count()
            };
        } else if word(chars[at]) {
            at += chars[at..].iter().take_while(|c| word(**c)).count();
            let text: String = chars[begin..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if matches!(text.as_str(), "r" | "br" | "cr") && is(at + hashes, "\"") {
                let end = format!("\"{}", "#".repeat(hashes));
                at += hashes + 1;
                while at < chars.len() && !is(at, &end) {
                    at += 1;
                }
                at += end.len();
            } else {
                tokens.push(text);
            }
        } else if is(at, "::") {
            tokens.push("::".into());
            at += 2;
        } else {
            if !chars[at].is_whitespace() {
                tokens.push(chars[at].into());
            }
            at += 1;
        }
    }
    tokens
}

/// The tokens without the items below `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].iter().map(String::as_str).take(TEST.len()).eq(TEST) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += TEST.len();
        // The item ends with a semicolon or a block outside of other brackets, at the latest where its parent ends.
        let mut depth = 0;
        while at < tokens.len() {
            let token = tokens[at].as_str();
            depth +=
                i32::from(["(", "[", "{"].contains(&token)) - i32::from([")", "]", "}"].contains(&token));
            if depth < 0 {
                break;
            }
            at += 1;
            if depth == 0 && [";", "}"].contains(&token) {
                break;
            }
        }
    }
    kept
}

/// Reads a `use` tree from `at` on, and adds each of its paths with the prefix in front. Returns the place behind it.
fn use_tree(tokens: &[String], mut at: usize, prefix: &[String], into: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at).map(String::as_str) {
        match token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = use_tree(tokens, at, &path, into);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => at += 2,
            "::" | "*" => at += 1,
            name => {
                path.push(name.into());
                at += 1;
            }
        }
    }
    into.push(path);
    at
}

/// All paths in the code: the leaves of `use` trees, and every `a::b::c`.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let name = |at: usize| {
        let token = tokens.get(at)?;
        token.starts_with(|c: char| c.is_alphabetic() || c == '_').then_some(token)
    };
    let (mut paths, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        // `use<'a>` in a return type is not an import.
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            at = use_tree(tokens, at + 1, &[], &mut paths);
        } else if name(at).is_some() && tokens.get(at + 1).is_some_and(|next| next == "::") {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while tokens.get(at).is_some_and(|token| token == "::")
                && let Some(next) = name(at + 1)
            {
                path.push(next.clone());
                at += 2;
            }
            at += usize::from(path.len() == 1);
            paths.push(path);
        } else {
            at += 1;
        }
    }
    paths
}

/// The module in a file below `src/`, such as `ops/restore/mod.rs`. `None` for tests.
fn module(file: &str) -> Option<Module> {
    let mut module: Module = file.strip_suffix(".rs")?.split('/').map(String::from).collect();
    if module.iter().any(|name| name == "tests") {
        return None;
    }
    if module.len() > 1 {
        module.pop_if(|name| name == "mod");
    }
    Some(if module == ["lib"] { vec![] } else { module })
}

/// The modules that each module imports, from the files below `src/` and their code.
fn imports(files: &BTreeMap<String, String>) -> Imports {
    let modules: BTreeSet<Module> = files.keys().filter_map(|file| module(file)).collect();
    let mut all = Imports::new();
    for (file, code) in files {
        let Some(importer) = module(file) else { continue };
        let mut imported = BTreeSet::new();
        for path in paths(&without_tests(&tokens(code))) {
            let mut rest = path.as_slice();
            let mut absolute = match rest[0].as_str() {
                "crate" | "uzima_backup" => vec![],
                "self" | "super" => importer.clone(),
                child => {
                    let child = [importer.as_slice(), &[child.to_string()]].concat();
                    if !modules.contains(&child) {
                        continue;
                    }
                    importer.clone()
                }
            };
            while let Some(first) = rest.first().filter(|name| RELATIVE.contains(&name.as_str())) {
                if first == "super" {
                    absolute.pop();
                }
                rest = &rest[1..];
            }
            absolute.extend_from_slice(rest);
            // The names behind the module are its items.
            while !modules.contains(&absolute) && absolute.pop().is_some() {}
            imported.insert(absolute);
        }
        imported.retain(|module| !module.is_empty() && *module != importer);
        all.insert(importer, imported);
    }
    all
}

fn shown(module: &Module) -> String {
    module.join("::")
}

/// The imports from a folder to one above it.
fn upward(imports: &Imports) -> Vec<String> {
    let layer = |module: &Module| match module.first() {
        Some(first) if ABOVE.contains(&first.as_str()) => 0,
        Some(first) => {
            1 + LAYERS
                .iter()
                .position(|layer| layer == first)
                .unwrap_or_else(|| panic!("{first} is in no layer"))
        }
        None => 0,
    };
    let all = imports.iter().flat_map(|(importer, imported)| imported.iter().map(move |it| (importer, it)));
    all.filter(|(importer, imported)| layer(importer) > layer(imported))
        .map(|(importer, imported)| format!("{} -> {}", shown(importer), shown(imported)))
        .collect()
}

/// The imports from one operation to another, but for the allowed ones.
fn between_operations(imports: &Imports) -> Vec<String> {
    let operation = |module: &Module| match module.as_slice() {
        [ops, operation, ..] if ops == "ops" && !SHARED.contains(&operation.as_str()) => {
            Some(operation.clone())
        }
        _ => None,
    };
    let mut found = Vec::new();
    for (importer, imported) in imports.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to))) {
        let (Some(from), Some(to)) = (operation(importer), operation(imported)) else { continue };
        if from != to && !ALLOWED.contains(&(from.as_str(), to.as_str())) {
            found.push(format!("{} -> {}", shown(importer), shown(imported)));
        }
    }
    found
}

/// Import circles, each as `a -> b -> a`. A module and its ancestors may import each other. If circles share
/// modules, only the first of them is reported.
fn circles(imports: &Imports) -> Vec<String> {
    let next = |module: &Module| -> Vec<&Module> {
        let related = |other: &Module| other.starts_with(module) || module.starts_with(other);
        imports.get(module).into_iter().flatten().filter(|other| !related(other)).collect()
    };
    let (mut found, mut known) = (Vec::new(), BTreeSet::new());
    for start in imports.keys() {
        // A breadth-first search for the shortest way back.
        let mut came_from: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(module) = queue.pop_front() {
            for imported in next(module) {
                if !came_from.contains_key(imported) {
                    came_from.insert(imported, module);
                    queue.push_back(imported);
                }
            }
        }
        let mut circle = vec![start];
        let mut at = start;
        while let Some(before) = came_from.get(at) {
            circle.push(before);
            at = before;
            if at == start {
                break;
            }
        }
        if circle.len() > 1 && at == start && !circle.iter().any(|module| known.contains(*module)) {
            known.extend(circle.iter().map(|module| (*module).clone()));
            circle.reverse();
            found.push(circle.into_iter().map(shown).collect::<Vec<_>>().join(" -> "));
        }
    }
    found
}

/// All files below `src/`, by their paths below it.
fn sources() -> BTreeMap<String, String> {
    fn add(folder: &Path, below: &str, into: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = format!("{below}{}", path.file_name().expect("a name").display());
            if path.is_dir() {
                add(&path, &format!("{name}/"), into);
            } else {
                into.insert(name, std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut files = BTreeMap::new();
    add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    files
}

#[test]
fn the_layers_are_the_folders_of_src() {
    let (mut folders, mut above) = (BTreeSet::new(), BTreeSet::new());
    for file in sources().into_keys() {
        match file.split_once('/') {
            Some((folder, _)) => folders.insert(folder.to_string()),
            None => above.insert(file.trim_end_matches(".rs").to_string()),
        };
    }
    assert_eq!(folders, LAYERS.map(String::from).into());
    assert_eq!(above, ABOVE.map(String::from).into());
}

#[test]
fn folders_import_only_from_folders_below() {
    let imports = imports(&sources());
    assert!(imports.len() > 100 && imports.values().map(BTreeSet::len).sum::<usize>() > 500);
    assert_eq!(upward(&imports), Vec::<String>::new());
}

#[test]
fn an_operation_imports_no_other_operation() {
    assert_eq!(between_operations(&imports(&sources())), Vec::<String>::new());
}

#[test]
fn modules_form_no_import_circles() {
    assert_eq!(circles(&imports(&sources())), Vec::<String>::new());
}

/// The imports of made-up files.
fn imports_of(files: &[(&str, &str)]) -> Imports {
    imports(&files.iter().map(|(file, code)| (file.to_string(), code.to_string())).collect())
}

#[test]
fn an_upward_import_is_found_in_every_form() {
    for code in [
        "use crate::cli::run;",
        "pub(crate) use crate::{base::error::Error, cli::{self, run as go}};",
        "use super::super::cli::*;",
        "fn f() { crate::cli::run(); }",
        "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' || crate::cli::run() } // \"",
        "#[cfg(test)] use crate::base::x; use crate::cli::run;",
    ] {
        let found = imports_of(&[("lib.rs", "pub mod cli;"), ("cli/mod.rs", ""), ("store/s3.rs", code)]);
        assert_eq!(upward(&found), ["store::s3 -> cli"], "{code}");
    }
}

#[test]
fn comments_literals_and_tests_import_nothing() {
    for code in [
        "// use crate::cli::run;",
        "/* /* */ use crate::cli::run; */ mod x {}",
        r##"const A: &str = r#"use crate::cli::run;"#;"##,
        r#"const A: &str = "\" use crate::cli::run;";"#,
        "#[cfg(test)] mod tests { use crate::cli::run; }",
        "#[cfg(test)] #[allow(unused)] use crate::{cli::run, cli};",
    ] {
        let files = [("cli/mod.rs", ""), ("store/s3.rs", code), ("store/tests.rs", "use crate::cli::run;")];
        assert_eq!(upward(&imports_of(&files)), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn an_operation_that_imports_another_is_found() {
    let found = imports_of(&[
        ("ops/mod.rs", "pub mod backup; pub use backup::run_backup;"),
        ("ops/backup.rs", "use super::health::check; use crate::ops::run_backup;"),
        ("ops/health/mod.rs", "mod checks; use checks::all;"),
        ("ops/health/checks.rs", "use super::Report;"),
        ("ops/drill.rs", "use crate::ops::restore::run;"),
        ("ops/restore.rs", "use crate::ops::drill::run;"),
    ]);
    assert_eq!(between_operations(&found), ["ops::backup -> ops::health", "ops::restore -> ops::drill"]);
}

#[test]
fn a_circle_is_found_and_a_parent_with_its_children_is_none() {
    let found = imports_of(&[
        ("store/mod.rs", "mod a; mod b; mod c; pub use a::A;"),
        ("store/a.rs", "use super::b::B;"),
        ("store/b.rs", "fn f() { super::c::g() }"),
        ("store/c.rs", "use crate::store::{a::{A}, Store};"),
        ("artifact/mod.rs", "use child::X;"),
        ("artifact/child.rs", "use super::Y;"),
    ]);
    assert_eq!(circles(&found), ["store::a -> store::b -> store::c -> store::a"]);
    assert_eq!(upward(&found), Vec::<String>::new());
}
