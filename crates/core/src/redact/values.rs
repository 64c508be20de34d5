//! What a name says of its value, and whether a value that stands under such a name can be a secret.

/// What the name of a value says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sense {
    /// A password: whatever stands there, a word of prose excepted.
    Password,
    /// A token or a key of this kind: what looks made by a machine.
    Token(&'static str),
    /// The header `Authorization`: a scheme and what follows it.
    Authorization,
    /// The headers `Cookie` and `Set-Cookie`: pairs of their own.
    Cookie,
}

impl Sense {
    /// The kind that a placeholder names.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Token(kind) => kind,
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
        }
    }
}

/// How a value stands beside its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// As a program reads it: `NAME=value`, `"name": "value"`, a whole line `name: value`.
    Config,
    /// The same, under a name in capitals with `=`, as environments are written.
    Environment,
    /// After a flag: `--name value`.
    Flag,
    /// As people write it, or programs for people: `name: value` in the middle of a line.
    Loose,
    /// Nothing but a blank, a quote or a comma between them.
    Prose,
}

/// Words after the one that counts: `SECRET_KEY_BASE`, `client-key-data`, `passwordText`, `token_2`.
const TRAILING: [&str; 14] = [
    "base",
    "data",
    "b64",
    "base64",
    "plain",
    "plaintext",
    "text",
    "string",
    "str",
    "raw",
    "value",
    "new",
    "old",
    "hash",
];

/// What makes a `key` one that finds or orders something: it opens nothing, also in an environment.
const KEY_OF_NOBODY: [&str; 19] = [
    "cache",
    "column",
    "config",
    "data",
    "dedup",
    "field",
    "foreign",
    "group",
    "hash",
    "index",
    "label",
    "message",
    "order",
    "partition",
    "primary",
    "public",
    "row",
    "sort",
    "unique",
];

/// What makes a `key` one that opens something.
const KEY_OF: [&str; 37] = [
    "api",
    "access",
    "secret",
    "private",
    "encryption",
    "encrypt",
    "signing",
    "sign",
    "account",
    "shared",
    "master",
    "auth",
    "app",
    "application",
    "license",
    "service",
    "storage",
    "session",
    "deploy",
    "webhook",
    "hmac",
    "crypt",
    "rsa",
    "ssh",
    "admin",
    "root",
    "consumer",
    "subscription",
    "client",
    "server",
    "write",
    "ingest",
    "integration",
    "routing",
    "aes",
    "preshared",
    "personal",
];

