//! Checks of the documentation pages: links resolve, and lists are complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The file names in a folder, up to the first dot.
fn names(folder: &str, is_wanted: impl Fn(&Path) -> bool) -> BTreeSet<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let name =
        |path: PathBuf| path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
    entries.filter(|path| is_wanted(path)).map(name).collect()
}

fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

/// Every page of the project, relative to its root.
fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        names(folder, is_page)
            .into_iter()
            .map(|name| Path::new(folder).join(name + ".md"))
            .collect::<Vec<_>>()
    };
    ["", "docs", "docs/decisions"].into_iter().flat_map(in_folder).collect()
}

/// The text of a page outside of code blocks.
fn prose(page: &str) -> String {
    page.split("```").step_by(2).collect()
}

/// The link targets of a page, without links to other sites.
fn links(page: &str) -> Vec<String> {
    let targets = prose(page);
    let targets = targets.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchors of the headings of a page.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    let headings = prose.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| -> String {
        let lower = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_the_pages_resolve() {
    let mut count = 0;
    for path in pages() {
        let page = read(&path);
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(root().join(&target).exists(), "{}: {link} leads nowhere", path.display());
            let is_there = anchor.is_empty() || anchors(&read(&target)).contains(anchor);
            assert!(is_there, "{}: {link} has no such heading", path.display());
            count += 1;
        }
    }
    assert!(count > 50, "{count} links were found");
}

/// The book has every page of `docs/`, and no page links to a file outside of it, which the book would lack.
#[test]
fn book_has_every_page_and_what_its_pages_link_to() {
    let summary = links(&read("docs/SUMMARY.md")).into_iter().collect::<BTreeSet<_>>();
    let in_docs =
        names("docs", is_page).into_iter().filter(|name| name != "SUMMARY").map(|name| name + ".md");
    let decisions = names("docs/decisions", is_page).into_iter().map(|name| format!("decisions/{name}.md"));
    let pages: BTreeSet<String> = in_docs.chain(decisions).collect();
    assert_eq!(summary, pages, "the links of docs/SUMMARY.md, and the pages");
    for page in pages {
        let depth = page.matches('/').count();
        for link in links(&read(format!("docs/{page}"))) {
            let leaves = link.split('/').take_while(|part| *part == "..").count() > depth;
            assert!(!leaves, "docs/{page}: {link} is not in the book");
        }
    }
}

#[test]
fn readme_lists_every_page_and_example() {
    let front = read("README.md");
    let listed: BTreeSet<String> = links(&front).into_iter().collect();
    let examples_compiled = read("crates/larder/src/lib.rs");
    for name in names("docs", is_page).into_iter().filter(|name| name != "SUMMARY") {
        let page = format!("docs/{name}.md");
        assert!(listed.contains(&page), "README.md does not list {page}");
        let has_examples = read(&page).contains("```rust\n") || read(&page).contains("```\n#");
        let is_compiled = examples_compiled.contains(&format!("../{page}\""));
        assert!(is_compiled || !has_examples, "nobody compiles the examples of {page}");
    }
    for name in names("examples", |_| true) {
        assert!(
            front.contains(&format!("`{name}")) || front.contains(&format!("--package {name}")),
            "README.md does not list the example {name}"
        );
    }
}

/// The pages of some packages in the registry would have named neither a homepage nor their documentation.
#[test]
fn published_packages_have_all_metadata() {
    let mut count = 0;
    let in_crates = names("crates", Path::is_dir).into_iter().map(|name| format!("crates/{name}/Cargo.toml"));
    // The package `larder` is that of the root.
    let in_crates = in_crates.filter(|path| root().join(path).exists());
    for path in in_crates.chain(["Cargo.toml".to_owned()]) {
        let manifest = read(&path);
        let package = manifest.split("[package]").nth(1).unwrap().split("\n[").next().unwrap();
        if package.contains("publish = false") {
            continue;
        }
        for field in ["description", "license", "repository", "homepage", "documentation", "readme"] {
            let has_it = package.lines().any(|line| line.starts_with(field));
            assert!(has_it, "{path} has no {field}");
        }
        let builds_with_features = manifest.contains("[package.metadata.docs.rs]\nall-features = true");
        assert!(
            builds_with_features || !manifest.contains("\n[features]"),
            "{path}: docs.rs builds without features"
        );
        count += 1;
    }
    assert!(count > 8, "{count} packages were found");
}

/// The front page of the documentation lacked `encrypt`.
#[test]
fn readme_and_front_page_list_every_feature() {
    let manifest = read("Cargo.toml");
    let features = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();
    let names = features.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
    let pages = [read("README.md"), read("crates/larder/src/lib.rs")];
    let mut count = 0;
    for name in names.filter(|name| *name != "default" && !name.starts_with('_')) {
        let cell = format!("`{name}`");
        for page in &pages {
            let mut rows = page.lines().map(|line| line.trim_start_matches("//! "));
            let is_listed = rows.any(|row| {
                let first = row.strip_prefix("| ").and_then(|row| row.split(" | ").next());
                first.is_some_and(|first| first.split(", ").any(|found| found == cell))
            });
            assert!(is_listed, "the feature {name} is not in the table of {}", &page[..40]);
        }
        count += 1;
    }
    assert!(count > 10, "{count} features were found");
}

#[test]
fn every_dependency_of_a_published_package_has_a_reason() {
    let page = read("docs/decisions/0005-dependencies.md");
    let packages = names("crates", |path| path.join("Cargo.toml").exists());
    let packages = packages.into_iter().map(|name| format!("crates/{name}/Cargo.toml"));
    for manifest in packages.chain(["Cargo.toml".to_owned()]) {
        let text = read(&manifest);
        let sections = text.split("\n[").filter(|section| {
            let heading = section.lines().next().unwrap_or_default();
            heading == "dependencies]"
                || (heading.starts_with("target.") && heading.ends_with(".dependencies]"))
        });
        for line in sections.flat_map(|section| section.lines().skip(1)) {
            let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| !name.is_empty()) else {
                continue;
            };
            let is_other = !name.starts_with(['#', '[']) && !name.starts_with("larder");
            assert!(!is_other || page.contains(&format!("`{name}`")), "{manifest}: {name} has no reason");
        }
    }
}

