//! The program as a process: signals, streams, standard input, what it says and how loud.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use sentinel_testkit::gate::Gate;
use sentinel_testkit::hook::HookServer;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_tests::wire::{LOOPBACK, alert, trouble, webhook};
use sentinel_tests::{Home, Sentinel, eventually, workspace};
use serde_json::{Value, json};

/// Takes alerts of this name by a card of it.
fn takes(name: &str) -> String {
    format!("incident-cards: [{{name: {name}, resource: {name}, prompt: Find out why.}}]\n")
}

/// An event of this name.
fn event(name: &str) -> Value {
    webhook(&[], &[alert(name, &[])])
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// The lines of a stream, each of which has to be JSON with a time.
fn lines(stderr: &str) -> Vec<Value> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let time = line["timestamp"].as_str().unwrap_or_else(|| panic!("no time: {line}"));
        assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
        line
    };
    stderr.lines().map(read).collect()
}

#[tokio::test]
async fn a_hang_up_reads_the_configuration_again_and_a_broken_one_changes_nothing() {
    let home = Home::with(&takes("One"));
    let mut up = home.up().await;
    let posted = async |up: &Sentinel, name: &str| up.post(&event(name)).await.1["unmatched"].clone();
    assert_eq!((posted(&up, "One").await, posted(&up, "Two").await), (json!(0), json!(1)));

    home.write("config.yaml", "incident-cards: [{name: Two, resource: Two, prompt: '{{ lables.x }}'}]\n");
    up.child.hang_up();
    up.child.wait_for_line("the one before it stays").await;
    let said = up.child.stderr();
    assert!(said.contains("config.yaml") && said.contains("unknown variable lables"), "{said}");
    assert_eq!((posted(&up, "One").await, posted(&up, "Two").await), (json!(0), json!(1)));

    home.write("config.yaml", &takes("Two"));
    up.child.hang_up();
    up.child.wait_for_line("was read again and holds").await;
    assert_eq!((posted(&up, "One").await, posted(&up, "Two").await), (json!(1), json!(0)));
    assert_eq!(up.get("/healthz").await["status"], "ok");
    up.child.terminate();
    assert_eq!(up.child.wait_for_exit().await.code(), Some(0), "{}", up.child.stderr());
}

#[tokio::test]
async fn what_began_under_a_configuration_ends_under_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let mcp = FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", move |_| {
            Answer::After(held.clone(), Box::new(Answer::text("all is well")))
        })
        .start()
        .await;
    let card = |name: &str| {
        format!(
            "{LOOPBACK}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
             incident-cards: [{{name: {name}, resource: Trouble, prompt: Find out., tools: [fake.look], evidence: [{{tool: fake.look}}]}}]\n",
            mcp.url()
        )
    };
    let home = Home::with(&card("old"));
    let mut up = home.up().await;
    let id = up.open(&trouble("one")).await;
    mcp.wait_for_calls(1).await;
    home.write("config.yaml", &card("new"));
    up.child.hang_up();
    up.child.wait_for_line("was read again and holds").await;
    gate.open();
    let ended = up.ended(&id).await;
    assert_eq!(
        (&ended["state"], &ended["card"], &ended["attempts"]),
        (&json!("done"), &json!("old"), &json!(1))
    );
    let next = up.open(&trouble("two")).await;
    assert_eq!(up.ended(&next).await["card"], "new");
}

