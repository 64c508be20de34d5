//! Anthropic's prompt cache as documented: a prefix (tools, system, messages) is written up to each `cache_control`, and
//! read up to the longest one that was written before and stands at most 20 blocks before a mark. A prefix of fewer tokens
//! than the minimum is not cached; another `tool_choice` or way of thinking is another prefix from the messages on.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// The fewest tokens that are cached, and how many blocks before a mark are looked at.
const FEWEST: u64 = 1024;
const LOOKED_BACK: usize = 20;

/// What was written, of one model. Nothing is forgotten: the time to live is longer than a test.
#[derive(Debug, Default)]
pub struct Cache {
    written: BTreeSet<String>,
}

impl Cache {
    /// The tokens of a request: all, those read from the cache, those written to it. A token is four bytes.
    pub fn tokens(&mut self, request: &Value) -> (u64, u64, u64) {
        let blocks = blocks(request);
        // Where each block ends, as its whole prefix and in tokens.
        let (mut prefix, mut ends) =
            (request.get("model").map(Value::to_string).unwrap_or_default(), Vec::new());
        let mut bytes = 0;
        for (block, marked) in &blocks {
            prefix.push_str(block);
            bytes += block.len() as u64;
            ends.push((prefix.clone(), bytes / 4, *marked));
        }
        let mut read = 0;
        for (at, _) in ends.iter().enumerate().filter(|(_, (_, _, marked))| *marked) {
            let near = ends.get(at.saturating_sub(LOOKED_BACK)..=at).unwrap_or_default();
            read = near
                .iter()
                .filter(|(prefix, ..)| self.written.contains(prefix))
                .map(|(_, n, _)| *n)
                .fold(read, u64::max);
        }
        let mut last = 0;
        for (prefix, tokens, _) in ends.into_iter().filter(|(_, tokens, marked)| *marked && *tokens >= FEWEST)
        {
            last = tokens;
            self.written.insert(prefix);
        }
        (bytes / 4, read, last.saturating_sub(read))
    }
}

/// The blocks of a request in the service's order, without their marks, and whether each was marked.
fn blocks(request: &Value) -> Vec<(String, bool)> {
    let mut blocks = Vec::new();
    let mut add = |block: &Value| {
        let mut block = block.clone();
        let marked = block.as_object_mut().is_some_and(|fields| fields.remove("cache_control").is_some());
        blocks.push((block.to_string(), marked));
    };
    let list = |of: &Value| match of {
        Value::Array(list) => list.clone(),
        Value::Null => Vec::new(),
        text => vec![json!({"type": "text", "text": text})],
    };
    let field = |key: &str| request.get(key).cloned().unwrap_or_default();
    list(&field("tools")).iter().for_each(&mut add);
    list(&field("system")).iter().for_each(&mut add);
    add(&json!([field("tool_choice"), field("thinking")]));
    for message in list(&field("messages")) {
        for block in list(message.get("content").unwrap_or(&Value::Null)) {
            let mut block = block;
            if let Some(fields) = block.as_object_mut() {
                fields.insert("role".to_owned(), message.get("role").cloned().unwrap_or_default());
            }
            add(&block);
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(messages: &[(&str, bool)]) -> Value {
        let block = |(text, marked): &(&str, bool)| {
            let mut block = json!({"type": "text", "text": text.repeat(5000)});
            if *marked {
                block["cache_control"] = json!({"type": "ephemeral"});
            }
            json!({"role": "user", "content": [block]})
        };
        json!({"model": "m", "messages": messages.iter().map(block).collect::<Vec<_>>()})
    }

    #[test]
    fn what_was_marked_is_read_when_it_comes_again() {
        let mut cache = Cache::default();
        let (all, read, written) = cache.tokens(&request(&[("a", true)]));
        assert_eq!((read, written), (0, all));
        let (more, read, written) = cache.tokens(&request(&[("a", false), ("b", true)]));
        assert_eq!((read, written), (all, more - all));
        assert_eq!(cache.tokens(&request(&[("x", false), ("b", true)])).1, 0);
        assert_eq!(cache.tokens(&request(&[("a", false), ("b", false)])).1, 0);
    }

    #[test]
    fn little_is_not_cached_and_another_choice_is_another_prefix() {
        let mut cache = Cache::default();
        let small = json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}]});
        assert_eq!(cache.tokens(&small).2, 0);
        let mut large = request(&[("a", true)]);
        cache.tokens(&large);
        large["tool_choice"] = json!({"type": "any"});
        assert_eq!(cache.tokens(&large).1, 0);
    }
}
