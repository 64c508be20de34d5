//! Access tokens for a server that wants them: OAuth 2.0 client credentials (RFC 6749, section 4.4).
//!
//! One token is kept for each server and process, asked for when it is first needed and again shortly before it ends or
//! when the server refuses it. Callers who need it at the same time share one request.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sentinel_http::{HttpClient, HttpError, Url, form_urlencoded, read_body};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::fault::line;
use crate::spec::OAuth;

/// The longest that one request for a token may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of the token endpoint that is read, in bytes.
const LARGEST_ANSWER: usize = 64 * 1024;
/// A token is asked for anew this long before it ends, so that it does not end on its way.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token without `expires_in` is believed.
const UNKNOWN_LIFE: Duration = Duration::from_mins(5);

/// Why there is no token, in words without a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoToken(pub(crate) String);

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no access token: {}", self.0)
    }
}

impl Error for NoToken {}

/// The tokens of one server.
pub(crate) struct Tokens {
    spec: OAuth,
    /// The server that they are for (RFC 8707, which MCP's authorization requires).
    resource: String,
    http: Arc<HttpClient>,
    /// Held while asking, so that concurrent callers share one request.
    current: Mutex<Option<(SecretString, Instant)>>,
}

impl Tokens {
    pub(crate) fn new(spec: OAuth, server_url: &str, http: Arc<HttpClient>) -> Self {
        Self { spec, resource: resource(server_url), http, current: Mutex::default() }
    }

    /// A token that is good for a while.
    pub(crate) async fn get(&self) -> Result<String, NoToken> {
        let mut current = self.current.lock().await;
        if let Some((token, _)) = current.as_ref().filter(|(_, until)| *until > Instant::now()) {
            return Ok(token.expose_secret().to_owned());
        }
        let (token, life) = self.ask().await?;
        let good_for = life.saturating_sub(EARLY).max(life / 2);
        *current = Some((token.as_str().into(), Instant::now() + good_for));
        Ok(token)
    }

    /// Forgets a token that the server refused, unless another has taken its place.
    pub(crate) async fn refused(&self, token: &str) {
        let mut current = self.current.lock().await;
        current.take_if(|(held, _)| held.expose_secret() == token);
    }

    /// A server's words without the token that it was sent.
    pub(crate) async fn scrub(&self, text: String) -> String {
        match self.current.lock().await.as_ref() {
            Some((token, _)) if text.contains(token.expose_secret()) => {
                text.replace(token.expose_secret(), "[redacted]")
            }
            _ => text,
        }
    }

    async fn ask(&self) -> Result<(String, Duration), NoToken> {
        match timeout(REQUEST_TIMEOUT, self.request()).await {
            Ok(answer) => answer,
            Err(_) => Err(NoToken(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    fn form(&self) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials").append_pair("resource", &self.resource);
        if !self.spec.scopes.is_empty() {
            form.append_pair("scope", &self.spec.scopes.join(" "));
        }
        form.finish()
    }

    async fn request(&self) -> Result<(String, Duration), NoToken> {
        let failed = |e: HttpError| NoToken(e.to_string());
        self.http.check_url(&self.spec.token_url).map_err(failed)?;
        // Both are encoded as form values before they become a user and a password (RFC 6749, 2.3.1).
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let secret = encoded(self.spec.client_secret.expose_secret());
        let request = self
            .http
            .client()
            .map_err(failed)?
            .post(self.spec.token_url.clone())
            .basic_auth(encoded(&self.spec.client_id), Some(secret))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(self.form());
        let response = request.send().await.map_err(|e| failed(HttpError::from(&e)))?;
        let status = response.status().as_u16();
        let body = read_body(response, LARGEST_ANSWER).await.map_err(failed)?;
        read(status, &body).map_err(NoToken)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("host", &self.spec.token_url.host_str()).finish_non_exhaustive()
    }
}

/// The server's address as a resource indicator: without its query and fragment, which may hold a key.
fn resource(server_url: &str) -> String {
    let Ok(mut url) = Url::parse(server_url) else { return String::new() };
    url.set_query(None);
    url.set_fragment(None);
    // Neither fails for an address that has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// What a token endpoint answers (RFC 6749, 5.1 and 5.2).
#[derive(Deserialize)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    /// Seconds; some send them as text.
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

/// The token and how long it lives.
///
/// # Errors
/// Why the answer holds none, without anything of it that may be a secret.
pub(crate) fn read(status: u16, body: &[u8]) -> Result<(String, Duration), String> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let Some(answer) = answer else {
        return Err(format!("the token endpoint answered HTTP {status} and no JSON object"));
    };
    if !(200..300).contains(&status) || answer.error.is_some() {
        let words =
            [answer.error, answer.error_description].into_iter().flatten().collect::<Vec<_>>().join(": ");
        let words = if words.is_empty() { words } else { format!(": {}", line(&words)) };
        return Err(format!("the token endpoint answered HTTP {status}{words}"));
    }
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("the token endpoint gave a token that is no bearer token".to_owned());
    }
    // It becomes a header: visible ASCII only.
    let is_sound = |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
    let token =
        answer.access_token.filter(is_sound).ok_or("the token endpoint gave no usable access_token")?;
    let seconds = match answer.expires_in {
        Some(serde_json::Value::Number(n)) => n.as_u64(),
        Some(serde_json::Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    // A day at most: longer than any process needs one, and far from what an instant can hold.
    let life = seconds.map_or(UNKNOWN_LIFE, |s| Duration::from_secs(s.min(86_400)));
    Ok((token, life))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_with_its_life() {
        let life = |more: &str| {
            let body = format!(r#"{{"access_token": "abc", "token_type": "bearer"{more}}}"#);
            read(200, body.as_bytes()).unwrap().1.as_secs()
        };
        assert_eq!(life(r#", "expires_in": 3600"#), 3600);
        assert_eq!(life(r#", "expires_in": "60""#), 60);
        assert_eq!(life(""), 300);
        assert_eq!(life(r#", "expires_in": 99999999999"#), 86_400);
    }

    #[test]
    fn what_is_no_token_is_told_in_words() {
        for (status, body, want) in [
            (
                401,
                r#"{"error": "invalid_client", "error_description": "no\nsuch client"}"#,
                "the token endpoint answered HTTP 401: invalid_client: no such client",
            ),
            (200, r#"{"error": "invalid_scope"}"#, "the token endpoint answered HTTP 200: invalid_scope"),
            (500, "<html>", "the token endpoint answered HTTP 500 and no JSON object"),
            (200, "[]", "the token endpoint answered HTTP 200 and no JSON object"),
            (200, "{}", "the token endpoint gave no usable access_token"),
            (200, r#"{"access_token": "a b"}"#, "the token endpoint gave no usable access_token"),
            (
                200,
                r#"{"access_token": "a", "token_type": "DPoP"}"#,
                "the token endpoint gave a token that is no bearer token",
            ),
        ] {
            assert_eq!(read(status, body.as_bytes()), Err(want.to_owned()), "{body}");
        }
    }

    #[test]
    fn the_resource_is_the_servers_address_without_what_may_be_a_secret() {
        assert_eq!(resource("https://u:hunter2@a.example/mcp?key=hunter2#x"), "https://a.example/mcp");
    }
}