#[test]
fn json_is_json_on_both_streams_and_each_line_has_its_time() {
    let home = Home::with(&takes("Trouble"));
    home.write("event.json", &trouble("one").to_string());
    let ended = home.run(&["replay", "--json", "event.json"], 0);
    assert_eq!(ended.json()[0]["state"], "done");
    let said = lines(&ended.stderr);
    assert!(said.iter().any(|line| line["event"] == "concluded"), "{said:#?}");

    let sample = workspace().join("events/alertmanager/watchdog.json").display().to_string();
    let said = lines(&Home::empty().run(&["replay", "--json", &sample], 0).stderr);
    assert!(
        said.iter().any(|line| line["message"].as_str().unwrap().contains("this is an example")),
        "{said:#?}"
    );

    home.write(
        "broken.yaml",
        "incident-cards: [{name: a, resource: a, prompt: '{{ lables.x }}'}]\nsinkz: 1\n",
    );
    for args in [
        &["up", "--json", "--config", "broken.yaml"][..],
        &["replay", "--json", "event.json", "--config", "broken.yaml"],
        &["render", "--json", "event.json", "--config", "broken.yaml"],
    ] {
        let said = lines(&home.run(args, 2).stderr);
        let first = &said[0];
        assert!(
            first["message"].as_str().is_some_and(|m| !m.is_empty()) && first["line"].is_u64(),
            "{first}"
        );
    }
    for (args, code) in [
        (&["replay", "--json", "gone.json"][..], 1),
        (&["incidents", "list", "--json", "--data-dir", "gone"], 1),
        (&["replay", "--json"], 2),
        (&["validate", "--json", "--config", "gone.yaml"], 2),
    ] {
        let ended = home.run(args, code);
        assert_eq!(ended.stdout, "", "{args:?}");
        let said = lines(&ended.stderr);
        let errors: Vec<_> = said.iter().filter(|line| line["level"] == "ERROR").collect();
        assert_eq!((errors.len(), said.last()), (1, errors.first().copied()), "{args:?}: {said:#?}");
    }
    let broken = home.env("A", "b");
    broken.write(".env", "A=1\nTOKEN='open\n");
    let said = lines(&broken.run(&["validate", "--json"], 1).stderr);
    assert!(said[0]["message"].as_str().unwrap().contains(".env:2"), "{said:#?}");
}

#[test]
fn a_reader_that_has_enough_ends_a_command_quietly() {
    let home = Home::empty();
    let sample = workspace().join("events/alertmanager/watchdog.json").display().to_string();
    home.run(&["replay", "--data-dir", ".sentinel", &sample], 0);
    for args in [
        &["schema"][..],
        &["validate"],
        &["--help"],
        &["incidents", "list"],
        &["incidents", "list", "--json"],
        &["replay", &sample],
        &["render", &sample],
    ] {
        let mut command = home.command(args);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        assert!(
            !said.contains("roken pipe") && !said.contains("error") && !said.contains("panicked"),
            "{args:?}: {said}"
        );
    }
    // Nor does anybody have to read what is told meanwhile.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(&["replay", &sample]);
    let output = command.stderr(writer).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Alerting works"), "{output:?}");
}

#[tokio::test]
async fn a_service_whose_streams_nobody_reads_goes_on() {
    let home = Home::with(&takes("Trouble"));
    let mut up = Command::new("sh");
    let (out, program) = (home.path().join("out"), sentinel_tests::program("sentinel"));
    let line =
        format!("{} up --json --listen 127.0.0.1:0 | head -n 1 | tee {}", program.display(), out.display());
    up.args(["-c", &line]).current_dir(home.path()).env_clear().env("PATH", "/usr/bin:/bin");
    let up = Sentinel::start(up).await;
    let id = up.open(&trouble("one")).await;
    assert_eq!(up.ended(&id).await["state"], "done");
}

#[test]
fn a_dash_is_standard_input() {
    let home = Home::with(&takes("Trouble"));
    let body = trouble("one").to_string();
    let replayed = with_input(home.command(&["replay", "--json", "-"]), &body);
    let incidents: Value = serde_json::from_slice(&replayed.stdout).unwrap();
    assert_eq!(incidents[0]["card"], "Trouble");
    let rendered = with_input(home.command(&["render", "-"]), &body);
    assert!(String::from_utf8_lossy(&rendered.stdout).contains("Find out why."), "{rendered:?}");
    home.write("why.md.j2", "Say why.");
    let config = "incident-cards: [{name: a, resource: a, prompt: why.md.j2}]\n";
    for args in [&["validate", "-", "--json"][..], &["validate", "--config", "-", "--json"]] {
        let validated = with_input(home.command(args), config);
        let said: Value = serde_json::from_slice(&validated.stdout).unwrap();
        assert_eq!((&said["valid"], &said["cards"][0]["name"]), (&json!(true), &json!("a")), "{said:#}");
    }
}

