//! What is known about a server before it is called.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use sentinel_http::Url;

/// One MCP server that Sentinel connects to itself.
#[derive(Clone, Debug)]
pub struct ServerSpec {
    /// Its name in `mcp-servers`.
    pub name: String,
    /// Where it is.
    pub reach: Reach,
    /// The longest that one call may take, connecting included.
    pub timeout: Duration,
}

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// At an address.
    Http(Endpoint),
    /// In a program that is started when it is first needed.
    Program(Program),
}

/// A server over streamable HTTP.
#[derive(Clone)]
pub struct Endpoint {
    /// Its address.
    pub url: String,
    /// Sent with every request.
    pub headers: Vec<(String, SecretString)>,
    /// What proves who is asking.
    pub credential: Credential,
}

/// What proves who is asking.
#[derive(Clone)]
pub enum Credential {
    /// Nothing.
    None,
    /// Sent as `Authorization`: as it is where it begins with a scheme (`Basic …`), else as a bearer token.
    Token(SecretString),
    /// A token that is asked for.
    OAuth(OAuth),
}

/// OAuth 2.0 client credentials (RFC 6749, 4.4).
#[derive(Clone)]
pub struct OAuth {
    /// Who asks.
    pub client_id: String,
    /// What proves it.
    pub client_secret: SecretString,
    /// Who gives tokens.
    pub token_url: Url,
    /// What is asked for; empty: whatever the client may have.
    pub scopes: Vec<String>,
}

/// A server that is spoken to on its standard input and output.
#[derive(Clone)]
pub struct Program {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its whole environment: it inherits nothing.
    pub env: Vec<(String, SecretString)>,
}

/// Neither the URL nor a header nor a credential: each may hold a secret.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// The program's name only: an argument may hold a secret.
impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("program", &self.command.first()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// The headers of every request, a fixed credential among them; on failure the name of the one that cannot be sent.
    pub(crate) fn header_map(&self) -> Result<HashMap<HeaderName, HeaderValue>, String> {
        let mut map = HashMap::new();
        let mut add = |name: &str, value: &str| {
            let header = HeaderName::try_from(name).map_err(|_| name.to_owned())?;
            // They are the protocol's own.
            if ["accept", "mcp-session-id", "last-event-id"].contains(&header.as_str()) {
                return Err(name.to_owned());
            }
            let mut value = HeaderValue::try_from(value).map_err(|_| name.to_owned())?;
            value.set_sensitive(true);
            map.insert(header, value);
            Ok::<_, String>(())
        };
        for (name, value) in &self.headers {
            add(name, value.expose_secret())?;
        }
        if let Credential::Token(credential) = &self.credential {
            let credential = credential.expose_secret().trim();
            let has_scheme = credential.contains(' ');
            let value = if has_scheme { credential.to_owned() } else { format!("Bearer {credential}") };
            add(AUTHORIZATION.as_str(), &value)?;
        }
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(authorization: &str, header: (&str, &str)) -> Endpoint {
        Endpoint {
            url: "https://user:hunter2@mcp.example/?key=hunter2".to_owned(),
            headers: vec![(header.0.to_owned(), header.1.into())],
            credential: Credential::Token(authorization.into()),
        }
    }

    #[test]
    fn a_token_is_a_bearer_unless_it_names_its_scheme() {
        let sent = |authorization: &str| {
            endpoint(authorization, ("X-Scope", "a")).header_map().unwrap()[&AUTHORIZATION].clone()
        };
        assert_eq!(sent("abc"), "Bearer abc");
        assert_eq!(sent("abc\n"), "Bearer abc");
        assert_eq!(sent("Basic abc"), "Basic abc");
        assert!(sent("abc").is_sensitive());
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        assert_eq!(endpoint("a", ("X Scope", "hunter2")).header_map(), Err("X Scope".to_owned()));
        assert_eq!(endpoint("a", ("X-Scope", "hunter\n2")).header_map(), Err("X-Scope".to_owned()));
    }

    #[test]
    fn debug_shows_no_secret() {
        let program = Program {
            command: vec!["server".into(), "--key=hunter2".into()],
            env: vec![("KEY".into(), "hunter2".into())],
        };
        for reach in [Reach::Http(endpoint("hunter2", ("X-Scope", "hunter2"))), Reach::Program(program)] {
            let spec = ServerSpec { name: "k8s".to_owned(), reach, timeout: Duration::from_secs(30) };
            let shown = format!("{spec:?}");
            assert!(shown.contains("k8s") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
