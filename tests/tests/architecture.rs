//! ARCHITECTURE.md's rules about who may import whom, held against the workspace as cargo sees it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use sentinel_tests::workspace;

/// What a package may import of ours.
enum Ours {
    /// These, without their `sentinel-`.
    Only(&'static [&'static str]),
    /// Anything but the test kit.
    AnyButTestkit,
    /// Anything.
    Any,
}

use Ours::{Any, AnyButTestkit, Only};

/// ARCHITECTURE.md, "Map". A package that is not here has no place yet: give it one there and here.
const MAY_IMPORT: &[(&str, Ours)] = &[
    ("core", Only(&[])),
    ("telemetry", Only(&["core"])),
    ("config", Only(&["core", "telemetry"])),
    ("alertmanager", Only(&["core", "telemetry"])),
    ("aws", Only(&["core", "telemetry"])),
    ("http", Only(&["core", "telemetry"])),
    ("investigation", Only(&["core", "telemetry"])),
    ("sinks", Only(&["core", "http"])),
    ("model", Only(&["core", "investigation", "http"])),
    ("mcp", Only(&["core", "investigation", "http"])),
    ("local", Only(&["core", "aws"])),
    ("deployed", Only(&["aws", "config", "core", "telemetry"])),
    ("ingest", Only(&["core", "config", "alertmanager", "aws", "deployed", "http", "telemetry"])),
    ("worker", AnyButTestkit),
    ("sweeper", AnyButTestkit),
    ("watcher", Only(&["core", "config", "deployed", "http", "telemetry", "aws"])),
    ("cli", AnyButTestkit),
    ("testkit", Any),
    // It has no product code: its library is what the tests share.
    ("tests", Any),
    // It measures programs from outside, investigations without a store, and calls without an intake.
    ("bench", Only(&["core", "config", "aws", "http", "investigation", "mcp", "model"])),
];

/// Dependencies of others (a name, or its beginning with `*`), and the only packages that may name them, be it for
/// their tests.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rmcp*", &["mcp"]),
    ("aws-config", &["aws"]),
    ("aws-sdk-*", &["aws", "bench"]),
    ("aws-smithy-*", &["aws"]),
    ("aws-types", &["aws"]),
    ("aws-lc-rs", &["core", "ingest"]),
    ("serde_dynamo", &["aws"]),
    ("dynoxide*", &["aws", "local", "testkit"]),
    ("async-openai*", &["model"]),
    ("lambda_*", &["ingest", "worker", "sweeper", "watcher", "testkit", "bench"]),
    ("aws_lambda_events", &["ingest", "worker", "sweeper", "watcher", "testkit"]),
    ("anyhow", &["cli", "ingest", "worker", "sweeper", "watcher"]),
];

/// What core may never name: it has no I/O, no runtime, no cloud.
const NOT_IN_CORE: &[&str] = &[
    "tokio",
    "tokio-util",
    "async-std",
    "smol",
    "aws-config",
    "aws-sdk-*",
    "aws-smithy-*",
    "aws-types",
    "reqwest",
    "hyper*",
    "axum",
    "rusqlite",
    "getrandom",
    "rand",
];

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.cargo_path(env!("CARGO")).manifest_path(workspace().join("Cargo.toml"));
    command.no_deps().other_options(["--offline".to_owned()]).exec().expect("cargo metadata")
}

fn short(package: &Package) -> String {
    let name = package.name.to_string();
    name.strip_prefix("sentinel-").unwrap_or_else(|| panic!("{name} is not named sentinel-…")).to_owned()
}

/// What a package names of ours.
fn ours(package: &Package) -> impl Iterator<Item = (&str, DependencyKind)> {
    package.dependencies.iter().filter_map(|d| Some((d.name.strip_prefix("sentinel-")?, d.kind)))
}

fn is_meant(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n  {}", faults.join("\n  "));
}