#[test]
fn what_is_said_is_as_loud_as_it_is_asked_for() {
    // What a server's program writes is for whoever looks closely.
    let config = format!(
        "{LOOPBACK}mcp-servers: [{{name: local, command: [/bin/sh, -c, 'echo hello >&2']}}]\n\
         incident-cards: [{{name: Trouble, resource: Trouble, prompt: Find out why., tools: [local.look], \
         evidence: [{{tool: local.look}}]}}]\n"
    );
    let home_with = |variables: &[(&str, &str)]| {
        let home = variables.iter().fold(Home::with(&config), |home, (name, value)| home.env(name, value));
        home.write("event.json", &trouble("one").to_string());
        home
    };
    let home = home_with(&[]);
    let said = |args: &[&str]| home.run(&[&["replay", "event.json"], args].concat(), 0).stderr;
    let usual = said(&[]);
    assert!(usual.contains("event.json: 1 accepted") && usual.contains(" INFO sentinel"), "{usual}");
    assert!(!usual.contains("DEBUG"), "{usual}");
    let quiet = said(&["-q"]);
    assert!(quiet.lines().all(|line| line.contains(": warning: ") || line.contains(" WARN ")), "{quiet}");
    assert_eq!(said(&["-qq"]), "");
    let loud = said(&["-v"]);
    assert!(loud.contains("DEBUG sentinel_mcp"), "{loud}");
    home.run(&["replay", "event.json", "-q", "-v"], 2);
    let directed = home_with(&[("RUST_LOG", "debug")]);
    assert!(directed.run(&["replay", "event.json"], 0).stderr.contains("DEBUG sentinel_mcp"));
    assert!(!directed.run(&["replay", "event.json", "-q"], 0).stderr.contains("DEBUG sentinel"));
    let told = home_with(&[("RUST_LOG", "a=b=c")]).run(&["replay", "event.json"], 1).stderr;
    assert!(told.contains("a=b=c\" cannot be read"), "{told}");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let coloured = |variables: &[(&str, &str)]| {
        let home =
            variables.iter().fold(Home::with(&takes("Trouble")), |home, (name, value)| home.env(name, value));
        home.run(&["validate"], 0).stdout.contains('\u{1b}')
    };
    assert!(coloured(&[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&[]));
    assert!(!coloured(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_tells_the_log_and_nobody_else_unless_it_is_asked_to() {
    let receiver = HookServer::start([]).await;
    let home = Home::with(&format!(
        "{LOOPBACK}sinks: [{{name: log, type: logger}}, {{name: hook, type: webhook, url: \"{}\"}}]\n\
         incident-cards: [{{name: Trouble, resource: Trouble, prompt: Find out why., sinks: [log, hook]}}]\n",
        receiver.url()
    ));
    home.write("event.json", &trouble("one").to_string());
    let ended = home.run(&["replay", "--json", "event.json"], 0);
    assert_eq!(Sentinel::told(&ended.json()[0]), ["findings to log: sent"]);
    assert!(ended.stderr.contains("Nobody is told: hook. --deliver tells them."), "{}", ended.stderr);
    assert_eq!(receiver.posted().len(), 0);
    let told = home.run(&["replay", "--json", "--deliver", "event.json"], 0).json();
    assert!(Sentinel::told(&told[0]).iter().any(|t| t == "findings to hook: sent"), "{told:#}");
    assert!(!receiver.posted().is_empty());
}

#[tokio::test]
async fn without_a_model_key_the_start_the_check_and_the_readiness_say_so() {
    let home = Home::with(&takes("Trouble"));
    let validated = home.run(&["validate"], 0);
    assert!(validated.stderr.contains("there is no model key"), "{}", validated.stderr);
    assert!(!validated.stdout.contains(" 0 warnings"), "{}", validated.stdout);
    let up = home.up().await;
    assert!(up.child.stderr().contains("there is no model key"), "{}", up.child.stderr());
    let ready = up.get("/readyz").await;
    assert_eq!((&ready["status"], &ready["store"]), (&json!("ready"), &json!("answers")));
    assert!(ready["model"].as_str().unwrap().starts_with("none: no model key is configured"), "{ready}");
    let with_key = Home::with(&takes("Trouble")).env("OPENAI_API_KEY", "sk-of-nobody-at-all");
    assert!(!with_key.run(&["validate"], 0).stderr.contains("no model key"));
    let up = with_key.up().await;
    assert_eq!(up.get("/readyz").await["model"], "configured");
}

#[test]
fn a_prompt_that_asks_for_what_cannot_be_there_stops_the_start_with_its_place() {
    for (prompt, says) in [
        (
            "Queue {{ alert.starts_at }} is long",
            "alert has no field starts_at; the nearest known one is startsAt",
        ),
        ("Queue {{ labels.queue | nofilter }} is long", "unknown filter nofilter"),
        ("{% if labels.a %}{{ labels.b | nofilter }}{% endif %}", "unknown filter nofilter"),
    ] {
        let home = Home::with(&format!("incident-cards: [{{name: c, resource: c, prompt: \"{prompt}\"}}]\n"));
        let told = home.run(&["validate"], 2).stderr;
        assert!(told.contains("config.yaml:1:") && told.contains(says), "{told}");
        home.run(&["up", "--listen", "127.0.0.1:0"], 2);
    }
}

#[tokio::test]
async fn a_prompt_that_asks_for_what_these_alerts_do_not_share_stays_and_says_so_everywhere() {
    let config = "openai: {model: m, prices: {m: {input: 1, output: 1}}}\n\
                  incident-cards:\n\
                  - name: queues\n\
                  \x20 resource: Queue\n\
                  \x20 prompt: |\n\
                  \x20   Look.\n\
                  \x20   Queue {{ labels.queue }} of {{ labels.zone }} is long: {{ label_values.queue | join(' and ') }}.\n";
    let home = Home::with(config);
    let queues = [alert("Queue", &[("queue", "mail")]), alert("Queue", &[("queue", "pay")])];
    let body = webhook(&[], &queues);
    home.write("event.json", &body.to_string());
    let rendered = home.run(&["render", "event.json"], 1);
    let shown =
        "Queue (the alerts differ in it: labels.queue) of (missing: labels.zone) is long: mail and pay.";
    assert!(rendered.stdout.contains(shown), "{}", rendered.stdout);
    for says in [
        "config.yaml:7:1: error: in the prompt of the card queues: the alerts differ in labels.queue: label_values.queue has all of its values",
        "config.yaml:7:1: error: in the prompt of the card queues: labels.zone is missing",
    ] {
        assert!(rendered.stderr.contains(says), "{says}: {}", rendered.stderr);
    }
    let json = home.run(&["render", "--json", "event.json"], 1).json();
    assert_eq!(json[0]["unshown"][1]["variable"], "labels.zone", "{json:#}");

    let up = home.up().await;
    let id = up.open(&body).await;
    let report = up.ended(&id).await["report"].clone();
    let note = "In the card's prompt, line 2: labels.zone is missing.";
    assert!(report["notes"].as_array().unwrap().iter().any(|n| n == note), "{report:#}");
    let logged = eventually("the warning in the log", async || {
        let said = up.child.stderr();
        let line = said.lines().find(|l| l.contains("\"variable\":\"labels.zone\"")).map(str::to_owned);
        line.ok_or(said)
    })
    .await;
    for part in ["WARN", "\"card\":\"queues\"", "\"file\":\"config.yaml\"", "\"line\":7"] {
        assert!(logged.contains(part), "{part}: {logged}");
    }
}
