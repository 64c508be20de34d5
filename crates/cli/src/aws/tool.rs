//! The user's AWS command line, by which everything here is done: its profiles, its single sign-on, its regions.

use std::fmt;
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::environment::Environment;

/// The longest that one command may take. A stack needs some minutes.
const LONGEST: Duration = Duration::from_mins(30);
/// The most that is read of what one command writes.
const MOST: u64 = 16 << 20;

/// `aws`, with the region and the profile that were asked for.
#[derive(Debug)]
pub(super) struct Tool<'e> {
    env: &'e Environment,
    region: Option<String>,
    profile: Option<String>,
}

/// Why a command did not do what it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The service and the operation, as `cloudformation describe-stacks`.
    pub(super) asked: String,
    /// The service's code, as `AccessDenied`; empty where the service was not reached.
    pub(super) code: String,
    /// What it said.
    said: String,
}

static ANSWERED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"An error occurred \(([^)]+)\) when calling the (\S+) operation[^:]*: (?s)(.*)").ok()
});
static LACKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?:User: )?(\S+) is not authorized to perform: (\S+)(?: on resource: (\S+))?").ok()
});

/// What a permission that is missing is called, of a message of AWS: who lacks it, what it is, and on what.
pub(super) fn missing_permission(said: &str) -> Option<String> {
    let found = LACKS.as_ref()?.captures(said)?;
    let part = |n| found.get(n).map_or("", |m: regex::Match<'_>| m.as_str().trim_end_matches(['.', ',']));
    let on = Some(part(3)).filter(|on| !on.is_empty()).map_or_else(String::new, |on| format!(" on {on}"));
    Some(format!(
        "{} lacks the permission {}{on}: have it granted, or use other credentials (--profile)",
        part(1),
        part(2)
    ))
}

impl Refusal {
    fn of(asked: String, stderr: &str) -> Self {
        let said = stderr.trim().to_owned();
        let answered = ANSWERED.as_ref().and_then(|form| form.captures(&said));
        let (code, said) = match &answered {
            Some(found) => {
                let part = |n| found.get(n).map_or("", |m: regex::Match<'_>| m.as_str()).to_owned();
                (part(1), part(3))
            }
            None => (String::new(), said.clone()),
        };
        Self { asked, code, said }
    }

    /// Whether what was asked for is not there.
    pub(super) fn is_absent(&self) -> bool {
        let absent = ["ResourceNotFoundException", "NoSuchBucket", "404", "NoSuchKey", "NoSuchEntity"];
        absent.contains(&self.code.as_str()) || self.said.contains("does not exist")
    }

    /// Whether there is one of that name already.
    pub(super) fn is_there_already(&self) -> bool {
        self.code == "ResourceExistsException"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, code, said } = self;
        if let Some(lacks) = missing_permission(said) {
            return write!(f, "`aws {asked}` was refused: {lacks}");
        }
        let expired = [
            "ExpiredToken",
            "ExpiredTokenException",
            "RequestExpired",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
        ];
        let remedy = if expired.contains(&code.as_str()) || said.contains("SSO session") {
            "; the credentials have expired or are wrong: sign in again (`aws sso login`, `aws configure`)"
        } else if said.contains("Unable to locate credentials") {
            "; sign in with the AWS command line first (`aws sso login`, `aws configure`), or say which --profile"
        } else if said.contains("specify a region") {
            "; say which with --region, or set one with `aws configure set region`"
        } else if said.contains("Could not connect") {
            "; is there such a region, and a way to it from here?"
        } else {
            ""
        };
        let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join(" ");
        if code.is_empty() {
            write!(f, "`aws {asked}` failed: {said}{remedy}")
        } else {
            write!(f, "`aws {asked}` was refused: {code}: {said}{remedy}")
        }
    }
}

impl std::error::Error for Refusal {}

impl<'e> Tool<'e> {
    pub(super) fn new(env: &'e Environment, region: Option<&str>, profile: Option<&str>) -> Self {
        Self { env, region: region.map(str::to_owned), profile: profile.map(str::to_owned) }
    }

    /// The region that it works in; `None`: it has none.
    pub(super) async fn region(&self) -> Option<String> {
        let given = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| self.env.var(name));
        if let Some(region) = self.region.clone().or_else(given).filter(|region| !region.is_empty()) {
            return Some(region);
        }
        let asked = self.text(&["configure", "get", "region"]).await.unwrap_or_default();
        Some(asked.trim().to_owned()).filter(|region| !region.is_empty())
    }

    /// What it prints, as JSON; `null` for nothing.
    pub(super) async fn json(&self, args: &[&str]) -> Result<Value, Refusal> {
        let text = self.text(&[args, &["--output", "json"]].concat()).await?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let no_json = |e| Refusal::of(asked(args), &format!("it printed no JSON: {e}"));
        serde_json::from_str(&text).map_err(no_json)
    }

    /// What it prints.
    pub(super) async fn text(&self, args: &[&str]) -> Result<String, Refusal> {
        let failed = |why: String| Refusal { asked: asked(args), code: String::new(), said: why };
        let mut command = Command::new("aws");
        command
            .args(args)
            .env_clear()
            .envs(self.env.variables())
            .env("AWS_PAGER", "")
            .current_dir(&self.env.cwd);
        for (flag, value) in [("--region", &self.region), ("--profile", &self.profile)] {
            if let Some(value) = value {
                command.args([flag, value]);
            }
        }
        // The first version of the command line follows this variable for every service but SQS.
        if let Some(url) = self.env.var("AWS_ENDPOINT_URL").filter(|_| args.first() == Some(&"sqs")) {
            command.args(["--endpoint-url", &url]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| {
            failed(format!(
                "{e}; the AWS command line is needed: https://aws.amazon.com/cli says how to install it"
            ))
        })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let run = async { tokio::join!(read(out), read(err), child.wait()) };
        let Ok((out, err, status)) = tokio::time::timeout(LONGEST, run).await else {
            return Err(failed(format!("it did not end within {} minutes", LONGEST.as_secs() / 60)));
        };
        match status {
            Ok(status) if status.success() => Ok(out),
            Ok(_) => Err(Refusal::of(asked(args), if err.trim().is_empty() { &out } else { &err })),
            Err(e) => Err(failed(e.to_string())),
        }
    }
}

/// The command without what is behind it, which may be long.
fn asked(args: &[&str]) -> String {
    args.iter().take(2).copied().collect::<Vec<_>>().join(" ")
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // What cannot be read is not there; how the program ended says the rest.
        let _ = stream.take(MOST).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stderr: &str) -> String {
        Refusal::of("iam create-role".to_owned(), stderr).to_string()
    }

    #[test]
    fn a_missing_permission_is_named_with_who_lacks_it_and_on_what() {
        let said = shown(
            "\nAn error occurred (AccessDenied) when calling the CreateRole operation: User: arn:aws:iam::1:user/ann is not \
             authorized to perform: iam:CreateRole on resource: arn:aws:iam::1:role/x because no identity-based policy allows it\n",
        );
        assert_eq!(
            said,
            "`aws iam create-role` was refused: arn:aws:iam::1:user/ann lacks the permission iam:CreateRole on \
             arn:aws:iam::1:role/x: have it granted, or use other credentials (--profile)"
        );
    }

    #[test]
    fn every_way_to_have_no_credentials_says_how_to_get_some() {
        for (said, remedy) in [
            (
                "Unable to locate credentials. You can configure credentials by running \"aws configure\".",
                "aws sso login",
            ),
            (
                "An error occurred (ExpiredToken) when calling the X operation: The security token is expired",
                "sign in again",
            ),
            (
                "You must specify a region. You can also configure your region by running \"aws configure\".",
                "--region",
            ),
            ("Could not connect to the endpoint URL: \"https://sts.mars-1.amazonaws.com/\"", "such a region"),
        ] {
            assert!(shown(said).contains(remedy), "{}", shown(said));
        }
    }

    #[tokio::test]
    async fn of_a_program_that_prints_without_end_so_much_is_read_and_no_more() {
        assert_eq!(read(Some(tokio::io::repeat(b'a'))).await.len() as u64, MOST);
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is_refused() {
        let of = |said: &str| Refusal::of(String::new(), said);
        assert!(of("An error occurred (ValidationError) when calling the DescribeStacks operation: Stack with id s does not exist").is_absent());
        assert!(of("An error occurred (404) when calling the HeadBucket operation: Not Found").is_absent());
        assert!(!of("An error occurred (403) when calling the HeadBucket operation: Forbidden").is_absent());
    }
}
