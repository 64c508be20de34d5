//! What a server answers, as rmcp can read it: what is not wanted may be of any shape, and what is lost is noted.
//!
//! rmcp reads a message whole or not at all: one tool without a schema among fifty would cost all of them. So each
//! message is looked through as JSON first. What is noted of it travels in the result's `_meta`, under a key of this
//! client's own that no server can set.

use std::borrow::Cow;

use rmcp::model::{
    ContentBlock, DiscoverResult, ErrorCode, InitializeResult, MetaObject, RequestId, ServerJsonRpcMessage,
    Tool,
};
use sentinel_http::whole_characters;
use sentinel_investigation::ports::Remark;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::fault::line;

/// What this client notes of a result, in its `_meta`.
const NOTED: &str = "sentinel/noted";
/// Remarks of one output.
const MOST_REMARKS: usize = 5;
/// Errors without a code of their own.
const NO_CODE: i64 = -32_000;

/// A message of a server.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) message: ServerJsonRpcMessage,
    /// Whether it is an error that says of no request that it answers it.
    pub(crate) is_of_nobody: bool,
}

/// Reads a message. With `asked`, it came where only the answer to that request is expected: an error of nobody is
/// taken for it. `None`: it says nothing that is wanted.
///
/// # Errors
/// Why it is no message, in words that follow the server's name.
pub(crate) fn message(bytes: &[u8], asked: Option<&RequestId>) -> Result<Option<Read>, String> {
    let whole = whole_characters(bytes);
    let is_lossy = matches!(whole, Cow::Owned(_));
    let value: Value =
        serde_json::from_slice(&whole).map_err(|e| format!("{NOT_MCP}: no JSON ({e}): {}", start(bytes)))?;
    let mut message = match value {
        Value::Object(message) => message,
        // A batch, which 2025-03-26 had: what answers is taken.
        Value::Array(all) => {
            let answers = |m: &Map<String, Value>| m.contains_key("result") || m.contains_key("error");
            let mut all = all.into_iter().filter_map(|one| match one {
                Value::Object(message) => Some(message),
                _ => None,
            });
            match all.find(answers) {
                Some(message) => message,
                None => return Ok(None),
            }
        }
        _ => return Err(format!("{NOT_MCP}: {}", start(bytes))),
    };
    let is_answer = !message.contains_key("method")
        && ["result", "error"].iter().any(|key| message.get(*key).is_some_and(|v| !v.is_null()));
    let mut is_of_nobody = false;
    if is_answer {
        let said = message.get("id").filter(|id| !id.is_null());
        match (said.and_then(|id| RequestId::deserialize(id).ok()), asked) {
            (Some(id), Some(asked)) if !is_same(&id, asked) => return Ok(None),
            (None, None) => return Ok(None),
            (id, _) => is_of_nobody = id.is_none(),
        }
        if let Some(asked) = asked {
            message.insert("id".to_owned(), json!(asked));
        }
        if let Some(error) = message.get_mut("error").filter(|error| !error.is_null()) {
            *error = readable_error(error);
            message.remove("result");
        } else {
            message.remove("error");
            if let Some(Value::Object(result)) = message.get_mut("result") {
                readable_result(result, is_lossy);
            }
        }
    } else if !message.contains_key("method") && asked.is_some() {
        return Err(format!("{NOT_MCP}: {}", start(bytes)));
    }
    message.insert("jsonrpc".to_owned(), json!("2.0"));
    match serde_json::from_value(Value::Object(message)) {
        Ok(message) => {
            let is_error = matches!(message, ServerJsonRpcMessage::Error(_));
            Ok(Some(Read { message, is_of_nobody: is_of_nobody && is_error }))
        }
        Err(error) if is_answer => Err(format!("{NOT_MCP}: {}", line(&error.to_string()))),
        Err(_) => Ok(None),
    }
}

pub(crate) const NOT_MCP: &str = "it answered something that is not MCP";

/// Its first words, for people.
fn start(bytes: &[u8]) -> String {
    let most = bytes.get(..200).unwrap_or(bytes);
    match line(&String::from_utf8_lossy(most)) {
        text if text.is_empty() => "nothing".to_owned(),
        text => text,
    }
}

/// Some servers write the number of a request as text.
fn is_same(said: &RequestId, asked: &RequestId) -> bool {
    said == asked || said.to_string() == asked.to_string()
}

