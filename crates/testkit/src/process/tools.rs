//! The programs that `tests/setup.sh` installs, each on a free port of the loopback and ready when its launcher
//! returns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Child, command, find, free_port, path};

/// A program that answers HTTP. Dropping it stops it.
#[derive(Debug)]
pub struct Service {
    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub base: String,
    /// The process.
    pub child: Child,
}

impl Service {
    /// The base with `path`, which begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// A real Alertmanager with this configuration file. Alerts go to `url("/api/v2/alerts")`.
pub async fn alertmanager(config: &str) -> Service {
    let program = installed("prometheus-alertmanager");
    start("alertmanager", Ready::Succeeds("/-/ready"), |port, dir| {
        let mut command = alertmanager_command(&program, config, port, dir);
        // Without an address it gossips with nobody.
        command.arg("--cluster.listen-address=");
        command
    })
    .await
}

/// What one in a cluster and one alone have in common.
fn alertmanager_command(program: &Path, config: &str, port: u16, dir: &Path) -> Command {
    let mut command = configured(program, &written(dir, "alertmanager.yml", config), port);
    command.arg(format!("--storage.path={}", dir.join("data").display()));
    command
}

/// A program of Prometheus' kind, with its configuration and its port.
fn configured(program: &Path, file: &Path, port: u16) -> Command {
    let mut command = command(program);
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command
}

/// A place in a cluster of Alertmanagers.
#[derive(Clone, Debug)]
pub struct ClusterPlace {
    /// Where it listens for its peers.
    pub port: u16,
    /// Where its peers find it, if that is elsewhere: something that stands between them.
    pub advertise: String,
    /// Where it finds them.
    pub peers: Vec<String>,
}

/// The same in a cluster. The waits that a cluster has by default are shortened.
pub async fn alertmanager_in_cluster(config: &str, place: &ClusterPlace) -> Service {
    let program = installed("prometheus-alertmanager");
    start("alertmanager", Ready::Succeeds("/-/healthy"), |port, dir| {
        let mut command = alertmanager_command(&program, config, port, dir);
        command
            .arg(format!("--cluster.listen-address=127.0.0.1:{}", place.port))
            .arg(format!("--cluster.advertise-address={}", place.advertise))
            .args([
                "--cluster.peer-timeout=2s",
                "--cluster.settle-timeout=2s",
                "--cluster.reconnect-interval=1s",
            ])
            .args(place.peers.iter().map(|peer| format!("--cluster.peer={peer}")));
        command
    })
    .await
}

/// A real Prometheus with this configuration file. `rules` are written beside it as `rules.yml`, for
/// `rule_files: [rules.yml]`. A firing alert is sent again each second: it finds its Alertmanagers seconds after its
/// start, and what it meant to send before would otherwise wait for a minute.
pub async fn prometheus(config: &str, rules: &str) -> Service {
    let program = installed("prometheus");
    start("prometheus", Ready::Succeeds("/-/ready"), |port, dir| {
        let file = written(dir, "prometheus.yml", config);
        written(dir, "rules.yml", rules);
        let mut command = configured(&program, &file, port);
        command
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg("--rules.alert.resend-delay=1s");
        command
    })
    .await
}

/// A real prometheus-mcp-server that asks the Prometheus at `prometheus_url`. It speaks MCP at `url("/mcp")`.
pub async fn prometheus_mcp(prometheus_url: &str) -> Service {
    let program = in_bench("venv/bin/prometheus-mcp-server");
    start("prometheus-mcp-server", Ready::Answers("/mcp"), |port, dir| {
        let mut command = bare(&program, dir);
        command
            .env("PROMETHEUS_URL", prometheus_url)
            .env("PROMETHEUS_MCP_SERVER_TRANSPORT", "http")
            .env("PROMETHEUS_MCP_BIND_HOST", "127.0.0.1")
            .env("PROMETHEUS_MCP_BIND_PORT", port.to_string());
        command
    })
    .await
}

/// A real kubernetes-mcp-server whose cluster nobody can reach. It speaks MCP at `url("/mcp")`.
pub async fn kubernetes_mcp() -> Service {
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let name = format!("kubernetes-mcp-server-linux-{machine}");
    let program = in_bench(&format!("npm/node_modules/{name}/bin/{name}"));
    let nobody = free_port();
    start("kubernetes-mcp-server", Ready::Succeeds("/healthz"), |port, dir| {
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:{nobody}\"}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
        );
        let file = written(dir, "kubeconfig", &kubeconfig);
        let mut command = bare(&program, dir);
        command
            .args(["--read-only", "--bind-address", "127.0.0.1", "--port", &port.to_string()])
            .arg("--kubeconfig")
            .arg(file);
        command
    })
    .await
}

