//! What is known about a server before it is called.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// One MCP server that Sentinel connects to itself.
#[derive(Clone)]
pub struct ServerSpec {
    /// Its name in `mcp-servers`.
    pub name: String,
    /// Its streamable-HTTP endpoint.
    pub url: String,
    /// Sent with every request.
    pub headers: Vec<(String, SecretString)>,
    /// Sent as `Authorization`: as it is where it begins with a scheme (`Basic …`), else as a bearer token.
    pub authorization: Option<SecretString>,
    /// The longest that one call may take, connecting included.
    pub timeout: Duration,
}

impl fmt::Debug for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the URL nor a header: each may hold a credential.
        f.debug_struct("ServerSpec")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl ServerSpec {
    /// The headers of every request, the credential among them; on failure the name of the one that cannot be sent.
    pub(crate) fn header_map(&self) -> Result<HashMap<HeaderName, HeaderValue>, String> {
        let mut map = HashMap::new();
        let mut add = |name: &str, value: &str| {
            let header = HeaderName::try_from(name).map_err(|_| name.to_owned())?;
            let mut value = HeaderValue::try_from(value).map_err(|_| name.to_owned())?;
            value.set_sensitive(true);
            map.insert(header, value);
            Ok::<_, String>(())
        };
        for (name, value) in &self.headers {
            add(name, value.expose_secret())?;
        }
        if let Some(credential) = &self.authorization {
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

    fn spec(authorization: &str, header: (&str, &str)) -> ServerSpec {
        ServerSpec {
            name: "k8s".to_owned(),
            url: "https://user:hunter2@mcp.example/?key=hunter2".to_owned(),
            headers: vec![(header.0.to_owned(), header.1.into())],
            authorization: Some(authorization.into()),
            timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_token_is_a_bearer_unless_it_names_its_scheme() {
        let sent = |authorization: &str| {
            spec(authorization, ("X-Scope", "a")).header_map().unwrap()[&AUTHORIZATION].clone()
        };
        assert_eq!(sent("abc"), "Bearer abc");
        assert_eq!(sent("abc\n"), "Bearer abc");
        assert_eq!(sent("Basic abc"), "Basic abc");
        assert!(sent("abc").is_sensitive());
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_named_without_its_value() {
        assert_eq!(spec("a", ("X Scope", "hunter2")).header_map(), Err("X Scope".to_owned()));
        assert_eq!(spec("a", ("X-Scope", "hunter\n2")).header_map(), Err("X-Scope".to_owned()));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", spec("hunter2", ("X-Scope", "hunter2")));
        assert!(shown.contains("k8s") && !shown.contains("hunter2"), "{shown}");
    }
}
