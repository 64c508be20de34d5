//! Who may use the API, and for which names and web pages the server answers at all.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, StatusCode, header, uri};
use secrecy::SecretString;
use sentinel_config::{Listener, Settings};
use sentinel_ingest::{Authenticator, Credentials};

/// The file of `up`'s own token, in its data folder.
pub(crate) const TOKEN_FILE: &str = "api-token";
/// Bytes of that token before they are written as hexadecimal.
const TOKEN_BYTES: usize = 32;

/// What a token opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Right {
    /// To look.
    Read,
    /// To look, and to stop investigations.
    Operate,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    name: String,
    right: Right,
    shown: Authenticator,
}

/// Who asked, for the record; `None`: nobody had to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Caller(pub(crate) Option<String>);

/// Why somebody may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// No token of the API was shown.
    Unknown,
    /// The token is one to look with.
    MayOnlyRead,
}

impl Denied {
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::MayOnlyRead => StatusCode::FORBIDDEN,
        }
    }

    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::Unknown => {
                "this takes a token of `api`, or the one in the file `api-token` of the data folder, as \
                 `Authorization: Bearer …`; a webhook's token opens the webhook only"
            }
            Self::MayOnlyRead => "this token is one of `api.read`; this takes one of `api.operate`",
        }
    }
}

/// Who may use the API.
#[derive(Clone, Debug)]
pub(crate) enum ApiDoor {
    /// Whoever reaches it: it is on a loopback address, and no credentials of any kind are configured.
    Open,
    /// Whoever shows one of these.
    Tokens(Box<[Token]>),
}

impl ApiDoor {
    /// The door of these settings; `own` is the token of the data folder.
    pub(crate) fn new(settings: &Settings, loopback: bool, own: &SecretString) -> Self {
        let api = &settings.api;
        if loopback && !settings.ingest.has_credentials() && !api.is_configured() {
            return Self::Open;
        }
        let token = |name: &str, right, token: &SecretString| Token {
            name: name.to_owned(),
            right,
            shown: Authenticator::new(Credentials { bearer: vec![token.clone()], ..Credentials::default() }),
        };
        let read = api.read.iter().map(|t| token(&t.name, Right::Read, &t.token));
        let operate = api.operate.iter().map(|t| token(&t.name, Right::Operate, &t.token));
        Self::Tokens(read.chain(operate).chain([token(TOKEN_FILE, Right::Operate, own)]).collect())
    }

    /// Whose token the headers show, if it opens this. Every token is compared, in constant time.
    pub(crate) fn check(&self, headers: &HeaderMap, wanted: Right) -> Result<Caller, Denied> {
        let Self::Tokens(tokens) = self else { return Ok(Caller(None)) };
        let shown = tokens.iter().fold(None, |best: Option<&Token>, token| {
            let right = token.shown.check(headers).is_ok();
            if right && best.is_none_or(|best| best.right <= token.right) { Some(token) } else { best }
        });
        match shown {
            None => Err(Denied::Unknown),
            Some(token) if token.right < wanted => Err(Denied::MayOnlyRead),
            Some(token) => Ok(Caller(Some(token.name.clone()))),
        }
    }
}

/// A token that nobody can guess.
///
/// # Errors
/// The system gives no random numbers.
pub(crate) fn new_token() -> Result<SecretString, getrandom::Error> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    let mut token = String::with_capacity(2 * TOKEN_BYTES);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token.into())
}

