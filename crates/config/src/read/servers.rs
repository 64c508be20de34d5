//! `mcp-servers`.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use super::general::{header_name, warn_refused};
use super::hosting::{Written, check_ids, check_label};
use super::unique;
use crate::expand::without_line_ends;
use crate::reader::{Field, Keys, Reader, Section, shown};
use crate::secrets;
use crate::settings::{Caller, Mode, ModelService, Network, OAuth, Reach, RequireApproval, Server};
use crate::tree::Value;

pub(super) const SERVER: Keys = &[
    ("name", &[]),
    ("server-url", &["url"]),
    ("server-label", &["label"]),
    ("connector-id", &[]),
    ("tunnel-id", &[]),
    ("command", &[]),
    ("env", &[]),
    ("transport", &[]),
    ("mode", &[]),
    ("default-allowed-tools", &[]),
    ("enforce-read-only", &[]),
    ("headers", &["http-headers"]),
    ("authorization", &["auth-token", "token"]),
    ("oauth", &[]),
    ("require-approval", &[]),
    ("timeout", &[]),
    ("description", &["server-description"]),
];
/// What every program finds in its environment; nothing else of Sentinel's own, which holds secrets.
const FOR_EVERY_PROGRAM: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "XDG_CACHE_HOME",
];
pub(super) const OAUTH: Keys =
    &[("client-id", &[]), ("client-secret", &[]), ("token-url", &[]), ("scopes", &[])];
pub(super) const APPROVAL: Keys = &[("always", &[]), ("never", &[])];
pub(super) const NAMES: Keys = &[("tool-names", &[])];

pub(super) fn servers(
    r: &mut Reader<'_>,
    top: &Section<'_>,
    openai: &ModelService,
    network: &Network,
) -> Vec<Server> {
    let (mut all, mut names, mut labels) = (vec![], BTreeMap::new(), BTreeMap::new());
    for field in r.items(top, "mcp-servers") {
        let s = r.section(&field, SERVER);
        let server = server(r, &s, openai, network);
        if let Some(server) = server
            && unique(r, &mut names, &s, &server.name, "server")
        {
            if matches!(server.reach.caller, Caller::ModelService(_)) {
                check_label(r, &s, &server.label, &mut labels);
            }
            all.push(server);
        }
    }
    all
}