fn readable_error(error: &Value) -> Value {
    let code = error.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    let message = match error.get("message") {
        Some(Value::String(message)) => message.clone(),
        _ => error.as_str().map_or_else(|| error.to_string(), str::to_owned),
    };
    let mut readable = json!({"code": code.map_or(NO_CODE, i64::from), "message": message});
    if let (Some(data), Some(readable)) = (error.get("data"), readable.as_object_mut()) {
        readable.insert("data".to_owned(), data.clone());
    }
    readable
}

/// What a JSON-RPC error in the body of an answer says, where there is one.
pub(crate) fn error_in(body: &[u8]) -> Option<(ErrorCode, String)> {
    let value: Value = serde_json::from_slice(&whole_characters(body)).ok()?;
    let error = readable_error(value.get("error").filter(|error| error.is_object())?);
    let code = error.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok())?;
    Some((ErrorCode(code), error.get("message")?.as_str()?.to_owned()))
}

fn is<T: for<'de> Deserialize<'de>>(value: &Value) -> bool {
    T::deserialize(value).is_ok()
}

/// Takes out of a result what cannot be read, by what kind of result it is.
fn readable_result(result: &mut Map<String, Value>, is_lossy: bool) {
    keep(result, "_meta", is::<MetaObject>);
    keep(result, "resultType", Value::is_string);
    let mut noted = Noted::default();
    if result.get("tools").is_some_and(Value::is_array) {
        list(result, &mut noted);
    } else if ["content", "structuredContent", "isError"].iter().any(|key| result.contains_key(*key)) {
        output(result, &mut noted);
        if is_lossy {
            noted.remarks.push(Remark::Noted(
                "half a character or more of its output could not be read; U+FFFD stands there".to_owned(),
            ));
        }
    } else if result.contains_key("protocolVersion") {
        hello(result, is::<InitializeResult>);
    } else if result.contains_key("supportedVersions") {
        keep(result, "ttlMs", Value::is_u64);
        for (key, otherwise) in
            [("ttlMs", json!(0)), ("cacheScope", json!("private")), ("resultType", json!("complete"))]
        {
            result.entry(key).or_insert(otherwise);
        }
        hello(result, is::<DiscoverResult>);
    }
    noted.write(result);
}

/// Removes a value that is not as it has to be.
fn keep(object: &mut Map<String, Value>, key: &str, good: impl Fn(&Value) -> bool) {
    if object.get(key).is_some_and(|value| !good(value)) {
        object.remove(key);
    }
}

/// What a server says of itself: nothing of it is needed but its revision.
fn hello(result: &mut Map<String, Value>, is_readable: impl Fn(&Value) -> bool) {
    if is_readable(&Value::Object(result.clone())) {
        return;
    }
    let text = |of: Option<&Value>, key: &str| {
        of.and_then(|of| of.get(key)).and_then(Value::as_str).unwrap_or("unknown").to_owned()
    };
    let info = result.get("serverInfo");
    let info = json!({"name": text(info, "name"), "version": text(info, "version")});
    result.insert("serverInfo".to_owned(), info);
    result.insert("capabilities".to_owned(), json!({"tools": {}}));
    result.remove("instructions");
}

/// What is noted of one result.
#[derive(Default, Debug)]
pub(crate) struct Noted {
    /// The names of the tools that were handed on to rmcp.
    pub(crate) names: Vec<String>,
    /// Tools that cannot be read, as they came: the name, and why.
    pub(crate) unusable: Vec<(String, String)>,
    /// What was lost of an output, or is odd about it.
    pub(crate) remarks: Vec<Remark>,
}

impl Noted {
    fn write(self, result: &mut Map<String, Value>) {
        let meta = result.entry("_meta").or_insert_with(|| json!({}));
        let Some(meta) = meta.as_object_mut() else { return };
        meta.remove(NOTED);
        if !(self.names.is_empty() && self.unusable.is_empty() && self.remarks.is_empty()) {
            let Self { names, unusable, remarks } = self;
            meta.insert(NOTED.to_owned(), json!({"names": names, "unusable": unusable, "remarks": remarks}));
        }
        if meta.is_empty() {
            result.remove("_meta");
        }
    }

    /// What was noted of a result that rmcp has read.
    pub(crate) fn take(meta: Option<&mut MetaObject>) -> Self {
        let noted = meta.and_then(|meta| meta.0.remove(NOTED)).unwrap_or_default();
        let of = |key: &str| noted.get(key).cloned().unwrap_or_else(|| json!([]));
        Self {
            names: serde_json::from_value(of("names")).unwrap_or_default(),
            unusable: serde_json::from_value(of("unusable")).unwrap_or_default(),
            remarks: serde_json::from_value(of("remarks")).unwrap_or_default(),
        }
    }
}