#[test]
fn a_crate_imports_only_what_the_design_allows() {
    let rules: BTreeMap<&str, &Ours> = MAY_IMPORT.iter().map(|(name, ours)| (*name, ours)).collect();
    let mut faults = Vec::new();
    for package in metadata().packages {
        let name = short(&package);
        let Some(rule) = rules.get(name.as_str()) else {
            faults.push(format!("{name} has no row in the table"));
            continue;
        };
        for (other, _) in ours(&package).filter(|(_, kind)| *kind != DependencyKind::Development) {
            let allowed = match rule {
                Only(allowed) => allowed.contains(&other),
                AnyButTestkit => other != "testkit",
                Any => true,
            };
            if !allowed {
                faults.push(format!("{name} imports {other}"));
            }
        }
    }
    none(&faults);
}

#[test]
fn ingest_never_reaches_what_investigates() {
    let packages = metadata().packages;
    let imports: BTreeMap<String, Vec<String>> = packages
        .iter()
        .map(|p| {
            let others = ours(p).filter(|(_, kind)| *kind != DependencyKind::Development);
            (short(p), others.map(|(other, _)| other.to_owned()).collect())
        })
        .collect();
    let mut reached = BTreeSet::new();
    let mut next = vec!["ingest".to_owned()];
    while let Some(name) = next.pop() {
        if reached.insert(name.clone()) {
            next.extend(imports[&name].iter().cloned());
        }
    }
    assert!(reached.contains("core"), "{reached:?}");
    for heavy in ["investigation", "model", "mcp", "sinks"] {
        assert!(!reached.contains(heavy), "ingest reaches {heavy}: {reached:?}");
    }
}

#[test]
fn the_test_kit_is_never_a_part_of_the_product() {
    let mut users = BTreeSet::new();
    for package in metadata().packages {
        for (_, kind) in ours(&package).filter(|(other, _)| *other == "testkit") {
            let name = short(&package);
            assert!(
                kind == DependencyKind::Development || name == "tests",
                "{name} has the test kit as {kind:?}"
            );
            users.insert(name);
        }
    }
    assert!(users.len() > 2, "nobody uses the test kit: {users:?}");
}

#[test]
fn each_outside_library_is_named_by_the_crate_that_hides_it() {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata().packages {
        let name = short(&package);
        for dependency in &package.dependencies {
            for (pattern, homes) in ONLY_IN.iter().filter(|(pattern, _)| is_meant(pattern, &dependency.name))
            {
                seen.insert(*pattern);
                if !homes.contains(&name.as_str()) {
                    faults.push(format!("{name} names {}; only {} may", dependency.name, homes.join(", ")));
                }
            }
        }
    }
    none(&faults);
    // A rule for a library that nobody has any longer guards nothing.
    for pattern in ["rmcp*", "aws-sdk-*", "dynoxide*", "async-openai*"] {
        assert!(seen.contains(pattern), "{pattern}");
    }
}

#[test]
fn core_has_no_runtime_no_network_and_no_cloud() {
    let packages = metadata().packages;
    let core = packages.iter().find(|p| short(p) == "core").unwrap();
    for dependency in core.dependencies.iter().filter(|d| d.kind != DependencyKind::Development) {
        let name = &dependency.name;
        assert!(!NOT_IN_CORE.iter().any(|pattern| is_meant(pattern, name)), "core names {name}");
    }
}

/// What is compiled for this machine with all that the workspace asks for: name and version.
fn compiled() -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "tree",
        "--offline",
        "--locked",
        "--workspace",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ]);
    let output = cargo.args(["--format", "{p}"]).current_dir(workspace()).output().expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    versions
}

#[test]
fn there_is_one_http_stack_and_one_tls() {
    let compiled = compiled();
    for (name, version) in [("hyper", "v1."), ("rustls", "v0.23."), ("reqwest", "v0.13."), ("http", "v1.")] {
        let versions = compiled.get(name).unwrap_or_else(|| panic!("{name} is not compiled"));
        assert_eq!(versions.len(), 1, "{name} is there in several versions: {versions:?}");
        assert!(versions.iter().all(|v| v.starts_with(version)), "{name} {versions:?}, not {version}");
    }
    assert!(compiled.contains_key("aws-lc-rs"));
    for unwanted in ["ring", "openssl", "openssl-sys", "native-tls", "hyper-tls", "serde_yaml"] {
        assert!(!compiled.contains_key(unwanted), "{unwanted} is compiled");
    }
}