/// The words of a name, in small letters: `DB_PASSWORD`, `dbPassword`, `X-Api-Key`, `spring.datasource.password`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = name.chars().peekable();
    let mut before = ' ';
    while let Some(c) = chars.next() {
        let begins = c.is_uppercase()
            && (before.is_lowercase()
                || before.is_uppercase() && chars.peek().is_some_and(|next| next.is_lowercase()));
        if (begins || !c.is_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What `name` says of its value; `None`: nothing.
pub(super) fn sense(name: &str) -> Option<Sense> {
    if name.len() > 120 || matches!(name, "PWD" | "OLDPWD") {
        return None;
    }
    let mut words = words(name);
    while let Some(last) = words.last()
        && words.len() > 1
        && (TRAILING.contains(&last.as_str()) || last.bytes().all(|b| b.is_ascii_digit()))
    {
        words.pop();
    }
    let last = words.pop()?;
    let last = last.trim_end_matches(|c: char| c.is_ascii_digit());
    let before = words.last().map_or("", String::as_str);
    let ends = |with: &[&str]| with.iter().any(|end| last.ends_with(end));
    if ends(&["password", "passwd", "passwort", "passphrase", "passcode"])
        || matches!(last, "pass" | "pwd" | "pw" | "psw" | "dbpass" | "userpass" | "rootpass" | "smtppass")
    {
        return Some(Sense::Password);
    }
    if matches!(last, "authorization" | "authorisation") {
        return Some(Sense::Authorization);
    }
    if last == "cookie" {
        return Some(if before.is_empty() || before == "set" {
            Sense::Cookie
        } else {
            Sense::Token("cookie")
        });
    }
    if last == "key" && before == "private" {
        return Some(Sense::Token("private-key"));
    }
    if ends(&["token"]) || matches!(last, "jwt" | "bearer") {
        return Some(Sense::Token("token"));
    }
    if ends(&["secret"]) {
        return Some(Sense::Token("secret"));
    }
    if matches!(last, "credential" | "credentials" | "creds" | "auth") {
        return Some(Sense::Token("credentials"));
    }
    if matches!(last, "session" | "sessionid" | "sid" | "sessid" | "phpsessid" | "jsessionid")
        || last == "id" && before == "session"
    {
        return Some(Sense::Token("session"));
    }
    let key = last == "key" && (KEY_OF.contains(&before) || before == "dd");
    let glued = ends(&[
        "apikey",
        "secretkey",
        "accesskey",
        "privatekey",
        "authkey",
        "accountkey",
        "encryptionkey",
        "signingkey",
    ]);
    // A variable of an environment that is named after whose key it is: `STRIPE_KEY`.
    let variable = || name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let of_somebody = last == "key" && !before.is_empty() && variable() && !KEY_OF_NOBODY.contains(&before);
    if key || glued || of_somebody {
        return Some(Sense::Token("key"));
    }
    matches!(last, "sig" | "signature").then_some(Sense::Token("signature"))
}

/// Words that stand where a secret would, and are none.
const PLAIN: [&str; 74] = [
    "yes",
    "no",
    "true",
    "false",
    "on",
    "off",
    "null",
    "nil",
    "none",
    "undefined",
    "unset",
    "set",
    "empty",
    "required",
    "optional",
    "incorrect",
    "invalid",
    "expired",
    "missing",
    "wrong",
    "ok",
    "failed",
    "failure",
    "error",
    "denied",
    "unknown",
    "unauthorized",
    "forbidden",
    "not",
    "is",
    "was",
    "has",
    "and",
    "or",
    "for",
    "the",
    "a",
    "an",
    "to",
    "in",
    "must",
    "cannot",
    "can",
    "should",
    "with",
    "from",
    "does",
    "mismatch",
    "rejected",
    "accepted",
    "valid",
    "correct",
    "changed",
    "reset",
    "provided",
    "present",
    "absent",
    "hidden",
    "redacted",
    "masked",
    "default",
    "string",
    "str",
    "bytes",
    "ollama",
    "not-needed",
    "dummy",
    "unused",
    "no-key",
    "lm-studio",
    "sk-no-key-required",
    "n/a",
    "enabled",
    "disabled",
];

/// A word that stands for no secret, as services that need no key are given one: `ollama`, `not-needed`.
pub fn stands_for_no_secret(value: &str) -> bool {
    let value = value.trim();
    PLAIN.iter().any(|word| value.eq_ignore_ascii_case(word)) || is_one_character(value)
}

fn is_one_character(value: &str) -> bool {
    let mut chars = value.chars();
    chars.next().is_none_or(|first| chars.all(|c| c == first))
}

/// Whether `value` stands for a secret that is elsewhere, or for none.
fn is_reference(value: &str) -> bool {
    let name = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let calls = || {
        let called = value.find('(').map(|at| value.split_at(at).0);
        called.is_some_and(|f| {
            !f.is_empty() && f.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:!&".contains(&b))
        })
    };
    let wraps = |open: &str, close: char| value.starts_with(open) && value.ends_with(close);
    value.contains("[redacted: ")
        || value.contains("${")
        || value.contains("$(")
        || value.contains("{{")
        || value.contains("****")
        || value.contains("...")
        || value.contains('…')
        || value
            .strip_prefix('$')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()) && name(rest))
        || value.starts_with('%') && (value.len() <= 3 || value.ends_with('%') || value.starts_with("%("))
        || wraps("<", '>')
        || value.starts_with("<set ")
        || value.starts_with("<your")
        || value.starts_with("secretKeyRef")
        || value.starts_with("valueFrom")
        || value.starts_with("map[")
        || value.starts_with("sha256:")
        || value.starts_with("arn:")
        || value.starts_with("0x")
        || value.starts_with("process.env")
        || value.starts_with("os.")
        || value.starts_with("vault:")
        || value.starts_with("@{")
        || value.starts_with("#{")
        || calls()
}

