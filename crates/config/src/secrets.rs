//! Which values of a configuration are secrets: what the redactor has to know.
//!
//! What stands where a secret belongs is one, and so is what comes from the secret store. Any other value that comes from
//! the environment may be one: a token in an address, in a program's arguments, in a header of its own name. It counts as
//! one unless it is plainly something else, because to take out `production` or `eu-west-1` wherever it turns up would
//! make reports unreadable.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use crate::expand::is_scheme;

/// The longest run of letters that is taken for a word.
const LONGEST_WORD: usize = 14;
/// The longest run of digits that is taken for a number, and not for a part of a secret.
const LONGEST_NUMBER: usize = 3;

/// The parts of the file in which a value from the environment may be a secret, whatever it is called.
const SECTIONS: [&str; 10] = [
    "ingest",
    "openai",
    "openai-settings",
    "model-services",
    "mcp-servers",
    "hosted-mcp-servers",
    "sinks",
    "sink-list",
    "sink-configs",
    "watchers",
];
/// Keys whose values are names, whatever they look like.
const NAMES: [&str; 8] =
    ["name", "type", "model", "model-name", "channel", "level", "server-label", "description"];

/// The secrets in one value that comes from the environment (`variable` says which of its variables; `None`: from the
/// secret store), as it stands at a path of the file.
pub(crate) fn given(path: &str, variable: Option<&str>, value: &str) -> Vec<String> {
    let key = path.rsplit('.').next().unwrap_or_default();
    let section = path.strip_prefix("sentinel.").unwrap_or(path).split(['.', '[']).next().unwrap_or_default();
    let Some(variable) = variable else { return vec![value.to_owned()] };
    let parts = of_address(value);
    if parts.is_some() || !(is_credential(variable) || is_credential(key)) {
        let counts = SECTIONS.contains(&section.replace('_', "-").as_str())
            && !NAMES.contains(&key.replace('_', "-").as_str());
        return match parts {
            Some(parts) => parts,
            None if counts && !is_plain(value) => vec![value.to_owned()],
            None => vec![],
        };
    }
    vec![value.to_owned()]
}

/// The secrets of a text that is one as a whole: the text, and what stands behind a scheme (`Bearer …`).
pub(crate) fn whole(text: &str) -> Vec<String> {
    let mut found = vec![text.to_owned()];
    if let Some((scheme, token)) = text.trim().split_once(' ')
        && is_scheme(scheme)
    {
        found.push(token.trim().to_owned());
        let pair = STANDARD.decode(token.trim()).ok().and_then(|pair| String::from_utf8(pair).ok());
        found.extend(pair.and_then(|pair| Some(pair.split_once(':')?.1.to_owned())));
    }
    found
}

/// The pair as `Authorization: Basic` carries it.
pub(crate) fn basic(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}

/// The parts of an address that may be credentials: its password, what stands in its query and fragment, and what in its
/// path is no plain word. `None`: it is no address.
pub(crate) fn of_address(text: &str) -> Option<Vec<String>> {
    let url = Url::parse(text.trim()).ok().filter(|_| text.contains("://"))?;
    let mut found: Vec<String> = url.password().map(str::to_owned).into_iter().collect();
    let segments = url.path_segments().into_iter().flatten().filter(|segment| !is_plain(segment));
    found.extend(segments.map(str::to_owned));
    found.extend(url.query_pairs().map(|(_, value)| value.into_owned()).filter(|value| !is_plain(value)));
    found.extend(url.fragment().filter(|fragment| !is_plain(fragment)).map(str::to_owned));
    Some(found)
}

/// Whether the name of a header, a variable or a key is that of a credential.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let said = ["auth", "token", "key", "secret", "cookie", "passw", "credential"];
    let short = ["tok", "pass", "pwd", "cred", "creds", "pat"];
    said.iter().any(|word| name.contains(word)) || name.split(['_', '-']).any(|part| short.contains(&part))
}

/// Whether a value is plainly no secret: words and small numbers, as names of hosts, regions and clusters, file paths and
/// versions are.
fn is_plain(value: &str) -> bool {
    value.split(|c: char| !c.is_ascii_alphanumeric()).all(is_word)
}

