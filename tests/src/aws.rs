//! An `aws` on the path that writes down what it is asked and answers by a script: the AWS command line at the wire.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Home;

/// What stands in for the AWS command line.
#[derive(Debug)]
pub struct FakeAws {
    dir: TempDir,
}

/// A rule is asked by the first words of a command; of its answers each is given once, the last one from then on.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
asked = sys.argv[1:]
# Files are gone when the command is: what was in them is written down too.
files = {a: open(a[7:]).read() for a in asked if a.startswith("file://")}
with open(os.path.join(folder, "asked"), "a") as log:
    log.write(json.dumps({"args": asked, "files": files}) + "\n")
rules = json.load(open(os.path.join(folder, "rules.json")))
for rule in rules:
    if rule["words"] == asked[:len(rule["words"])]:
        answers = rule["answers"]
        answer = answers[0]
        if len(answers) > 1:
            del answers[0]
            json.dump(rules, open(os.path.join(folder, "rules.json"), "w"))
        if "refuses" in answer:
            code, said = answer["refuses"]
            sys.stderr.write(f"\nAn error occurred ({code}) when calling the X operation: {said}\n")
            sys.exit(254)
        gives = answer["gives"]
        print(gives if isinstance(gives, str) else json.dumps(gives))
        sys.exit(0)
sys.stderr.write(f"the test has no answer to {asked}\n")
sys.exit(255)
"#;

impl FakeAws {
    /// With these rules: the first words of a command, and its answers ([`gives`], [`refuses`]).
    pub fn new(rules: &[(&str, &[Value])]) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let rules: Vec<Value> = rules
            .iter()
            .map(
                |(words, answers)| json!({"words": words.split(' ').collect::<Vec<_>>(), "answers": answers}),
            )
            .collect();
        fs::write(dir.path().join("rules.json"), Value::from(rules).to_string()).expect("a file");
        let program = dir.path().join("aws");
        fs::write(&program, PROGRAM).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a file of ours");
        Self { dir }
    }

    /// A folder whose commands find it, and no credentials.
    pub fn home(&self) -> Home {
        Home::empty()
            .env("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", self.dir.path().display()))
            .env("AWS_REGION", "eu-central-1")
    }

    /// Every command so far, its words joined.
    pub fn asked(&self) -> Vec<String> {
        let words = |line: Value| {
            line["args"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|w| w.as_str().expect("text").to_owned())
                .collect::<Vec<_>>()
        };
        self.lines().into_iter().map(|line| words(line).join(" ")).collect()
    }

    /// What stood in the files that commands named as `file://…`.
    pub fn files(&self) -> Vec<String> {
        let texts = |line: Value| {
            line["files"]
                .as_object()
                .expect("a map")
                .values()
                .map(|t| t.as_str().expect("text").to_owned())
                .collect::<Vec<_>>()
        };
        self.lines().into_iter().flat_map(texts).collect()
    }

    fn lines(&self) -> Vec<Value> {
        let log: &Path = &self.dir.path().join("asked");
        let log = fs::read_to_string(log).unwrap_or_default();
        log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

/// The answer of a command that did what it was asked for.
pub fn gives(answer: Value) -> Value {
    Value::Object([("gives".to_owned(), answer)].into_iter().collect())
}

/// The answer of a service that refuses, as the command line prints it.
pub fn refuses(code: &str, said: &str) -> Value {
    json!({"refuses": [code, said]})
}