/// Whether `value` names something: a file, an address, an object of Kubernetes, an identifier of code.
fn is_name(value: &str) -> bool {
    if value.contains("://") {
        return true;
    }
    value
        .split(['/', '.', '-', '_', ':', '@'])
        .all(|part| !is_random(part) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether `part` looks made by chance: digits among letters, or letters whose case changes all the time.
fn is_random(part: &str) -> bool {
    let bytes = part.as_bytes();
    let digits = bytes.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = bytes.iter().filter(|b| b.is_ascii_alphabetic()).count();
    let turns = bytes.windows(2).filter(|pair| match pair {
        [a, b] => {
            a.is_ascii_lowercase() != b.is_ascii_lowercase()
                && a.is_ascii_alphabetic()
                && b.is_ascii_alphabetic()
        }
        _ => false,
    });
    let turns = turns.count();
    bytes.len() >= 12 && letters >= 2 && digits >= 2
        || bytes.len() >= 8 && turns >= 2 && digits >= 2
        || bytes.len() >= 12 && turns * 10 >= bytes.len() * 3
}

/// Whether `value` looks made by a machine, or as a careful person makes one.
pub(super) fn is_opaque(value: &str) -> bool {
    let value = value.trim();
    let has = |test: fn(&u8) -> bool| value.bytes().any(|b| test(&b));
    let letters = has(u8::is_ascii_alphabetic);
    let mixed = letters && (has(u8::is_ascii_digit) || value.bytes().any(|b| b"!@#$%^&*+=~?".contains(&b)));
    value.len() >= 8
        && !value.contains(char::is_whitespace)
        && (mixed || value.split(['/', '+', '=']).any(is_random))
        && !is_name(value)
}

/// Whether `value`, which stands so beside a name of this sense, is a secret. `more`: words follow it on its line.
pub(super) fn is_secret(sense: Sense, form: Form, value: &str, more: bool) -> bool {
    // A long one is judged by its beginning.
    let whole = value.trim();
    let value = whole.get(..512).unwrap_or(whole);
    if stands_for_no_secret(value) || is_reference(value) {
        return false;
    }
    let words = value.bytes().all(|b| b.is_ascii_alphabetic() || b"-'.:".contains(&b));
    match (sense, form) {
        (Sense::Password, _) if value.contains("://") || value.starts_with('/') && is_name(value) => false,
        (Sense::Password, Form::Config | Form::Environment | Form::Flag) => !(words && more),
        (Sense::Password, Form::Loose) => {
            let capitals = value.bytes().skip(1).any(|b| b.is_ascii_uppercase()) && !is_upper(value);
            value.len() >= 4 && !value.starts_with('(') && (!words || capitals)
        }
        (Sense::Token("session" | "signature"), Form::Prose | Form::Loose) => false,
        (Sense::Token("signature"), _) => value.len() >= 32 && is_opaque(value),
        (Sense::Token(_), Form::Environment) => {
            // What is called after an object of Kubernetes has small letters only.
            let object = is_name(value) && !value.bytes().any(|b| b.is_ascii_uppercase());
            is_opaque(value)
                || value.len() >= 6 && !words && !object && !value.bytes().all(|b| b.is_ascii_digit())
        }
        (Sense::Token(_), Form::Config | Form::Flag | Form::Loose) => {
            is_opaque(value) && !value.contains("://")
        }
        (Sense::Password | Sense::Token(_), Form::Prose) => {
            let least = if sense == Sense::Password { 8 } else { 16 };
            let parts = value.trim_end_matches('=').contains(['=', '(', '\\', ':', '<']);
            value.len() >= least && !parts && is_opaque(value) && value.bytes().any(|b| b.is_ascii_digit())
        }
        (Sense::Authorization | Sense::Cookie, _) => {
            value.len() >= 6 && (is_opaque(value) || !words && value.len() >= 12)
        }
    }
}

fn is_upper(text: &str) -> bool {
    text.bytes().all(|b| !b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_its_value_is() {
        for name in
            ["DB_PASSWORD", "dbPassword", "db.pass", "PGPASSWORD", "password2", "spring.datasource.password"]
        {
            assert_eq!(sense(name), Some(Sense::Password), "{name}");
        }
        for name in [
            "X-Api-Key",
            "apiKey",
            "client_secret",
            "SECRET_KEY_BASE",
            "client-key-data",
            "_authToken",
            "AccountKey",
            "DD_APP_KEY",
            "STRIPE_KEY",
        ] {
            assert!(sense(name).is_some_and(|sense| matches!(sense, Sense::Token(_))), "{name}");
        }
        for name in [
            "secretName",
            "max_tokens",
            "tokenCount",
            "public_key",
            "PWD",
            "passwordPolicy",
            "bypass",
            "monkey",
            "primary_key",
            "PARTITION_KEY",
            "SORT_KEY",
            "author",
        ] {
            assert_eq!(sense(name), None, "{name}");
        }
    }

    #[test]
    fn names_are_told_from_what_a_machine_made() {
        for value in [
            "sk-bratislava-gateway-7d9f8c6b5-x2x4q",
            "db-credentials",
            "ServiceAccountToken",
            "kube-system/default",
            "v1.28.3",
        ] {
            assert!(!is_opaque(value), "{value}");
        }
        for value in [
            "JWkXifzk81znngCXSBDE0q",
            "hunterXJdhkK3m88XJ",
            "correct+horse9",
            "987fec440ee6e15dab4de4893d5c533a",
        ] {
            assert!(is_opaque(value), "{value}");
        }
    }
}
