//! Real programs beside a test: started with their output kept, waited for, and always ended.
//!
//! Nothing here sleeps to synchronise: waits poll a condition against [`crate::PATIENCE`], and fail early with the
//! program's output when it has ended.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::time::Instant;

mod ministack;
mod tools;

pub use ministack::{Ministack, Stack, ministack};
pub use tools::{
    ClusterPlace, Service, alertmanager, alertmanager_in_cluster, kubernetes_mcp, mcp_everything,
    mcp_everything_command, prometheus, prometheus_mcp,
};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A port of the loopback that is free now. Another process may take it before it is used: the launchers of this
/// module try again then, and a program that can bind port 0 and say what it got is better off doing that.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on the loopback");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// A port of the loopback on which nobody listens, and nobody else can while the socket is held: connections to its
/// address are refused.
pub fn closed_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port on the loopback");
    socket
}

/// A [`Command`] for `program` that the kernel kills when the test process dies without running its destructors, as
/// it does when nextest ends a test that takes too long. Needs util-linux's `setpriv`; without it only that is lost.
pub fn command(program: impl AsRef<Path>) -> Command {
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
            command
        }
        None => Command::new(program.as_ref()),
    }
}

/// The first `tool` on `PATH`.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&path()).map(|dir| dir.join(tool)).find(|file| file.is_file())
}

#[expect(clippy::disallowed_methods, reason = "tests have no main that could read it for them")]
pub(crate) fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// A started program. Dropping it kills it and everything in its process group, and waits for its end; while the test
/// fails, it prints the end of the program's output.
pub struct Child {
    name: String,
    process: std::process::Child,
    ended: Option<ExitStatus>,
    dir: TempDir,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ended, dir, .. } = self;
        f.debug_struct("Child")
            .field("name", name)
            .field("pid", &self.pid())
            .field("ended", ended)
            .field("dir", dir)
            .finish_non_exhaustive()
    }
}

impl Child {
    /// Starts `command` (best made by [`command`]) in a process group of its own, without standard input. `name` is
    /// for messages.
    pub fn start(name: &str, command: Command) -> Self {
        Self::start_in(name, command, TempDir::new().expect("a temporary folder"))
    }

    /// The same, with its output in `dir`, which lives as long as the child.
    pub(crate) fn start_in(name: &str, mut command: Command, dir: TempDir) -> Self {
        let file = |name: &str| File::create(dir.path().join(name)).expect("a file in a temporary folder");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).process_group(0);
        let process = spawn(command).unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { name: name.to_owned(), process, ended: None, dir }
    }

    /// Its process id, also after its end.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.dir.path().join(file)).expect("the file that the child writes to");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits until `GET url` is answered with a 2xx.
    pub async fn wait_until_ready(&mut self, url: &str) {
        let ready = self.poll_http(url, |status| status.is_success()).await;
        assert!(ready, "{} ended before {url} was ready{}", self.name, self.tail());
    }

    /// Waits until `GET url` is answered at all.
    pub async fn wait_until_it_answers(&mut self, url: &str) {
        let ready = self.poll_http(url, |_| true).await;
        assert!(ready, "{} ended before {url} answered{}", self.name, self.tail());
    }

    /// Waits until `url` gives a `good` status: true; or until the program has ended: false.
    async fn poll_http(&mut self, url: &str, good: impl Fn(reqwest::StatusCode) -> bool) -> bool {
        // A proxy of the environment has nothing to say about the loopback.
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let client = client.expect("a plain HTTP client");
        let until = Instant::now() + crate::PATIENCE;
        loop {
            // Asked first: if it has ended, whoever answers there is somebody else.
            if self.poll().is_some() {
                return false;
            }
            if client.get(url).send().await.is_ok_and(|response| good(response.status())) {
                return true;
            }
            self.pause(until, url).await;
        }
    }

    /// Waits until a whole line of its output contains `part`, and gives the first such line (standard output first).
    pub async fn wait_for_line(&mut self, part: &str) -> String {
        let until = Instant::now() + crate::PATIENCE;
        loop {
            // Whether it ended is asked before the output is read: what it wrote last is not missed.
            let ended = self.poll().is_some();
            for output in [self.stdout(), self.stderr()] {
                // A line without its end may still grow.
                let whole = output.rfind('\n').map_or("", |end| output.split_at(end).0);
                let text = if ended { output.as_str() } else { whole };
                if let Some(line) = text.lines().find(|line| line.contains(part)) {
                    return line.to_owned();
                }
            }
            assert!(!ended, "{} ended before {part:?}{}", self.name, self.tail());
            self.pause(until, part).await;
        }
    }

    /// Waits until it ends by itself, or of a signal that was sent.
    pub async fn wait_for_exit(&mut self) -> ExitStatus {
        let until = Instant::now() + crate::PATIENCE;
        loop {
            if let Some(status) = self.poll() {
                return status;
            }
            self.pause(until, "its end").await;
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGHUP.
    pub fn hang_up(&mut self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGTERM.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGKILL to its whole process group and waits for its end.
    pub fn kill(&mut self) {
        if self.poll().is_none() {
            // The pid is ours until it is waited for, so that the group is ours too.
            let _ = kill_process_group(self.group(), Signal::KILL);
            self.ended = Some(self.process.wait().expect("a child can be waited for"));
        }
    }

    fn signal(&mut self, signal: Signal) {
        assert!(self.is_running(), "{} has ended before it was signalled{}", self.name, self.tail());
        kill_process(self.group(), signal)
            .unwrap_or_else(|e| panic!("{} cannot be signalled: {e}", self.name));
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait().expect("a child can be waited for");
            if self.ended.is_some() {
                // What it started and left behind is still in its group.
                let _ = kill_process_group(self.group(), Signal::KILL);
            }
        }
        self.ended
    }

    async fn pause(&self, until: Instant, waited_for: &str) {
        let in_time = Instant::now() < until;
        assert!(in_time, "{}: no {waited_for:?} in {:?}{}", self.name, crate::PATIENCE, self.tail());
        tokio::time::sleep(POLL).await;
    }

    /// The end of its output, for messages.
    fn tail(&self) -> String {
        let mut text = String::new();
        for (name, output) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            let lines: Vec<&str> = output.lines().collect();
            let last = lines.split_at(lines.len().saturating_sub(30)).1;
            if !last.is_empty() {
                text = format!("{text}\n--- {} {name}, its end:\n{}", self.name, last.join("\n"));
            }
        }
        text
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        self.kill();
    }
}

/// Spawns from one thread that lives as long as the test process: the kernel's "kill when the parent dies" means the
/// thread that spawned, and a runtime's threads come and go.
fn spawn(command: Command) -> io::Result<std::process::Child> {
    type Order = (Command, mpsc::Sender<io::Result<std::process::Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker waits for the reply: it is there.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, answer) = mpsc::channel();
    let order = (command, reply);
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send(order).expect("the spawner never ends");
    answer.recv().expect("the spawner always replies")
}
