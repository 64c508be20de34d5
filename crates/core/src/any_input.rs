//! What holds for any input from outside. The ordinary tests play it near good inputs, fuzz targets with whatever they find.

use serde_json::Value;

use crate::redact::Redactor;

/// A secret that the redactor knows here.
const SECRET: &str = "swordfish-1234";

/// Whatever text is redacted: once is as good as twice, JSON stays JSON, and the configured secret is gone.
///
/// # Panics
/// Where that does not hold.
pub fn redaction(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let redactor = Redactor::new([SECRET.to_owned()]);
    let once = redactor.redact(&text);
    assert!(redactor.redact(&once) == once);
    assert!(!once.contains(SECRET));
    if let Ok(mut value) = serde_json::from_str::<Value>(&text) {
        let again = serde_json::from_str::<Value>(&once);
        assert!(again.is_ok());
        redactor.redact_json(&mut value);
        assert!(!value.to_string().contains(SECRET));
    }
    let _ = redactor.is_unmistakable(&text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn redaction_holds_near_texts_with_secrets(
            parts in prop::collection::vec("[ -~\\n]{0,12}|swordfish-1234|password[=:] ?|\\[redacted: (password|x)( 00ff)?\\]|AKIAABCDEFGHIJKLMNOP|%22|\\\\u0061|[{}\\[\\]\",:]", 0..12),
        ) {
            redaction(parts.concat().as_bytes());
        }
    }
}