fn server(r: &mut Reader<'_>, s: &Section<'_>, openai: &ModelService, network: &Network) -> Option<Server> {
    let name = r.required_text(s, "name", "name it as the cards' tools do: `name.tool`");
    let name = name.filter(|n| {
        let good = n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if let (false, Some(f)) = (good, s.get("name")) {
            r.error(
                &f,
                "is not a server's name",
                "write letters, digits, `-` and `_` only: a tool is `server.tool`",
            );
        }
        good
    });
    let url = s.get("server-url").map(|f| {
        let url = r.url(&f, "put them into `authorization` or `headers` of this server")?;
        warn_refused(r, &f, &url, network);
        Some(url)
    });
    let connector_id = r.optional_text(s, "connector-id");
    let tunnel_id = r.optional_text(s, "tunnel-id");
    let command = r.texts(s, "command");
    let mode = s.get("mode").and_then(|f| {
        r.choice(&f, &[("auto", Mode::Auto), ("direct", Mode::Direct), ("hosted", Mode::Hosted)])
    });
    if let Some(f) = s.get("transport")
        && r.choice(&f, &[("http", "http"), ("streamable-http", "http"), ("stdio", "stdio")]) == Some("stdio")
        && s.get("command").is_none()
    {
        r.missing(s, "command", "write the program and its arguments, such as [npx, some-mcp-server]");
    }
    check_ids(r, s, connector_id.as_deref(), tunnel_id.as_deref());
    let written = Written {
        url: url.as_ref().and_then(Option::as_ref),
        connector: connector_id.as_deref(),
        tunnel: tunnel_id.as_deref(),
        has_command: s.get("command").is_some(),
        has_oauth: s.get("oauth").is_some(),
        mode: mode.unwrap_or(Mode::Auto),
    };
    // A URL that cannot be read has been told.
    let reach = if matches!(url, Some(None)) { None } else { reach(r, s, &written, openai, network) };
    if let Some(f) = s.get("enforce-read-only")
        && !r.flag(s, "enforce-read-only", true)
    {
        r.warn(
            &f,
            "has no effect",
            "tools are always held to be read-only; what says it destroys is refused",
        );
    }
    if let Some(f) = s.get("command").filter(|_| url.is_some()) {
        r.error(&f, "stands beside an address", "a server has a `server-url` or a `command`, not both");
    }
    let oauth = s.get("oauth").and_then(|f| oauth(r, s, &f, network));
    let mut all_env = vec![];
    if !command.is_empty() {
        let basic = FOR_EVERY_PROGRAM.map(|name| Some((name.to_owned(), r.variable(name)?.into())));
        all_env.extend(basic.into_iter().flatten());
    }
    all_env.extend(s.get("env").map(|f| env(r, s, &f)).unwrap_or_default());
    let default_allowed_tools = tool_names(r, s);
    let headers = s.get("headers").map(|f| headers(r, &f)).unwrap_or_default();
    let require_approval =
        s.get("require-approval").and_then(|f| approval(r, &f)).unwrap_or(RequireApproval::Always);
    if let Some(f) = s.get("require-approval")
        && asks(&require_approval)
    {
        r.warn(
            &f,
            "asks for a person's approval, and no person is asked",
            "the tool policy answers each call: the card's `tools`, then its `policy`",
        );
    }
    let authorization = r.optional_secret(s, "authorization");
    let (label, description) = (r.optional_text(s, "server-label"), r.optional_text(s, "description"));
    let timeout = r.duration_or(s, "timeout", Duration::from_secs(30));
    let name = name?;
    Some(Server {
        label: label.unwrap_or_else(|| name.clone()),
        name,
        url: url.flatten(),
        connector_id,
        tunnel_id,
        command,
        env: all_env,
        mode: mode.unwrap_or(Mode::Auto),
        // What has no way is an error, so that no settings come of it.
        reach: reach.unwrap_or(Reach { caller: Caller::Sentinel, why: String::new() }),
        default_allowed_tools,
        headers,
        authorization,
        oauth,
        require_approval,
        timeout,
        description,
    })
}

/// Who calls the server; nobody is told as an error.
fn reach(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    written: &Written<'_>,
    openai: &ModelService,
    network: &Network,
) -> Option<Reach> {
    let ways = ["connector-id", "tunnel-id", "server-url", "command"];
    let Some(way) = ways.into_iter().find_map(|key| s.get(key)) else {
        let help = "give the server a `server-url`, or a `connector-id`, a `tunnel-id` or a `command`";
        r.missing(s, "server-url", help);
        return None;
    };
    if written.is_a_program()
        && let Some(f) = s.get("command")
    {
        program(r, &f);
    }
    let place = s.get("mode").unwrap_or(way);
    written.reach(openai, network).map_err(|(message, help)| r.error(&place, message, help)).ok()
}

fn tool_names(r: &mut Reader<'_>, s: &Section<'_>) -> Vec<String> {
    let items = r.items(s, "default-allowed-tools");
    items
        .iter()
        .filter_map(|f| {
            let name = r.text(f)?;
            let good = super::cards::is_tool_name(&name);
            if !good {
                r.error(
                    f,
                    format!("{} is not a tool's name", shown(f, &name)),
                    "write the tool's name alone, such as pods_get",
                );
            }
            good.then_some(name)
        })
        .collect()
}

fn headers(r: &mut Reader<'_>, field: &Field<'_>) -> Vec<(String, SecretString)> {
    values(r, field, header_name, |r, f, value| {
        let good = !value.chars().any(char::is_control);
        if !good {
            r.error(f, "has a line break or another control character", "write one line of text");
        }
        good
    })
}