#[test]
fn architecture_page_names_every_folder_and_test() {
    let page = read("ARCHITECTURE.md");
    for krate in names("crates", Path::is_dir) {
        assert!(
            page.contains(&format!("| `crates/{krate}` |")),
            "ARCHITECTURE.md does not name crates/{krate}"
        );
        for folder in names(&format!("crates/{krate}/src"), Path::is_dir) {
            let is_named = page.contains(&format!("{folder}/"));
            assert!(
                is_named || krate == "testkit" || krate == "macros",
                "ARCHITECTURE.md does not name {folder}/ of crates/{krate}"
            );
        }
    }
    let is_module =
        |path: &Path| path.extension().is_some_and(|ext| ext == "rs") || path.join("mod.rs").exists();
    for module in names("tests", is_module).into_iter().filter(|name| name != "main") {
        assert!(page.contains(&format!("`{module}`")), "ARCHITECTURE.md does not name tests/{module}");
    }
}

/// A file named with its folder, or in the row of its crate, exists.
#[test]
fn files_named_by_the_architecture_page_exist() {
    let page = read("ARCHITECTURE.md");
    let all: Vec<String> = walkdir::WalkDir::new(root().join("crates"))
        .into_iter()
        .map(|entry| entry.unwrap().path().to_str().unwrap().replace("/src/", "/"))
        .collect();
    let prose = prose(&page);
    let named = prose
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.ends_with(".rs") && !name.contains(['*', '{']));
    for name in named {
        let is_there =
            root().join(name).exists() || all.iter().any(|path| path.ends_with(&format!("/{name}")));
        assert!(is_there, "ARCHITECTURE.md names {name}, which is not there");
    }
}