/// By which names the server may be asked, and by which web pages.
///
/// A browser tells where a page comes from in `Origin`, and which name it was given in `Host`. A name that somebody else
/// points at this machine (DNS rebinding) is none of ours, and a page is no sender of alerts.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    loopback: bool,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Names {
    pub(crate) fn new(listener: &Listener, loopback: bool) -> Self {
        Self { loopback, hosts: listener.hosts.clone(), origins: listener.origins.clone() }
    }

    /// Why the request is not answered, if it is not.
    pub(crate) fn refuse(&self, request: &Parts) -> Option<&'static str> {
        let mut origins = request.headers.get_all(header::ORIGIN).iter();
        if origins.any(|origin| !self.origins.iter().any(|known| known.as_bytes() == origin.as_bytes())) {
            return Some(
                "this is for programs, not for web pages; `server.origins` names those that may ask",
            );
        }
        let hosts = request.headers.get_all(header::HOST).iter();
        let mut hosts = hosts.map(|host| host.to_str().ok().and_then(|h| h.parse::<uri::Authority>().ok()));
        let foreign = |authority: &uri::Authority| !self.knows(authority.host());
        if hosts.any(|host| host.as_ref().is_none_or(foreign)) || request.uri.authority().is_some_and(foreign)
        {
            return Some(
                "this server is not known by that host name; `server.hosts` names those that it has",
            );
        }
        None
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let named = self.hosts.iter().any(|known| known.trim_matches(['[', ']']).eq_ignore_ascii_case(host));
        let own = match host.parse::<IpAddr>() {
            // An address cannot be pointed elsewhere.
            Ok(ip) => !self.loopback || ip.is_loopback(),
            Err(_) => host.eq_ignore_ascii_case("localhost"),
        };
        named || own || (!self.loopback && self.hosts.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_config::{Source, load};
    use sentinel_http::Url;

    use super::*;

    fn door(config: &str, loopback: bool) -> ApiDoor {
        let source = Source { name: "config.yaml".into(), text: config.to_owned(), base_dir: None };
        ApiDoor::new(&load(&source, &|_| None).unwrap().settings, loopback, &SecretString::from("own"))
    }

    #[test]
    fn allow_anonymous_opens_the_webhook_alone() {
        let bearer = |token: &str| {
            [(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())]
                .into_iter()
                .collect::<HeaderMap>()
        };
        let elsewhere = door("ingest: {allow-anonymous: true}", false);
        assert_eq!(elsewhere.check(&HeaderMap::new(), Right::Read), Err(Denied::Unknown));
        assert_eq!(elsewhere.check(&bearer("own"), Right::Operate), Ok(Caller(Some(TOKEN_FILE.to_owned()))));
        // As ever where nothing is configured, and whoever asks is on this machine.
        assert_eq!(door("", true).check(&HeaderMap::new(), Right::Operate), Ok(Caller(None)));
        // One value in both lists opens what the better one does.
        let both = door("api: {read: [a-token], operate: [a-token]}", true);
        assert_eq!(
            both.check(&bearer("a-token"), Right::Operate),
            Ok(Caller(Some("api.operate[0]".to_owned())))
        );
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/api/incidents");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn names(loopback: bool, hosts: &[&str], origins: &[&str]) -> Names {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        Names { loopback, hosts: owned(hosts), origins: owned(origins) }
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_and_configured_ones_are_answered() {
        let names = names(true, &["sentinel.example"], &[]);
        for good in
            ["127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765", "127.0.0.1", "Sentinel.example"]
        {
            assert_eq!(names.refuse(&request(&[("host", good)])), None, "{good}");
        }
        for bad in ["evil.example:8765", "localhost.evil.example", "10.0.0.1:1", "", "a b"] {
            assert!(names.refuse(&request(&[("host", bad)])).is_some(), "{bad}");
        }
        assert!(names.refuse(&request(&[("host", "localhost"), ("host", "evil.example")])).is_some());
        assert_eq!(names.refuse(&request(&[])), None, "a health check of HTTP/1.0");
        let absolute = http::Request::builder().uri("http://evil.example/api/incidents").body(()).unwrap();
        assert!(names.refuse(&absolute.into_parts().0).is_some());
    }

    /// Parts of hosts.
    const PIECES: &[&str] = &[
        "localhost",
        "127.0.0.1",
        "[::1]",
        "::1",
        "[",
        "]",
        "sentinel.example",
        "evil.example",
        ".",
        "@",
        ":",
        "8765",
        "%6c",
        "[::ffff:127.0.0.1]",
        "127.1",
        "0x7f.1",
        "2130706433",
        "/",
        "\\",
        "#",
        "?",
        "user",
        " ",
        "ſ",
        "é",
        "-",
        "",
    ];

    /// Hosts as browsers send them and as nobody does: pieces of good and of bad ones in any order, and any text.
    fn any_host() -> impl Strategy<Value = String> {
        prop_oneof![prop::collection::vec(prop::sample::select(PIECES), 0..5).prop_map(|p| p.concat()), ".*"]
    }

    proptest! {
        /// What a browser would make of the name is the judge: where that is a name of somebody else, nothing is answered.
        #[test]
        fn no_host_that_leads_a_browser_elsewhere_is_answered(host in any_host()) {
            let Ok(value) = http::HeaderValue::from_bytes(host.as_bytes()) else { return Ok(()) };
            let mut asked = request(&[]);
            asked.headers.insert(header::HOST, value);
            if names(true, &["sentinel.example"], &[]).refuse(&asked).is_none() {
                // What is no URL at all, no browser asks for.
                let Ok(url) = Url::parse(&format!("http://{host}/")) else { return Ok(()) };
                let name = url.host_str().unwrap_or_default();
                let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                let is_ours = ["localhost", "sentinel.example"].contains(&name) || address.is_ok_and(|ip| ip.is_loopback());
                prop_assert!(is_ours, "{host:?} is answered, and leads to {name:?}");
            }
        }

        #[test]
        fn no_origin_but_a_configured_one_is_answered(origin in ".*") {
            let Ok(value) = http::HeaderValue::from_bytes(origin.as_bytes()) else { return Ok(()) };
            let mut asked = request(&[("host", "localhost")]);
            asked.headers.insert(header::ORIGIN, value);
            let answered = names(true, &[], &["https://desk.example"]).refuse(&asked).is_none();
            prop_assert_eq!(answered, origin == "https://desk.example");
        }
    }

    #[test]
    fn elsewhere_any_name_is_answered_unless_some_are_configured() {
        let any = names(false, &[], &[]);
        assert_eq!(any.refuse(&request(&[("host", "sentinel.example")])), None);
        let some = names(false, &["sentinel.example"], &[]);
        assert!(some.refuse(&request(&[("host", "evil.example")])).is_some());
        for good in ["sentinel.example", "10.0.0.1:8765"] {
            assert_eq!(some.refuse(&request(&[("host", good)])), None, "{good}");
        }
    }

    #[test]
    fn a_web_page_is_answered_only_where_its_origin_is_configured() {
        for loopback in [true, false] {
            let names = names(loopback, &[], &["https://desk.example"]);
            let of = |origin| names.refuse(&request(&[("host", "localhost"), ("origin", origin)]));
            assert_eq!(of("https://desk.example"), None);
            for bad in ["https://evil.example", "null", "http://desk.example", "https://desk.example.evil"] {
                assert!(of(bad).is_some(), "{bad}");
            }
        }
    }

    #[test]
    fn two_tokens_of_the_data_folder_are_never_the_same_and_long_enough() {
        use secrecy::ExposeSecret as _;
        let (a, b) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(a.expose_secret().len(), 64);
        assert_ne!(a.expose_secret(), b.expose_secret());
    }
}