fn list(result: &mut Map<String, Value>, noted: &mut Noted) {
    match result.get("nextCursor") {
        Some(Value::Number(number)) => {
            let cursor = number.to_string();
            result.insert("nextCursor".to_owned(), json!(cursor));
        }
        _ => keep(result, "nextCursor", Value::is_string),
    }
    keep(result, "ttlMs", Value::is_u64);
    keep(result, "cacheScope", |scope| matches!(scope.as_str(), Some("public" | "private")));
    let Some(Value::Array(tools)) = result.get_mut("tools") else { return };
    tools.retain_mut(|tool| match readable_tool(tool) {
        Ok(name) => {
            noted.names.push(name);
            true
        }
        Err(unusable) => {
            noted.unusable.push(unusable);
            false
        }
    });
}

/// Takes out of a tool what cannot be read. `Err`: its name and why it cannot be used at all.
fn readable_tool(tool: &mut Value) -> Result<String, (String, String)> {
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let unusable = |why: &str| Err((line(&name), why.to_owned()));
    let Value::Object(tool) = tool else { return unusable("what its server lists is no tool") };
    if name.is_empty() {
        return unusable("its server lists it without a name");
    }
    if !tool.get("inputSchema").is_some_and(Value::is_object) {
        return unusable("its server lists it without an input schema");
    }
    if is::<Tool>(&Value::Object(tool.clone())) {
        return Ok(name);
    }
    if let Some(Value::Object(hints)) = tool.get_mut("annotations") {
        // What cannot be read as a hint that a tool is harmless is none.
        for (key, doubtful) in [("destructiveHint", true), ("readOnlyHint", false)] {
            if hints.get(key).is_some_and(|hint| !hint.is_null() && !hint.is_boolean()) {
                hints.insert(key.to_owned(), json!(doubtful));
            }
        }
        for key in ["idempotentHint", "openWorldHint"] {
            keep(hints, key, |hint| hint.is_null() || hint.is_boolean());
        }
        keep(hints, "title", |title| title.is_null() || title.is_string());
    }
    let needed = json!({"name": name, "inputSchema": {}});
    let keys: Vec<String> =
        tool.keys().filter(|key| !matches!(key.as_str(), "name" | "inputSchema")).cloned().collect();
    for key in keys {
        let mut alone = needed.clone();
        if let (Some(alone), Some(value)) = (alone.as_object_mut(), tool.get(&key)) {
            alone.insert(key.clone(), value.clone());
        }
        if !is::<Tool>(&alone) {
            tool.remove(&key);
        }
    }
    Ok(name)
}

fn output(result: &mut Map<String, Value>, noted: &mut Noted) {
    if let Some(flag) = result.get("isError").filter(|flag| !flag.is_boolean()) {
        let is_error = match flag {
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            Value::Number(number) => number.as_i64() != Some(0),
            _ => false,
        };
        result.insert("isError".to_owned(), json!(is_error));
    }
    let blocks = match result.remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(blocks)) => blocks,
        Some(one) => vec![one],
    };
    let blocks: Vec<Value> = blocks.into_iter().map(|block| readable_block(block, noted)).collect();
    result.insert("content".to_owned(), Value::Array(blocks));
}

/// A block of an output that rmcp reads: itself, or a text in its place.
fn readable_block(mut block: Value, noted: &mut Noted) -> Value {
    let text = |text: String| json!({"type": "text", "text": text});
    if is::<ContentBlock>(&block) {
        return block;
    }
    if let Value::String(said) = block {
        return text(said);
    }
    if let Value::Object(fields) = &mut block {
        // They only inform.
        fields.remove("annotations");
        fields.remove("_meta");
        if is::<ContentBlock>(&block) {
            return block;
        }
    }
    let of = |key: &str| block.get(key);
    let said = of("text").or_else(|| of("resource").and_then(|r| r.get("text")));
    match (of("type").and_then(Value::as_str), said) {
        (_, Some(Value::String(said))) => text(said.clone()),
        (Some("text"), Some(other)) => text(other.to_string()),
        (kind, _) => {
            let kind = line(kind.unwrap_or("that has no name"));
            let remark = Remark::Lost(format!("content of the kind {kind} is not shown"));
            if noted.remarks.len() < MOST_REMARKS && !noted.remarks.contains(&remark) {
                noted.remarks.push(remark);
            }
            text(format!("[content of the kind {kind}, not shown]"))
        }
    }
}
