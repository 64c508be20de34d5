//! An AWS on this machine: ministack, which `tests/setup.sh aws` installs. It runs the Lambdas' real programs, deploys
//! `CloudFormation` templates and, as it is started here, refuses what a role does not allow.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::Service;
use super::tools::{Ready, bare, in_bench, start};

/// A running ministack. Dropping it ends it, with the functions that it runs.
#[derive(Debug)]
pub struct Ministack {
    /// Its one address for every service, and its process.
    pub service: Service,
}

/// What a deployed stack says about itself.
#[derive(Clone, Debug)]
pub struct Stack {
    outputs: BTreeMap<String, String>,
}

/// Starts a ministack that holds nothing yet.
pub async fn ministack() -> Ministack {
    let program = in_bench("aws/bin/ministack");
    let service = start("ministack", Ready::Succeeds("/_ministack/health"), |port, dir| {
        let mut command = bare(&program, dir);
        command
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            // Functions inherit it, and so find their way back.
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
            // Every call is checked against the caller's policies, and functions get the credentials of their roles.
            .env("AUTH", "true")
            // Zips are unpacked there.
            .env("TMPDIR", dir);
        command
    })
    .await;
    Ministack { service }
}

impl Ministack {
    /// What a program's environment needs to reach it with every permission, and nothing else on AWS.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.service.base.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// Deploys infra/template.yaml with `tests/aws/deploy.py`. `zips` holds `sentinel-<function>/bootstrap.zip` of all
    /// four functions (`infra/build.sh`), `config` is what they find as their infra/aws.yaml, `parameters` are the
    /// template's (`WorkerTimeout=60`); the processor and the certificates are this machine's. The same again updates
    /// the stack.
    pub async fn deploy(&self, zips: &Path, config: &str, parameters: &[&str]) -> Stack {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/aws/deploy.py");
        let home = TempDir::new().expect("a temporary folder");
        let mut command = bare(&in_bench("aws/bin/python"), home.path());
        let file = home.path().join("sentinel.yaml");
        fs::write(&file, config).expect("a file in a temporary folder");
        command.arg(script).arg(&self.service.base).arg("--zips").arg(zips);
        command.arg("--config").arg(file).args(parameters);
        let Output { status, stdout, stderr } = run(command).await;
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "deploy.py ended with {status}\n{stderr}");
        let outputs = serde_json::from_slice(&stdout).expect("deploy.py prints one JSON object");
        Stack { outputs }
    }

    /// Runs the AWS command line against it, and gives what that printed.
    pub async fn aws(&self, args: &[&str]) -> String {
        let home = TempDir::new().expect("a temporary folder");
        answer(args, run(self.command_line(&home, args)).await)
    }

    /// What a function has logged, by its name, for the message of a test that fails.
    pub fn logs(&self, function: &str) -> String {
        let home = TempDir::new().expect("a temporary folder");
        let group = format!("/aws/lambda/{function}");
        let args = [
            "logs",
            "filter-log-events",
            "--log-group-name",
            &group,
            "--output",
            "text",
            "--query",
            "events[].message",
        ];
        let output =
            self.command_line(&home, &args).stdin(Stdio::null()).output().expect("a program that starts");
        answer(&args, output)
    }

    fn command_line(&self, home: &TempDir, args: &[&str]) -> Command {
        let mut command = bare(&in_bench("aws/bin/aws"), home.path());
        // The command line has a variable of its own for the region.
        command.args(args).envs(self.environment()).env("AWS_DEFAULT_REGION", "us-east-1");
        command
    }

    /// The processes that run this function now, by its name (`sentinel-worker`): one for each that is warm.
    pub fn processes_of(&self, function: &str) -> Vec<u32> {
        let variable = format!("AWS_LAMBDA_FUNCTION_NAME={function}");
        let own = self.service.child.pid();
        let entries = fs::read_dir("/proc").expect("a Linux machine").flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                // A process that ends meanwhile has no files any more.
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                status.lines().any(|line| line == format!("PPid:\t{own}"))
                    && environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
            })
            .collect()
    }

    /// Ends those processes with SIGKILL, and says how many there were. An invocation that one was working on fails.
    pub fn kill(&self, function: &str) -> usize {
        let pids = self.processes_of(function);
        for pid in &pids {
            let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw).expect("the kernel's own number");
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(pid, Signal::KILL);
        }
        pids.len()
    }
}

impl Stack {
    /// An output of the template, or `LocalUrl` (the API's base, without a slash at the end) or `MappingId` (the
    /// worker's event source mapping).
    pub fn output(&self, name: &str) -> &str {
        self.outputs.get(name).unwrap_or_else(|| panic!("no output {name} in {:?}", self.outputs))
    }

    /// Where alerts are posted to: for Alertmanager and every other sender that finds no `*.localhost`.
    pub fn webhook(&self) -> String {
        format!("{}/webhook/alertmanager", self.output("LocalUrl"))
    }
}

fn answer(args: &[&str], output: Output) -> String {
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "aws {args:?} ended with {status}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}

/// Runs it to its end, while this runtime goes on.
async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("no panic there").expect("a program that starts")
}
