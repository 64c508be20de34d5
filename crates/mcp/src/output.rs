//! A tool's result as text.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use sentinel_investigation::ports::{Remark, ToolOutput};

/// The largest output that is taken.
const MAX_OUTPUT: usize = 8 << 20;

/// The text blocks, joined by newlines, with a placeholder where something else stands. Where there is no block at
/// all, the structured content as JSON. `Err`: too large, with the reason.
pub(crate) fn render(result: &CallToolResult, remarks: Vec<Remark>) -> Result<ToolOutput, String> {
    let mut text = result.content.iter().map(block).collect::<Vec<_>>().join("\n");
    let has_text =
        result.content.iter().any(|block| matches!(block, ContentBlock::Text(t) if !t.text.is_empty()));
    if let Some(structured) = result.structured_content.as_ref().filter(|_| !has_text) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&structured.to_string());
    }
    if text.len() > MAX_OUTPUT {
        return Err(format!("its output is larger than {} MB; ask for less", MAX_OUTPUT >> 20));
    }
    Ok(ToolOutput { text, is_error: result.is_error.unwrap_or(false), remarks })
}

fn block(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        ContentBlock::Image(image) => not_shown("image", &image.mime_type, &image.data),
        ContentBlock::Audio(audio) => not_shown("audio", &audio.mime_type, &audio.data),
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { text, .. } => text.clone(),
            ResourceContents::BlobResourceContents { mime_type, blob, .. } => {
                not_shown("resource", mime_type.as_deref().unwrap_or("of an unknown type"), blob)
            }
            _ => "[resource, not shown]".to_owned(),
        },
        ContentBlock::ResourceLink(link) => format!("[link to the resource {}]", link.uri),
        _ => "[content of an unknown kind, not shown]".to_owned(),
    }
}

/// `[image image/png, 12 KB, not shown]`.
fn not_shown(what: &str, kind: &str, base64: &str) -> String {
    let bytes = base64.trim_end_matches('=').len() * 3 / 4;
    let size = if bytes < 1000 { format!("{bytes} bytes") } else { format!("{} KB", bytes.div_ceil(1000)) };
    format!("[{what} {kind}, {size}, not shown]")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rendered(result: Value) -> Result<ToolOutput, String> {
        render(&serde_json::from_value(result).unwrap(), Vec::new())
    }

    #[test]
    fn text_is_kept_and_the_rest_described() {
        let output = rendered(json!({"isError": true, "content": [
            {"type": "text", "text": "one"},
            {"type": "image", "mimeType": "image/png", "data": "A".repeat(16_000)},
            {"type": "audio", "mimeType": "audio/wav", "data": "AAA="},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "two"}},
            {"type": "resource", "resource": {"uri": "file:///b", "blob": "AAAA"}},
            {"type": "resource_link", "uri": "file:///c", "name": "c"},
        ]}))
        .unwrap();
        assert!(output.is_error);
        insta::assert_snapshot!(output.text, @r"
        one
        [image image/png, 12 KB, not shown]
        [audio audio/wav, 2 bytes, not shown]
        two
        [resource of an unknown type, 3 bytes, not shown]
        [link to the resource file:///c]
        ");
    }

    #[test]
    fn structured_content_stands_in_for_missing_text_only() {
        let text = |result: Value| rendered(result).unwrap().text;
        assert_eq!(text(json!({"content": [], "structuredContent": {"a": 1}})), r#"{"a":1}"#);
        let both = json!({"content": [{"type": "text", "text": "a is 1"}], "structuredContent": {"a": 1}});
        assert_eq!(text(both), "a is 1");
        assert_eq!(text(json!({"content": []})), "");
    }

    #[test]
    fn an_output_beyond_the_bound_is_refused() {
        let told =
            rendered(json!({"content": [{"type": "text", "text": "x".repeat(MAX_OUTPUT + 1)}]})).unwrap_err();
        assert_eq!(told, "its output is larger than 8 MB; ask for less");
    }
}
