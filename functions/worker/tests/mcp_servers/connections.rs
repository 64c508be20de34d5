//! How a server is reached: its sessions, its handshake, its redirects, its program.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_mcp::{Program, Reach, Servers};
use sentinel_testkit::mcp::{Answer, Request};
use serde_json::json;

use crate::support::*;

/// Sessions that the server lost, and errors that are an answer.
pub(crate) async fn sessions(table: &mut Table) {
    for (what, answer) in [
        ("404 to an old session", Answer::Status(404, "no such session".to_owned())),
        (
            "400 to an old session, error with id null",
            lost(400, r#", "id": null"#, "Bad Request: No valid session ID provided"),
        ),
        ("400 to an old session, error without id", lost(400, "", "Bad Request: Server not initialized")),
        ("410 to an old session, plain text", Answer::Status(410, "Session is gone".to_owned())),
        ("200 to an old session, error with id null", lost(200, r#", "id": null"#, "Session not found")),
    ] {
        for method in ["tools/list", "tools/call"] {
            let builder = builder().first(once(method, answer.clone()));
            table.direct(format!("{what}, at {method}"), GOOD, SAID, builder).await;
        }
    }
    table
        .direct(
            "400 with an error of id null that is about the arguments",
            GOOD,
            "did not answer pods_get: it answered with an error: name is missing",
            builder().first(always("tools/call", lost(400, r#", "id": null"#, "name is missing"))),
        )
        .await;
    table
        .direct(
            "200 with an error without id",
            GOOD,
            "did not answer pods_get: it answered with an error: name is missing",
            builder().first(always("tools/call", lost(200, "", "name is missing"))),
        )
        .await;
    table
        .direct(
            "an answer whose id is the number as text",
            GOOD,
            SAID,
            builder().first(always(
                "tools/call",
                Answer::Raw(
                    200,
                    vec![],
                    format!(r#"{{"jsonrpc": "2.0", "id": "$id", "result": {}}}"#, text(SAID)),
                ),
            )),
        )
        .await;
    table
        .direct(
            "an answer to another request",
            GOOD,
            "did not answer pods_get: it answered another request than it was asked",
            builder().first(always(
                "tools/call",
                Answer::Raw(
                    200,
                    vec![],
                    format!(r#"{{"jsonrpc": "2.0", "id": 4711, "result": {}}}"#, text(SAID)),
                ),
            )),
        )
        .await;
    let hangs = builder().first(once("tools/call", Answer::Hang));
    let server = hangs.start().await;
    let servers = at(&server.url(), CUT);
    let (list, first) = both(&servers).await;
    assert_eq!(first, "did not answer pods_get within 2s; the request was cancelled");
    let (_, second) = both(&servers).await;
    let sessions = server.requests().iter().filter(|r| r.method() == "initialize").count();
    assert_eq!(sessions, 2, "a time-out forgets the session");
    table.add("hangs once: the call after it", [GOOD, SAID, "—"], (list, second), "—".to_owned());
}

/// Servers that are away for a moment, and what refuses a handshake.
pub(crate) async fn handshakes(table: &mut Table) {
    for (what, answer) in [
        ("503 to the first handshake", Answer::Status(503, "no backend".to_owned())),
        ("502 to the first handshake", Answer::Status(502, String::new())),
    ] {
        let times = AtomicUsize::new(0);
        // Both questions of one handshake.
        let first = move |request: &Request| {
            let is_handshake = matches!(request.method(), "server/discover" | "initialize");
            (is_handshake && times.fetch_add(1, Ordering::SeqCst) < 2).then(|| answer.clone())
        };
        table.direct(what, GOOD, SAID, builder().first(first)).await;
    }
    let breaks = builder().first(once("server/discover", Answer::Close));
    table.direct("breaks off the first handshake", GOOD, SAID, breaks).await;
    let server = builder().start().await;
    server.go_away().await;
    let servers = at(&server.url(), LONG);
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.come_back().await;
    };
    let (seen, ()) = futures::join!(both(&servers), back);
    table.add("refuses connections for a moment", [GOOD, SAID, "—"], seen, "—".to_owned());

    let message =
        "Error retrieving tool list from MCP server: 'k8s'. Http status code: 503 (Service Unavailable)";
    let refused = "cannot be reached: it answered HTTP 503: no backend";
    let seen = direct(builder().first(|_| Some(Answer::Status(503, "no backend".to_owned()))), LONG).await;
    let shown = hosted(vec![hosted_list(&json!([]), &json!(message))]).await;
    table.add("503 to every request", [refused, refused, message], seen, shown);

    let refused = "cannot be reached: it refused the credentials (HTTP 401)";
    table
        .direct("401", refused, refused, builder().first(|_| Some(Answer::Status(401, String::new()))))
        .await;

    let sse = |request: &Request| {
        Some(match request.http_method.as_str() {
            "GET" => Answer::Events(b"event: endpoint\ndata: /messages?sessionId=1\n\n".to_vec()),
            _ => Answer::Status(405, String::new()),
        })
    };
    let refused = "cannot be reached: it speaks HTTP+SSE, MCP's transport of 2024, which this client does not: configure \
                   its address for streamable HTTP, which often ends in /mcp";
    table.direct("speaks HTTP+SSE only", refused, refused, builder().at("/sse").first(sse)).await;
    let refused = "cannot be reached: it answered HTTP 404";
    table
        .direct(
            "is somewhere else (404)",
            refused,
            refused,
            builder()
                .at("/other")
                .first(|r| (r.path == "/other").then(|| Answer::Status(404, String::new()))),
        )
        .await;
}

pub(crate) async fn redirects(table: &mut Table) {
    for (what, status) in [
        ("301 to the same address with a slash", 301),
        ("302 to the same address with a slash", 302),
        ("307 to the same address with a slash", 307),
        ("308 to the same address with a slash", 308),
    ] {
        let elsewhere = move |request: &Request| {
            (request.path == "/mcp")
                .then(|| Answer::Raw(status, vec![("location", "/mcp/".to_owned())], String::new()))
        };
        let server = builder().at("/mcp/").first(elsewhere).start().await;
        let seen = both(&at(server.url().trim_end_matches('/'), LONG)).await;
        table.add(what, [GOOD, SAID, "—"], seen, "—".to_owned());
    }
    for (what, status, location, want) in [
        (
            "302 to a page for people to log in",
            302,
            "https://login.example.com/sign-in?next=secret",
            "cannot be reached: it redirects to https://login.example.com/sign-in, which is not followed; if that is its \
             address, configure it",
        ),
        (
            "303, which asks another question",
            303,
            "/mcp/status",
            "cannot be reached: it redirects to http://HERE/mcp/status, which is not followed; if that is its address, \
             configure it",
        ),
        ("307 to itself", 307, "/mcp", "cannot be reached: it redirects in a circle"),
    ] {
        let elsewhere = move |_: &Request| {
            Some(Answer::Raw(status, vec![("location", location.to_owned())], String::new()))
        };
        table.direct(what, want, want, builder().first(elsewhere)).await;
    }
}

fn python(source: &str) -> Servers {
    let command = ["python3", "-c", source].map(str::to_owned).to_vec();
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin:/usr/local/bin".into())];
    servers(Reach::Program(Program { command, env }), LONG)
}

pub(crate) async fn programs(table: &mut Table) {
    let ends = "import sys\nprint('reading', file=sys.stderr)\nprint('no kubeconfig: set KUBECONFIG', file=sys.stderr)\nsys.exit(3)";
    let want = "cannot be reached: its program ended (exit status: 3): no kubeconfig: set KUBECONFIG";
    let seen = both(&python(ends)).await;
    table.add("a program that ends at once", [want, want, "—"], seen, "—".to_owned());
    let serves = |call: &str| {
        format!(
            r#"
import json, os, signal, sys
print("serving", file=sys.stderr, flush=True)
print("a banner that is no JSON", flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    said = {{"initialize": {{"protocolVersion": "2025-11-25", "capabilities": [], "serverInfo": "p"}},
            "tools/list": {{"tools": [{{"name": "pods_get", "inputSchema": {{"type": "object"}}}}, {{"name": "hello"}}]}}}}.get(m["method"])
    if m["method"] == "tools/call":
        {call}
    body = {{"result": said}} if said else {{"error": {{"code": -32601, "message": "no"}}}}
    print(json.dumps({{"jsonrpc": "2.0", "id": m["id"], **body}}), flush=True)
"#
        )
    };
    let list = "pods_get, (hello: its server lists it without an input schema)";
    let block =
        r#"said = {"content": [{"type": "text", "text": "node pool gamma is full"}, {"type": "hologram"}]}"#;
    let seen = both(&python(&serves(block))).await;
    let want = "node pool gamma is full / [content of the kind hologram, not shown] [lost: content of the kind hologram \
                is not shown]";
    table.add(
        "a program with a banner, odd capabilities, tools and blocks",
        [list, want, "—"],
        seen,
        "—".to_owned(),
    );
    let killed =
        r#"print("out of memory", file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)"#;
    let seen = both(&python(&serves(killed))).await;
    let want = "did not answer pods_get: its program ended (signal: 9 (SIGKILL)): out of memory";
    table.add("a program that is killed during a call", [list, want, "—"], seen, "—".to_owned());
}