fn is_word(part: &str) -> bool {
    let year = part.len() == 4 && part.starts_with("20") && part.bytes().all(|b| b.is_ascii_digit());
    if year || part.len() <= LONGEST_NUMBER {
        return true;
    }
    let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = part.len() - letters.len();
    letters.len() <= LONGEST_WORD
        && digits <= LONGEST_NUMBER
        && letters.chars().all(|c| c.is_ascii_alphabetic())
        && (letters.chars().skip(1).all(|c| c.is_ascii_lowercase())
            || letters.chars().all(|c| c.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_the_environment_is_a_secret_unless_it_is_plainly_something_else() {
        for (path, variable, value) in [
            ("mcp-servers[0].command[2]", "TOK", "cmdarg-9f8e7d6c5b4a"),
            ("mcp-servers[0].command[2]", "ARGUMENT", "mcptok-without-a-known-shape-5544"),
            ("mcp-servers[0].command[2]", "API_TOKEN", "plain-words-only"),
            ("mcp-servers[0].env.PGPASSWORD", "X", "correct-horse-battery"),
            ("mcp_servers[0].headers.X-Tenant", "TENANT", "a81f0c22d9e7"),
            ("sinks[0].url", "X", "T0ABCDEF/B0ABCDEF"),
            ("incident-cards[0].evidence[0].arguments.q", "DB_PASSWORD", "correct-horse-battery"),
            ("watchers[0].endpoint", "X", "qwertyuiopasdfghjkl"),
        ] {
            assert_eq!(given(path, Some(variable), value), [value], "{path} {variable}");
        }
        for (path, variable, value) in [
            ("mcp-servers[0].env.AWS_REGION", "REGION", "eu-west-1"),
            ("mcp-servers[0].env.KUBECONFIG", "HOME", "/home/sentinel/.kube/config"),
            ("mcp-servers[0].headers.X-Scope", "SCOPE", "readonly"),
            ("mcp-servers[0].server-url", "HOST", "mcp.monitoring.svc:80"),
            ("resources[0].filters.cluster", "CLUSTER", "prod-0a81f0c22d9e7"),
            ("openai.model", "MODEL", "gpt-5.1-2026-01-31-preview"),
            ("network.allow-private-hosts[0]", "MCP_HOST", "ip-10-0-3-170.eu-west-1.compute.internal"),
        ] {
            assert_eq!(given(path, Some(variable), value), [""; 0], "{path} {variable}");
        }
        assert_eq!(
            given("openai.model", None, "plain"),
            ["plain"],
            "what the secret store holds is a secret"
        );
    }

    #[test]
    fn of_an_address_what_may_be_a_credential_is_one() {
        for (address, secrets) in [
            ("https://mcp.example/mcp", &[][..]),
            ("https://api.example:8443/v1/responses", &[]),
            ("https://api.example/openai/deployments/gpt-4o-2024-08-06", &[]),
            (
                "https://hooks.example/services/T0A1B2C3D4/B9Z8Y7/abcDEF123ghi",
                &["T0A1B2C3D4", "B9Z8Y7", "abcDEF123ghi"],
            ),
            ("https://mcp.example/mcp?key=k-55aa77bb&mode=fast", &["k-55aa77bb"]),
            ("postgres://app:s3cr3t-pw@db.example/orders", &["s3cr3t-pw"]),
        ] {
            assert_eq!(given("sinks[0].url", Some("URL_OF_TOKEN"), address), secrets, "{address}");
        }
    }

    #[test]
    fn a_token_is_known_without_its_scheme_and_a_pair_as_it_is_sent() {
        assert_eq!(whole("Bearer abc-123-def"), ["Bearer abc-123-def", "abc-123-def"]);
        let sent = format!("Basic {}", basic("u", "swordfish-1"));
        assert_eq!(whole(&sent).last().unwrap(), "swordfish-1");
        assert_eq!(whole("swordfish"), ["swordfish"]);
    }
}
