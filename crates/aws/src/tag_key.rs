//! The key of placeholders' tags, which all functions of a deployment share.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use sentinel_core::redact::{TagKey, TagKeys};

use crate::Aws;

/// The variable that the template sets: the ARN of the secret that holds the key.
const REDACTION_KEY: &str = "SENTINEL_REDACTION_KEY";
/// How long the first placeholder waits for the key.
const LONGEST: Duration = Duration::from_secs(3);

impl Aws {
    /// The key that the environment's `SENTINEL_REDACTION_KEY` names. It is read when the first placeholder needs it,
    /// so that whoever never meets a secret asks nothing; `None`: the deployment has none.
    pub fn tag_keys(&self, env: &dyn Fn(&str) -> Option<String>) -> Option<Arc<TagKeys>> {
        let id = env(REDACTION_KEY).filter(|id| !id.is_empty())?;
        let client = self.secrets();
        Some(Arc::new(TagKeys::new(move || {
            let (client, id) = (client.clone(), id.clone());
            // Text is redacted where nothing can be awaited: the key is read on a thread of its own, once a process.
            let read = std::thread::spawn(move || read(&client, &id)).join();
            match read.unwrap_or_else(|_| Err("it panicked".to_owned())) {
                Ok(key) => Some(key),
                Err(reason) => {
                    tracing::error!(
                        %reason,
                        "the key of placeholders' tags could not be read ({REDACTION_KEY}); secrets are taken out all \
                         the same, but placeholders do not tell them apart until this process ends"
                    );
                    None
                }
            }
        })))
    }
}

fn read(client: &Client, id: &str) -> Result<TagKey, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| e.to_string())?.block_on(async {
        let asked = tokio::time::timeout(LONGEST, client.get_secret_value().secret_id(id).send()).await;
        let got = asked.map_err(|_| format!("no answer within {LONGEST:?}"))?;
        let got = got.map_err(|e| aws_sdk_secretsmanager::error::DisplayErrorContext(e).to_string())?;
        got.secret_string.as_deref().map(TagKey::from_text).ok_or_else(|| "it holds no text".to_owned())
    })
}
