//! What a service says of its models: its own list.

use std::collections::BTreeMap;
use std::time::Duration;

use sentinel_core::price::family;
use sentinel_http::HttpClient;
use sentinel_investigation::ports::ModelError;
use serde_json::Value;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::service::ServiceSettings;
use crate::wire::Endpoint;

/// Where services list their models, below the address at which their API begins.
const PATH: &str = "/models";
/// The most pages of a list that are asked for. Anthropic's has a hundred models on each.
const MOST_PAGES: usize = 20;
/// The most models of a list that are kept.
const MOST_MODELS: usize = 20_000;

/// A service's models.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ModelList(BTreeMap<String, Option<String>>);

impl ModelList {
    /// A model by its name; also where the list has it as a snapshot or, as Ollama does, with a tag.
    pub fn find(&self, name: &str) -> Option<Listed> {
        let latest = format!("{name}:latest");
        let is_it = |id: &str| id == name || id == latest || family(id) == name;
        let found = self.0.get_key_value(name).or_else(|| self.0.iter().find(|(id, _)| is_it(id)));
        found.map(|(_, shutdown)| Listed { shutdown_date: shutdown.clone() })
    }

    fn read(&mut self, page: &Value) -> Result<(), Failure> {
        let no_list = || Failure::Unreadable("it is no list of models".to_owned());
        let data =
            page.get("data").or_else(|| page.get("models")).and_then(Value::as_array).ok_or_else(no_list)?;
        for model in data.iter().take(MOST_MODELS.saturating_sub(self.0.len())) {
            let id = model.get("id").or_else(|| model.get("name")).and_then(Value::as_str);
            let shutdown = model.get("shutdown_date").and_then(Value::as_str).map(str::to_owned);
            self.0.extend(id.map(|id| (id.to_owned(), shutdown)));
        }
        Ok(())
    }
}

/// What a list says of a model that is on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The day on which it is switched off, by the service's own word.
    pub shutdown_date: Option<String>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The service has none at its address: nothing is known of its models.
    #[error("it has no list of its models: {0}")]
    NoList(String),
    /// It did not give it.
    #[error("it did not give its list: {0}")]
    NotGiven(String),
    /// It may not be called.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Asks a service for its list, at most `within` long.
///
/// # Errors
/// [`ListError`].
pub async fn list(
    settings: &ServiceSettings,
    http: &HttpClient,
    within: Duration,
) -> Result<ModelList, ListError> {
    let endpoint = Endpoint::new(settings, vec![], http)?;
    let pages = async {
        let (mut list, mut after) = (ModelList::default(), None::<String>);
        for _ in 0..MOST_PAGES {
            let query = after.as_deref().map(|id| ("after_id", id));
            let page = endpoint.get(http, PATH, query.as_slice()).await?;
            list.read(&page)?;
            let more = page.get("has_more").and_then(Value::as_bool).unwrap_or_default();
            after = page.get("last_id").and_then(Value::as_str).filter(|_| more).map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        Ok(list)
    };
    match timeout(within, pages).await {
        Ok(Ok(list)) => Ok(list),
        Ok(Err(Failure::Status { status: 404 | 405 | 501, message, .. })) => Err(ListError::NoList(message)),
        Ok(Err(failure)) => Err(ListError::NotGiven(failure.to_string())),
        Err(_) => Err(ListError::NotGiven(format!("no answer within {} s", within.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_is_found_by_its_name_its_snapshot_and_its_tag() {
        let mut list = ModelList::default();
        let page = json!({"data": [
            {"id": "gpt-6-luna", "shutdown_date": null}, {"id": "gpt-4.1", "shutdown_date": "2027-01-14"},
            {"id": "claude-haiku-4-5-20251001"}, {"id": "llama3.3:latest"}, {"object": "model"}, 7,
        ]});
        list.read(&page).unwrap();
        for name in ["gpt-6-luna", "claude-haiku-4-5", "claude-haiku-4-5-20251001", "llama3.3"] {
            assert_eq!(list.find(name), Some(Listed { shutdown_date: None }), "{name}");
        }
        assert_eq!(list.find("gpt-4.1").unwrap().shutdown_date.as_deref(), Some("2027-01-14"));
        for name in ["gpt-6", "claude", "llama3", ""] {
            assert_eq!(list.find(name), None, "{name}");
        }
        assert!(list.read(&json!({"object": "list"})).is_err());
    }

    #[test]
    fn a_list_without_end_is_kept_up_to_the_bound() {
        let mut list = ModelList::default();
        for page in 0..3 {
            let models: Vec<_> = (0..10_000).map(|n| json!({"id": format!("m-{page}-{n}")})).collect();
            list.read(&json!({"data": models})).unwrap();
        }
        assert_eq!(list.0.len(), MOST_MODELS);
    }
}