/// The Rust files of a package, those of its tests included.
fn sources(package: &Package) -> Vec<PathBuf> {
    let root = package.manifest_path.as_std_path().parent().unwrap();
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "benches"].iter().map(|f| root.join(f)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).unwrap().lines().count()
}

#[test]
fn every_package_has_the_workspace_lints_and_none_may_be_unsafe() {
    let packages = metadata().packages;
    assert!(packages.len() > 10, "{}", packages.len());
    for package in &packages {
        let manifest = fs::read_to_string(&package.manifest_path).unwrap();
        let lints = manifest.split("[lints]").nth(1).map(str::trim_start).unwrap_or_default();
        assert!(lints.starts_with("workspace = true"), "{}", package.manifest_path);
    }
    let workspace = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    assert!(workspace.lines().any(|line| line == r#"unsafe_code = "forbid""#));
}

#[test]
fn a_main_only_wires() {
    let packages = metadata().packages;
    let mains: Vec<&Path> = packages
        .iter()
        .flat_map(|p| &p.targets)
        .filter(|t| t.is_bin())
        .map(|t| t.src_path.as_std_path())
        .collect();
    assert!(!mains.is_empty());
    for main in mains {
        let lines = lines(main);
        assert!(lines < 60, "{} has {lines} lines", main.display());
    }
}

#[test]
fn who_investigates_knows_no_services_own_names() {
    const NAMES: &[&str] =
        &["function_call", "mcp_call", "output_text", "server_label", "tool_use", "encrypted_content"];
    let package = metadata().packages.into_iter().find(|package| short(package) == "investigation").unwrap();
    // Records of the first version hold the items as the services wrote them.
    let reads = |file: &PathBuf| {
        let in_tests = file.components().any(|part| part.as_os_str() == "tests");
        !in_tests && !file.ends_with("src/turn/first.rs") && !file.ends_with("src/any_input.rs")
    };
    let files: Vec<PathBuf> = sources(&package).into_iter().filter(reads).collect();
    assert!(files.len() > 20, "{}", files.len());
    let faults: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let named = NAMES
                .iter()
                .filter(|name| text.contains(**name))
                .map(|name| format!("{}: {name}", file.display()));
            named.collect::<Vec<_>>()
        })
        .collect();
    none(&faults);
}

#[test]
fn no_file_is_longer_than_can_be_read_at_once() {
    let files: Vec<PathBuf> = metadata().packages.iter().flat_map(sources).collect();
    assert!(files.len() > 50, "{}", files.len());
    let long: Vec<String> = files
        .iter()
        .map(|file| (lines(file), file))
        .filter(|(lines, _)| *lines > 550)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    none(&long);
}

/// In code marks, and long: so no path, no key, no word of the text.
#[test]
fn each_test_that_the_threat_model_names_is_there() {
    let text = fs::read_to_string(workspace().join("SECURITY.md")).unwrap();
    let is_name =
        |word: &&str| word.len() > 25 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let named: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(named.len() > 10, "{named:?}");
    let code: String =
        metadata().packages.iter().flat_map(sources).map(|file| fs::read_to_string(file).unwrap()).collect();
    let missing = named.iter().filter(|name| !code.contains(&format!("fn {name}(")));
    none(
        &missing
            .map(|name| format!("SECURITY.md names the test {name}, which is not there"))
            .collect::<Vec<_>>(),
    );
}

/// A change that does not apply shows nothing: where its rule has moved, the change moves with it.
#[test]
fn each_change_that_the_tests_must_notice_still_applies() {
    let folder = workspace().join("tests/mutants");
    let patches = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<_> = patches.filter(|path| path.extension().is_some_and(|e| e == "patch")).collect();
    assert!(patches.len() > 30, "{patches:?}");
    let applies = |patch: &&PathBuf| {
        let git = Command::new("git").current_dir(workspace()).args(["apply", "--check"]).arg(patch).output();
        git.unwrap().status.success()
    };
    let stale = patches.iter().filter(|patch| !applies(patch));
    none(&stale.map(|patch| format!("{} does not apply any more", patch.display())).collect::<Vec<_>>());
}
