//! What people read: links lead to what is there, every page is found, and the README stays short.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sentinel_tests::workspace;

/// The pages beside those of `docs`.
const TOP: &[&str] = &["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
/// The most lines that the README may have.
const MOST_LINES: usize = 150;

fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = TOP.iter().map(|page| workspace().join(page)).collect();
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The lines that stand in no fenced block.
fn prose(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !is_fence && !in_block
    };
    text.lines().filter(is_prose).collect()
}

/// Where the links of a page lead, as they are written. What stands between backticks is no link.
fn links(text: &str) -> Vec<String> {
    let prose = prose(text).join("\n");
    let outside_of_code = prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').step_by(2));
    let behind_names = outside_of_code.flat_map(|text| text.split("](").skip(1));
    behind_names.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The fragments by which the headings of a page are linked, as GitHub makes them.
fn fragments(text: &str) -> BTreeSet<String> {
    let mut fragments: BTreeSet<String> = BTreeSet::new();
    for line in prose(text).into_iter().filter(|line| line.starts_with('#')) {
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        let kept: String = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
        let first = kept.replace(' ', "-");
        let others = (1..).map(|n| format!("{first}-{n}"));
        let free = std::iter::once(first.clone()).chain(others).find(|name| !fragments.contains(name));
        fragments.extend(free);
    }
    fragments
}

/// What is wrong with a link of `page`; `None`: it leads to what is there, or to somebody else.
fn fault(page: &Path, link: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (path, fragment) = match link.split_once('#') {
        Some((path, fragment)) => (path, Some(fragment)),
        None => (link, None),
    };
    let target = if path.is_empty() { page.to_owned() } else { page.with_file_name(path) };
    if !target.exists() {
        return Some(format!("{}: nothing is at {link}", page.display()));
    }
    let fragment = fragment?;
    let known = fragments(&fs::read_to_string(&target).unwrap());
    (!known.contains(fragment)).then(|| format!("{}: no heading is at {link}", page.display()))
}

#[test]
fn every_link_of_a_page_leads_to_a_file_that_is_there_and_to_a_heading_of_it() {
    let pages = pages();
    assert!(pages.len() > 20, "{pages:?}");
    let (mut count, mut faults) = (0, Vec::new());
    for page in &pages {
        let links = links(&fs::read_to_string(page).unwrap());
        count += links.len();
        faults.extend(links.iter().filter_map(|link| fault(page, link)));
    }
    assert!(count > 100, "{count} links");
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

#[test]
fn a_link_to_nothing_is_found_and_what_is_code_is_no_link() {
    let page = workspace().join("README.md");
    for link in ["https://example.com/nothing", "docs/security.md", "docs/security.md#bounds", "#try-it"] {
        assert_eq!(fault(&page, link), None, "{link}");
    }
    for link in ["docs/nothing.md", "docs/security.md#nothing", "#nothing"] {
        assert!(fault(&page, link).is_some(), "{link}");
    }
    assert_eq!(links("[`a`](b) `[c](d)` [e](f#g)\n```\n[h](i)\n```\n[j](k)"), ["b", "f#g", "k"]);
    assert!(fragments("# A `b`, c\n## D\n## D\n```\n# e\n```\n").iter().eq(["a-b-c", "d", "d-1"]));
}

#[test]
fn the_readme_stays_short_and_shows_a_report_as_it_is_printed() {
    let readme = fs::read_to_string(workspace().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= MOST_LINES, "the README has {lines} lines: what is looked up has its place in docs");
    let shown = readme.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let printed = workspace().join("crates/cli/src/render/snapshots/cards_80.snap");
    let printed = fs::read_to_string(printed).unwrap();
    assert!(printed.contains(shown), "no example is printed like this any longer:\n{shown}");
}

#[test]
fn the_summary_of_the_pages_names_each_of_them() {
    let docs = workspace().join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let named: BTreeSet<PathBuf> = links(&summary).into_iter().map(|link| docs.join(link)).collect();
    let is_page = |page: &PathBuf| page.starts_with(&docs) && !page.ends_with("SUMMARY.md");
    let there: BTreeSet<PathBuf> = pages().into_iter().filter(is_page).collect();
    assert_eq!(named, there);
}