/// A real `@modelcontextprotocol/server-everything` over streamable HTTP, at `url("/mcp")`.
pub async fn mcp_everything() -> Service {
    // The server has no setting for its address and would listen on all interfaces.
    const LOOPBACK: &str = "data:text/javascript,import net from 'node:net'; \
        const listen = net.Server.prototype.listen; \
        net.Server.prototype.listen = function (port, ...rest) { \
          return listen.call(this, { port: Number(port), host: '127.0.0.1' }, ...rest); };";
    let node = installed("node");
    let script = in_bench(EVERYTHING);
    start("server-everything", Ready::Answers("/mcp"), |port, dir| {
        let mut command = bare(&node, dir);
        command
            .arg("--import")
            .arg(LOOPBACK)
            .arg(&script)
            .arg("streamableHttp")
            .env("PORT", port.to_string());
        command
    })
    .await
}

const EVERYTHING: &str = "npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js";

/// The command of a real `@modelcontextprotocol/server-everything` that speaks on its standard input and output.
pub fn mcp_everything_command() -> Vec<String> {
    let words = [installed("node"), in_bench(EVERYTHING), PathBuf::from("stdio")];
    words.iter().map(|word| word.display().to_string()).collect()
}

/// What shows that a program is ready.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    /// `GET` of this path gives a 2xx.
    Succeeds(&'static str),
    /// `GET` of this path gives any answer.
    Answers(&'static str),
}

/// Starts a program on a free port; on another one, where somebody else took the port meanwhile.
pub(super) async fn start(name: &str, ready: Ready, build: impl Fn(u16, &Path) -> Command) -> Service {
    let mut tries = 0;
    loop {
        tries += 1;
        let port = free_port();
        let dir = TempDir::new().expect("a temporary folder");
        let command = build(port, dir.path());
        let mut child = Child::start_in(name, command, dir);
        let base = format!("http://127.0.0.1:{port}");
        let is_ready = match ready {
            Ready::Succeeds(path) => {
                child.poll_http(&format!("{base}{path}"), |status| status.is_success()).await
            }
            Ready::Answers(path) => child.poll_http(&format!("{base}{path}"), |_| true).await,
        };
        if is_ready {
            return Service { base, child };
        }
        let output = child.stdout() + &child.stderr();
        let output = output.to_lowercase();
        let lost_its_port = output.contains("already in use");
        assert!(lost_its_port && tries < 5, "{name} does not start{}", child.tail());
    }
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, text).expect("a file in a temporary folder");
    file
}

/// A command without this process's environment: a server with a tool that shows its environment must have no secret
/// in it.
pub(super) fn bare(program: &Path, dir: &Path) -> Command {
    let mut command = command(program);
    command.env_clear().env("PATH", path()).env("HOME", dir).current_dir(dir);
    command
}

fn installed(tool: &str) -> PathBuf {
    find(tool).unwrap_or_else(|| panic!("{tool} is not on PATH: run tests/setup.sh"))
}

/// A file that `tests/setup.sh` installs under `target/testbench`.
pub(super) fn in_bench(file: &str) -> PathBuf {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/testbench")).join(file);
    let argument = if file.starts_with("aws/") { " aws" } else { "" };
    assert!(path.is_file(), "{} is not there: run tests/setup.sh{argument}", path.display());
    path
}