/// Values under names of the user's own. `is_name` and `is_value` tell what cannot be one.
fn values(
    r: &mut Reader<'_>,
    field: &Field<'_>,
    is_name: impl Fn(&mut Reader<'_>, &Field<'_>, &str) -> bool,
    is_value: impl Fn(&mut Reader<'_>, &Field<'_>, &str) -> bool,
) -> Vec<(String, SecretString)> {
    let mut all = vec![];
    for (name, f) in r.free_map(field) {
        if !is_name(r, &f, name) {
            continue;
        }
        let is_credential = secrets::is_credential(name);
        if is_credential && r.refuse_meant_variable(&f).is_none() {
            continue;
        }
        let Some((value, _)) = r.loose_text(&f) else { continue };
        let value = if is_credential { without_line_ends(&value).to_owned() } else { value };
        if !is_value(r, &f, &value) {
            continue;
        }
        // One such as `X-Scope: readonly` is no secret: to redact it would redact the word everywhere.
        if is_credential {
            r.keep(secrets::whole(&value));
        }
        all.push((name.to_owned(), SecretString::from(value)));
    }
    all
}

fn approval(r: &mut Reader<'_>, field: &Field<'_>) -> Option<RequireApproval> {
    if !matches!(field.node.value, Value::Map(_)) {
        return r
            .choice(field, &[("always", true), ("never", false)])
            .map(|always| if always { RequireApproval::Always } else { RequireApproval::Never });
    }
    let s = r.section(field, APPROVAL);
    let mut names = |key: &str| {
        let Some(f) = s.get(key) else { return vec![] };
        let s = r.section(&f, NAMES);
        r.texts(&s, "tool-names")
    };
    let (always, never) = (names("always"), names("never"));
    Some(RequireApproval::PerTool { always, never })
}

/// Whether a person is to be asked before any call.
fn asks(approval: &RequireApproval) -> bool {
    match approval {
        RequireApproval::Always => true,
        RequireApproval::Never => false,
        RequireApproval::PerTool { always, .. } => !always.is_empty(),
    }
}

/// A server that is a program, spoken to on its standard input and output.
fn program(r: &mut Reader<'_>, field: &Field<'_>) {
    if matches!(&field.node.value, Value::List(items) if items.is_empty()) {
        r.error(field, "is empty", "write the program and its arguments, such as [npx, some-mcp-server]");
    }
    if r.is_for_lambda() {
        r.error(
            field,
            "is a program, and a function runs none",
            "give the server a `server-url`; programs are for `sentinel up` and `sentinel replay`",
        );
    }
}

/// The environment of a program.
fn env(r: &mut Reader<'_>, s: &Section<'_>, field: &Field<'_>) -> Vec<(String, SecretString)> {
    if s.get("command").is_none() {
        r.error(field, "needs a `command`", "only a program has an environment: remove it");
    }
    let is_name = |r: &mut Reader<'_>, f: &Field<'_>, name: &str| {
        let good = !name.is_empty() && !name.contains(['=', '\0']);
        if !good {
            r.error(f, "is not the name of a variable", "write a name without `=`");
        }
        good
    };
    values(r, field, is_name, |r, f, value| {
        let good = !value.contains('\0');
        if !good {
            r.error(f, "holds a NUL character, which no variable can", "remove it");
        }
        good
    })
}

/// OAuth 2.0 client credentials (RFC 6749, 4.4).
fn oauth(r: &mut Reader<'_>, server: &Section<'_>, field: &Field<'_>, network: &Network) -> Option<OAuth> {
    let s = r.section(field, OAUTH);
    if server.get("server-url").is_none() {
        r.error(field, "needs a `server-url`", "Sentinel takes the token to the server that it calls itself");
    }
    let has_header = |f: Field<'_>, r: &mut Reader<'_>| {
        matches!(&f.node.value, Value::Map(_))
            && r.free_map(&f).iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    };
    if server.get("authorization").is_some() || server.get("headers").is_some_and(|f| has_header(f, r)) {
        r.error(field, "stands beside another credential", "keep `oauth` or the `authorization`");
    }
    let client_id = r.required_text(&s, "client-id", "write the client's id");
    let secret =
        r.required(&s, "client-secret", "write \"${NAME}\", and set that variable in the environment");
    let client_secret = secret.and_then(|f| r.secret(&f));
    let token_url = r.required(&s, "token-url", "write the address that gives tokens").and_then(|f| {
        let url = r.url(&f, "put them into `client-id` and `client-secret`")?;
        warn_refused(r, &f, &url, network);
        Some(url)
    });
    let scopes = r.texts(&s, "scopes");
    Some(OAuth { client_id: client_id?, client_secret: client_secret?, token_url: token_url?, scopes })
}
