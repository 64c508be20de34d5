//! Configurations in a bucket, over a fake S3.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_config::{Reading, Source, load_for};
use sentinel_deployed::{Beside, DeployedError, Followed, Newer, Refused};
use sentinel_testkit::aws::{FakeAws, Trouble};
use tempfile::TempDir;

const CONFIG: &str = "incident-cards: [{name: pods, resource: Pod, prompt: prompts/pods.md}]\n";

struct Bench {
    aws: FakeAws,
    scratch: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let aws = FakeAws::start().await;
        aws.put_object("conf/team/sentinel.yaml", Some(CONFIG));
        aws.put_object("conf/team/prompts/pods.md", Some("Look at {{ labels.pod }}."));
        Self { aws, scratch: tempfile::tempdir().unwrap() }
    }

    async fn start(&self, config: &str, beside: Beside) -> Result<Followed, DeployedError> {
        let url = self.aws.url();
        let env = move |name: &str| {
            let value = match name {
                "SENTINEL_CONFIG" => config,
                "AWS_REGION" => "eu-central-1",
                "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => "test",
                "AWS_ENDPOINT_URL_S3" => &url,
                _ => return None,
            };
            Some(value.to_owned())
        };
        let followed = Followed::start(&env, Path::new("/"), self.scratch.path(), beside).await?;
        Ok(followed.looking_every(Duration::ZERO))
    }

    fn asked(&self) -> Vec<String> {
        self.aws.asked().iter().map(|asked| asked.body["path"].as_str().unwrap().to_owned()).collect()
    }
}

const IN_BUCKET: &str = "s3://conf/team/sentinel.yaml";

/// The prompts of a configuration.
fn prompts(source: &Source) -> Result<Vec<String>, String> {
    let loaded = load_for(Reading::Worker, source, &|_| None, &BTreeMap::new()).map_err(|e| e.to_string())?;
    Ok(loaded.settings.cards.iter().map(|card| card.prompt.text.clone()).collect())
}

#[tokio::test]
async fn a_configuration_and_its_prompts_are_read_by_signed_requests_and_only_what_is_asked_for() {
    let b = Bench::new().await;
    let followed = b.start(IN_BUCKET, Beside::Read).await.unwrap();
    assert_eq!(prompts(followed.source()).unwrap(), ["Look at {{ labels.pod }}."]);
    assert_eq!(followed.source().name, Path::new(IN_BUCKET));
    let all = ["conf/team/sentinel.yaml", "conf/team/prompts/pods.md", "conf/team/tools.lock"];
    assert_eq!(b.asked(), all);
    let b = Bench::new().await;
    b.start(IN_BUCKET, Beside::Left).await.unwrap();
    assert_eq!(b.asked(), ["conf/team/sentinel.yaml"]);
}

#[tokio::test]
async fn what_has_changed_is_seen_be_it_the_file_or_a_prompt_and_what_has_not_is_no_news() {
    let b = Bench::new().await;
    let followed = b.start(IN_BUCKET, Beside::Read).await.unwrap();
    assert!(matches!(followed.newer().await, Newer::Same));
    b.aws.put_object("conf/team/prompts/pods.md", Some("Look closely."));
    let Newer::Changed(source) = followed.newer().await else { panic!("a prompt has changed") };
    assert_eq!(prompts(&source).unwrap(), ["Look closely."]);
    assert!(matches!(followed.newer().await, Newer::Same));
    b.aws.put_object("conf/team/sentinel.yaml", Some(&CONFIG.replace("name: pods", "name: others")));
    let Newer::Changed(source) = followed.newer().await else { panic!("the file has changed") };
    assert_eq!(prompts(&source).unwrap(), ["Look closely."], "it is there although only the file was sent");
    b.aws.put_object("conf/team/tools.lock", Some("# no lock"));
    assert!(matches!(followed.newer().await, Newer::Changed(_)), "a lock that was not there counts");
}

