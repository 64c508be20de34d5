//! What holds for any input from outside. The ordinary tests play it near good inputs, fuzz targets with whatever they find.

use serde_json::Value;

use crate::chain::{read_export, verify, write_export};
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

/// A file is an export that says again what it said, or there are findings, each with a place.
///
/// # Panics
/// Where that does not hold.
pub fn export(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let (record, mut found) = read_export(&text);
    found.extend(verify(&record, None).findings);
    assert!(found.iter().all(|finding| !finding.place.is_empty() && !finding.what.is_empty()));
    if found.is_empty() {
        assert!(write_export(&record).is_ok_and(|again| again == text));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a service with a key wrote it.
    const EXPORT: &str = include_str!("../../../tests/fuzz/seeds/audit_export/export.jsonl");

    #[test]
    fn an_export_verifies_and_near_ones_have_findings() {
        let (record, found) = read_export(EXPORT);
        let verified = verify(&record, None);
        assert!(
            found.is_empty() && verified.findings.is_empty() && verified.signed_by.is_some(),
            "{verified:?}"
        );
        export(EXPORT.as_bytes());
        for at in (0..EXPORT.len()).step_by(37) {
            let mut bytes = EXPORT.as_bytes().to_vec();
            bytes[at] ^= 1;
            export(&bytes);
            bytes.truncate(at);
            export(&bytes);
        }
    }

    proptest! {
        #[test]
        fn redaction_holds_near_texts_with_secrets(
            parts in prop::collection::vec("[ -~\\n]{0,12}|swordfish-1234|password[=:] ?|\\[redacted: (password|x)( 00ff)?\\]|AKIAABCDEFGHIJKLMNOP|%22|\\\\u0061|[{}\\[\\]\",:]", 0..12),
        ) {
            redaction(parts.concat().as_bytes());
        }
    }
}
