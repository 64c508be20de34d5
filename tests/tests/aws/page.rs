//! The way of docs/aws.md to a deployed Sentinel, word for word, on a fresh clone; and what stands when others stand beside
//! it, or when it is gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sentinel_testkit::process::{Ministack, command, ministack};
use sentinel_tests::{Home, program, workspace};
use serde_json::{Value, json};

/// The page whose commands are played here.
const PAGE: &str = "docs/aws.md";
const BUCKET: &str = "zips-of-the-page";

/// Lines of the page's section that are commands: those that are indented, joined where they go on.
fn commands(page: &str) -> Vec<String> {
    let section = page.split("\n## Deploy it\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let indented = section.lines().filter_map(|line| line.strip_prefix("    "));
    let joined = indented.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

fn shell(line: &str, home: &Home, at: &Path, variables: &[(&str, &str)]) -> String {
    let path = format!(
        "{}:{}:/usr/local/bin:/usr/bin:/bin",
        program("sentinel").parent().unwrap().display(),
        workspace().join("target/testbench/aws/bin").display()
    );
    let mut bash = command("/bin/bash");
    bash.args(["-euc", line]).env_clear().current_dir(at).envs(home.variables());
    bash.env("PATH", path)
        .env("HOME", home.path())
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("BUCKET", BUCKET);
    let output = bash.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A clone of what is committed, with the zips that the page's first line has built in the workspace.
fn clone(into: &Path) -> PathBuf {
    let clone = into.join("clone");
    let git = Command::new("git")
        .args(["clone", "--quiet", "--no-local"])
        .arg(workspace())
        .arg(&clone)
        .status()
        .unwrap();
    assert!(git.success());
    let zips = clone.join("target/lambda");
    fs::create_dir_all(&zips).unwrap();
    for function in ["ingest", "worker", "sweeper", "watcher"] {
        let name = format!("sentinel-{function}");
        let built = workspace().join("target/lambda").join(&name);
        assert!(built.join("bootstrap.zip").is_file(), "there are no zips: bash infra/build.sh x86_64");
        symlink(built, zips.join(name)).unwrap();
    }
    clone
}

/// Says to the local AWS what it does not see by itself, as `deploy.py` does; gives the outputs.
fn adjusted(aws: &Ministack, home: &Home, stack: &str) -> Value {
    let python = workspace().join("target/testbench/aws/bin/python");
    let script = workspace().join("tests/aws/deploy.py");
    let line = format!(
        "{} {} {} --stack {stack} --only-adjust",
        python.display(),
        script.display(),
        aws.service.base
    );
    serde_json::from_str(&shell(&line, home, home.path(), &[])).unwrap()
}

#[test]
fn the_page_builds_as_the_checks_do() {
    let page = fs::read_to_string(workspace().join(PAGE)).unwrap();
    let checks = fs::read_to_string(workspace().join("tests/run.sh")).unwrap();
    let build = commands(&page).remove(0);
    assert_eq!(build.matches("arm64").count(), 1);
    let here = build.replace("arm64", "x86_64");
    assert!(
        checks.lines().any(|line| line == here),
        "tests/run.sh does not build by the line of {PAGE}: {here}"
    );
    assert_eq!(page.matches("arm64").count(), 2, "the architecture is named once, and explained once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_commands_deploy_try_and_remove_a_sentinel() {
    let aws = ministack().await;
    let home = aws.environment().iter().fold(Home::empty(), |home, (name, value)| home.env(name, value));
    let clone = clone(home.path());
    let page = fs::read_to_string(clone.join(PAGE)).unwrap();
    let lines = commands(&page);
    let [_build, package, deploy, send, doctor, remove] = &lines[..] else { panic!("{lines:#?}") };
    // What the build writes there, and where this machine has its certificates.
    let certificates = shell(
        "python -c 'import ssl; print(ssl.get_default_verify_paths().openssl_cafile)'",
        &home,
        &clone,
        &[],
    );
    let parameters = format!(
        "Architecture=x86_64 CertificateBundle={} AwsCertificateBundle=infra/aws-roots.pem\n",
        certificates.trim()
    );
    fs::write(clone.join("target/lambda/parameters"), parameters).unwrap();

    aws.aws(&["s3", "mb", &format!("s3://{BUCKET}")]).await;
    shell(package, &home, &clone, &[]);
    shell(deploy, &home, &clone, &[]);
    let outputs = adjusted(&aws, &home, "sentinel");
    let webhook = format!("{}/webhook/alertmanager", outputs["LocalUrl"].as_str().unwrap());
    let at = [("SENTINEL_WEBHOOK_URL", webhook.as_str())];

    let report = shell(send, &home, &clone, &at);
    assert!(report.contains("KubePodNotReady") && report.contains("any-alert"), "{report}");
    let well = shell(doctor, &home, &clone, &at);
    assert!(well.contains("All is well.") && well.contains("lets in nobody without a token"), "{well}");

    // Another one stands beside it, and what is told to one the other does not know.
    let table = outputs["TableName"].as_str().unwrap();
    let beside = deploy.replace("--stack-name sentinel", "--stack-name beside");
    shell(&beside, &home, &clone, &[]);
    let beside = adjusted(&aws, &home, "beside");
    assert_ne!(beside["TableName"], outputs["TableName"]);
    let count = |table: &str| {
        home.run(&["incidents", "list", "--json", "--table", table], 0).json().as_array().unwrap().len()
    };
    let (one, none) = (count(table), count(beside["TableName"].as_str().unwrap()));
    assert!(one > 0 && none == 0, "{one} {none}");

    // Gone but for its table, with which the next one goes on.
    let removed = shell(remove, &home, &clone, &[]);
    assert!(removed.contains(&format!("Kept: the table {table}")), "{removed}");
    let left = aws.aws(&["cloudformation", "describe-stacks", "--output", "json"]).await;
    let left: Value = serde_json::from_str(&left).unwrap();
    let names: Vec<&Value> =
        left["Stacks"].as_array().unwrap().iter().map(|stack| &stack["StackName"]).collect();
    assert_eq!(names, [&json!("beside")]);
    assert_eq!(count(table), one);
    let on = format!(
        "{} ExistingTableName={table}",
        deploy.replace("--stack-name sentinel", "--stack-name again")
    );
    shell(&on, &home, &clone, &[]);
    let again = adjusted(&aws, &home, "again");
    assert_eq!(again["TableName"], outputs["TableName"]);
    let webhook = format!("{}/webhook/alertmanager", again["LocalUrl"].as_str().unwrap());
    let send = format!("{} --name again", send.replace("kube-pod-not-ready", "watchdog"));
    shell(&send, &home, &clone, &[("SENTINEL_WEBHOOK_URL", &webhook)]);
    assert_eq!(count(table), one + 1);
}

/// `sentinel aws init` with placeholders, and the lines that it prints: cargo-lambda puts the programs there and changes nothing
/// else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_init_prints_puts_the_programs_into_the_stack_that_it_made() {
    let aws = ministack().await;
    let home = aws.environment().iter().fold(Home::empty(), |home, (name, value)| home.env(name, value));
    let clone = clone(home.path());
    let certificates = shell(
        "python -c 'import ssl; print(ssl.get_default_verify_paths().openssl_cafile)'",
        &home,
        &clone,
        &[],
    );
    let init = format!(
        "sentinel aws init --json --name desk --architecture x86_64 --parameter CertificateBundle={} \
         --parameter AwsCertificateBundle=infra/aws-roots.pem",
        certificates.trim()
    );
    let made: Value = serde_json::from_str(&shell(&init, &home, &clone, &[])).unwrap();
    let lines: Vec<&str> =
        made["deploy"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let [build, deploy @ ..] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((*build, deploy.len()), ("bash infra/build.sh x86_64", 3));
    let outputs = adjusted(&aws, &home, "desk");
    let webhook = format!("{}/webhook/alertmanager", outputs["LocalUrl"].as_str().unwrap());
    let at = [("SENTINEL_WEBHOOK_URL", webhook.as_str())];
    let empty = shell("sentinel aws doctor --name desk || true", &home, &clone, &at);
    assert!(empty.contains("desk-worker: has no code yet"), "{empty}");

    // Cargo finds its own folders by the environment of whoever runs it.
    let bench = workspace().join("target/testbench/aws/bin");
    for line in deploy {
        let mut bash = command("/bin/bash");
        bash.args(["-euc", &format!("PATH={}:$PATH; {line}", bench.display())]).current_dir(&clone);
        let deployed = bash.envs(home.variables()).stdin(Stdio::null()).output().unwrap();
        assert!(deployed.status.success(), "{line}\n{}", String::from_utf8_lossy(&deployed.stderr));
    }
    let report = shell("sentinel aws send --name desk events/alertmanager/watchdog.json", &home, &clone, &at);
    assert!(report.contains("any-alert"), "{report}");
    let well = shell("sentinel aws doctor --name desk", &home, &clone, &at);
    assert!(well.contains("All is well."), "{well}");
}