#[tokio::test]
async fn a_broken_one_is_refused_until_it_is_mended_and_the_one_before_stays() {
    let b = Bench::new().await;
    let followed = b.start(IN_BUCKET, Beside::Read).await.unwrap();
    let current = Mutex::new(Arc::new(prompts(followed.source()).unwrap()));
    let follow = || followed.follow(&current, async |source: Source| prompts(&source));
    let first = follow().await.unwrap();
    for (file, broken, says) in [
        ("sentinel.yaml", "incident-cards: [{nam: pods}]", "unknown key"),
        ("sentinel.yaml", "\t:", ""),
        (
            "sentinel.yaml",
            "incident-cards: [{name: p, resource: Pod, prompt: ../other/secret.md}]",
            "secret.md",
        ),
        ("sentinel.yaml", "incident-cards: [{name: p, resource: Pod, prompt: absent.md}]", "absent.md"),
    ] {
        b.aws.put_object(&format!("conf/team/{file}"), Some(broken));
        for _ in 0..2 {
            let Err(Refused { why, before }) = follow().await else { panic!("{broken} was taken") };
            assert!(why.contains(says), "{broken}: {why}");
            assert!(Arc::ptr_eq(&before, &first), "each time it is looked at");
        }
    }
    b.aws.put_object("conf/team/sentinel.yaml", None);
    assert!(follow().await.unwrap_err().why.contains("s3:GetObject"));
    b.aws.put_object("conf/team/sentinel.yaml", Some(&CONFIG.replace("prompts/pods.md", "Say why.")));
    assert_eq!(*follow().await.unwrap(), ["Say why."]);
    assert!(!b.asked().iter().any(|path| path.contains("..")), "where it is, not how it is written");
}

#[tokio::test]
async fn a_bucket_that_does_not_answer_leaves_the_one_before() {
    let b = Bench::new().await;
    let followed = b.start(IN_BUCKET, Beside::Read).await.unwrap();
    b.aws.always(Some(Trouble::Error { status: 503, code: "SlowDown" }));
    let Newer::Unreadable(error) = followed.newer().await else { panic!("it did not answer") };
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("s3://conf/team/sentinel.yaml"), "{error}");
    b.aws.always(None);
    assert!(matches!(followed.newer().await, Newer::Same));
}

#[tokio::test]
async fn it_is_asked_for_once_a_minute_at_most() {
    let b = Bench::new().await;
    let followed = b.start(IN_BUCKET, Beside::Left).await.unwrap().looking_every(Duration::from_mins(1));
    for _ in 0..5 {
        assert!(matches!(followed.newer().await, Newer::Same));
    }
    assert_eq!(b.asked().len(), 1, "at the start");
}

#[tokio::test]
async fn what_is_no_file_in_a_bucket_is_refused_at_the_start_with_what_to_write() {
    let b = Bench::new().await;
    for (config, says) in [
        ("s3://conf", "s3://bucket/key"),
        ("s3:///key", "s3://bucket/key"),
        ("s3://conf/folder/", "s3://bucket/key"),
        ("s3://conf/absent.yaml", "s3:GetObject"),
        ("absent.yaml", "cannot read the configuration absent.yaml"),
    ] {
        let error = b.start(config, Beside::Read).await.unwrap_err().to_string();
        assert!(error.contains(says), "{config}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_and_too_many_of_them_are_refused() {
    let b = Bench::new().await;
    b.aws.put_object("conf/team/sentinel.yaml", Some(&"#".repeat(4 * 1024 * 1024 + 1)));
    let error = b.start(IN_BUCKET, Beside::Left).await.unwrap_err().to_string();
    assert!(error.contains("more than 4194304 bytes"), "{error}");
    let cards: Vec<String> =
        (0..201).map(|n| format!("{{name: c{n}, resource: Pod, prompt: p{n}.md}}")).collect();
    let cards = cards.join(", ");
    b.aws.put_object("conf/team/sentinel.yaml", Some(&format!("incident-cards: [{cards}]")));
    let error = b.start(IN_BUCKET, Beside::Read).await.unwrap_err().to_string();
    assert!(error.contains("at most 200"), "{error}");
    b.start(IN_BUCKET, Beside::Left).await.unwrap();
}
