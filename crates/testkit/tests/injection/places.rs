//! Where a text of others can stand.

use std::fmt;

use sentinel_testkit::mcp::{Answer, Builder, FakeMcp};
use serde_json::{Map, Value, json};

/// Where the text stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    LabelValue,
    LabelName,
    Annotation,
    ToolResult,
    StructuredResult,
    EmbeddedResource,
    ResourceLink,
    ToolError,
    RpcError,
    ToolDescription,
    ToolTitle,
    Schema,
    Instructions,
}

impl Place {
    pub(crate) const ALL: &[Self] = &[
        Self::LabelValue,
        Self::LabelName,
        Self::Annotation,
        Self::ToolResult,
        Self::StructuredResult,
        Self::EmbeddedResource,
        Self::ResourceLink,
        Self::ToolError,
        Self::RpcError,
        Self::ToolDescription,
        Self::ToolTitle,
        Self::Schema,
        Self::Instructions,
    ];

    /// The body of a webhook, with the text where this is one of an alert's.
    pub(crate) fn webhook(self, text: &str) -> Value {
        let mut labels =
            json!({"alertname": "KubePodNotReady", "namespace": "web", "pod": "api-7d9", "severity": "page"});
        let mut annotations = json!({"summary": "api-7d9 is not ready"});
        match self {
            Self::LabelValue => insert(&mut labels, "pod", text),
            Self::LabelName => insert(&mut labels, text, "1"),
            Self::Annotation => insert(&mut annotations, "description", text),
            _ => {}
        }
        json!({
            "version": "4", "groupKey": "{}:{}", "status": "firing", "receiver": "sentinel",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "https://alerts.example",
            "alerts": [{
                "status": "firing", "labels": labels, "annotations": annotations,
                "startsAt": "2026-11-20T12:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "https://prometheus.example/graph", "fingerprint": "a1"
            }]
        })
    }

    /// The server, with the text where this is a place of its.
    pub(crate) fn server(self, text: &str) -> Builder {
        let at =
            |place: Self, otherwise: &str| if self == place { text.to_owned() } else { otherwise.to_owned() };
        let property = json!({
            "type": "string", "title": at(Self::Schema, "Namespace"), "description": at(Self::Schema, "where to look"),
            "default": at(Self::Schema, "default"), "examples": [at(Self::Schema, "web")],
        });
        let schema = json!({
            "type": "object", "properties": {"namespace": property}, "required": ["namespace"], "additionalProperties": false,
            "description": at(Self::Schema, "which pods"),
        });
        let result = match self {
            Self::ToolResult => Answer::text(text),
            Self::ToolError => Answer::error(text),
            Self::RpcError => Answer::RpcError(-32_000, text.to_owned()),
            Self::StructuredResult => {
                Answer::Result(json!({"content": [], "structuredContent": {"status": text, text: "key"}}))
            }
            Self::EmbeddedResource => Answer::Result(json!({"content": [
                {"type": "resource", "resource": {"uri": "file:///var/log/pods/api.log", "mimeType": "text/plain", "text": text}}
            ]})),
            Self::ResourceLink => Answer::Result(json!({"content": [
                {"type": "resource_link", "uri": "https://attacker.example/log", "name": text, "description": text},
                {"type": "text", "text": "see there"}
            ]})),
            _ => Answer::text("phase: Pending, secret api-db not found"),
        };
        let tool = |name: &str, read_only: bool| {
            json!({
                "name": name, "title": at(Self::ToolTitle, name),
                "description": format!("{name} of pods. {}", at(Self::ToolDescription, "")), "inputSchema": schema,
                "annotations": {
                    "readOnlyHint": read_only, "destructiveHint": !read_only, "title": at(Self::ToolTitle, name)
                },
            })
        };
        let mut builder = FakeMcp::builder();
        for (name, read_only) in [
            ("get", true),
            ("logs", true),
            ("delete", false),
            ("exec", false),
            ("http_get", true),
            ("send_email", true),
        ] {
            let result = result.clone();
            builder = builder.tool_defined(tool(name, read_only), move |_| result.clone());
        }
        if self == Self::Instructions {
            builder = builder.on(
                "initialize",
                Answer::Result(json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "instructions": text,
                    "serverInfo": {"name": "k8s", "version": "1", "title": text}
                })),
            );
        }
        builder
    }

    /// Whether the model is to see a text here. What a server says of itself, and of a tool beside its description and its
    /// schema, is not shown to it.
    pub(crate) fn is_shown(self) -> bool {
        !matches!(self, Self::Instructions | Self::ToolTitle)
    }
}

fn insert(object: &mut Value, name: &str, text: &str) {
    let fields: &mut Map<String, Value> = object.as_object_mut().unwrap();
    fields.insert(name.to_owned(), json!(text));
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LabelValue => "label value",
            Self::LabelName => "label name",
            Self::Annotation => "annotation",
            Self::ToolResult => "tool result",
            Self::StructuredResult => "structured result",
            Self::EmbeddedResource => "resource text",
            Self::ResourceLink => "resource link",
            Self::ToolError => "tool error",
            Self::RpcError => "protocol error",
            Self::ToolDescription => "tool description",
            Self::ToolTitle => "tool title",
            Self::Schema => "schema text",
            Self::Instructions => "server instructions",
        })
    }
}
