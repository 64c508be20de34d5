//! OpenAI's prompt cache as documented: the longest beginning that a request shares with an earlier one of the same model
//! and `prompt_cache_key` is read, from 1,024 tokens on, in steps of 128. Tools, instructions and the conversation are its
//! parts, in this order.

use serde_json::{Value, json};

const FEWEST: u64 = 1024;
const STEP: u64 = 128;

/// What was asked before. Nothing is forgotten: what is cached stays longer than a test takes.
#[derive(Debug, Default)]
pub struct Cache {
    asked: Vec<Vec<u8>>,
}

impl Cache {
    /// The tokens of a request of either interface: all, and those that the cache had. A token is four bytes.
    pub fn tokens(&mut self, request: &Value) -> (u64, u64) {
        let field = |key: &str| request.get(key).cloned().unwrap_or_default();
        let mut prompt = json!([field("model"), field("prompt_cache_key")]).to_string();
        let named = prompt.len() as u64;
        for key in ["tools", "instructions", "messages", "input"] {
            // Without the list's end, so that a longer list begins with a shorter one.
            prompt.push_str(field(key).to_string().trim_end_matches(']'));
        }
        let prompt = prompt.into_bytes();
        let shared = |asked: &Vec<u8>| {
            asked.iter().zip(&prompt).take_while(|(one, other)| one == other).count() as u64
        };
        let longest = self.asked.iter().map(shared).max().unwrap_or_default().saturating_sub(named) / 4;
        let all = (prompt.len() as u64 - named) / 4;
        self.asked.push(prompt);
        (all, if longest < FEWEST { 0 } else { longest - longest % STEP })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_that_was_asked_before_is_read_in_steps() {
        let request = |texts: &[&str], key: &str| {
            let input: Vec<Value> =
                texts.iter().map(|text| json!({"role": "user", "content": text.repeat(2000)})).collect();
            json!({"model": "m", "prompt_cache_key": key, "input": input})
        };
        let mut cache = Cache::default();
        let (all, read) = cache.tokens(&request(&["abc"], "k"));
        assert!(all > 1500 && read == 0);
        let (_, read) = cache.tokens(&request(&["abc", "d"], "k"));
        assert!(read > all - 2 * STEP && read % STEP == 0, "{read} of {all}");
        assert_eq!(cache.tokens(&request(&["x", "abc"], "k")).1, 0);
        assert_eq!(cache.tokens(&request(&["abc"], "another")).1, 0);
    }
}
