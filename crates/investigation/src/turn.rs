//! A model's turn, in items of ours: whoever investigates knows no service's own names, and a conversation goes on with
//! any service by these items alone.

use sentinel_core::card::ModelId;
use sentinel_core::price::Tokens;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::evidence::CallStatus;
use crate::ports::{Approval, ToolDefinition};

mod first;

/// The interfaces that a model is asked by: which of them an item's raw value is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// OpenAI's Responses.
    Responses,
    /// Chat Completions.
    Chat,
    /// Anthropic's Messages.
    Messages,
}

/// One item of the conversation, oldest first.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// The task, or what the model is told in between.
    User {
        /// Its text.
        text: String,
    },
    /// A model's answer.
    Response {
        /// The model that was asked: another one does not understand its sealed reasoning.
        asked: ModelId,
        /// The interface that the raw values are of.
        api: Api,
        /// What it holds.
        outputs: Vec<Output>,
    },
    /// What a function call gave.
    CallOutput {
        /// Which call.
        call_id: String,
        /// What the model is shown.
        output: String,
    },
    /// What a hosted call that asks to be made is answered.
    Approval(Approval),
}

/// A function call that the model asks for. Untrusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Names the call in the conversation.
    pub call_id: String,
    /// The function's name, whatever the model wrote.
    pub name: String,
    /// Its arguments as the model wrote them: perhaps not JSON.
    pub arguments: String,
}

/// A call of a hosted server's tool that asks to be made. Untrusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedRequest {
    /// Names the request; empty where the service gave it no name.
    pub id: String,
    /// The server, as the service names it.
    pub label: String,
    /// The tool.
    pub tool: String,
    /// Its arguments as the model wrote them.
    pub arguments: String,
}

/// A call that the model's service made. Untrusted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedCall {
    /// Names the call.
    pub id: String,
    /// The server, as the service names it.
    pub label: String,
    /// The tool.
    pub tool: String,
    /// Its arguments as the model wrote them.
    pub arguments: String,
    /// The request that was approved for it, by the service's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// How it ended.
    pub status: CallStatus,
    /// What it gave. Once it is evidence, this is what the model is shown of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What went wrong, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The tools that the service says it offers of a hosted server. Untrusted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HostedList {
    /// The server, as the service names it.
    pub label: String,
    /// Its tools.
    pub tools: Vec<ToolDefinition>,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What an item of an answer says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Said {
    /// Words.
    Text {
        /// All of them.
        text: String,
    },
    /// That it will not answer.
    Refusal {
        /// Its words.
        text: String,
    },
    /// A function is to be called.
    Call(FunctionCall),
    /// The service called a hosted server's tool.
    HostedCall(HostedCall),
    /// The tools of a hosted server.
    HostedList(HostedList),
    /// A hosted server's tool is to be called.
    HostedRequest(HostedRequest),
    /// What it thought.
    Reasoning {
        /// The part of it that can be read and changed; what is sealed or signed is in the raw value alone.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        text: String,
    },
    /// Something that nobody here asked for.
    Other,
}

/// One item of an answer, in the service's order.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// What it says.
    pub said: Said,
    /// The rest of it, as the service wrote it: where the item goes back to that service, the two are put together again.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub raw: Map<String, Value>,
}

impl Output {
    /// An item of which there is nothing more to say.
    pub fn plain(said: Said) -> Self {
        Self { said, raw: Map::new() }
    }
}

/// Tokens of one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TurnUsage {
    /// Sent, whether the model's cache held them or not.
    pub input_tokens: u64,
    /// Of those, held by the cache.
    pub cached_tokens: u64,
    /// Of those, written to the cache.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Received, reasoning included.
    pub output_tokens: u64,
}

impl TurnUsage {
    /// As prices count them.
    pub const fn counted(&self) -> Tokens {
        Tokens {
            input: self.input_tokens,
            cached: self.cached_tokens,
            cache_write: self.cache_write_tokens,
            output: self.output_tokens,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A function that the service did not take, and that was therefore not offered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeftOut {
    /// The function's name.
    pub name: String,
    /// What the service said.
    pub reason: String,
}

/// What the model answered in one turn. This is what is stored on receipt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(from = "first::Stored")]
pub struct TurnResponse {
    /// The model that answered, by its own word.
    pub model: String,
    /// The interface that the raw values are of.
    pub api: Api,
    /// What the answer holds.
    pub outputs: Vec<Output>,
    /// Why the answer stopped early, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Incomplete>,
    /// What it took.
    pub usage: TurnUsage,
    /// The functions that had to be left out of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// Why an answer stopped early.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Incomplete {
    /// It had no room for more tokens.
    NoRoom,
    /// The service's filter.
    Filter,
    /// Anything else, in the service's word.
    Other(String),
}

const NO_ROOM: &str = "max_output_tokens";
const FILTER: &str = "content_filter";

impl From<String> for Incomplete {
    fn from(word: String) -> Self {
        match word.as_str() {
            NO_ROOM => Self::NoRoom,
            FILTER => Self::Filter,
            _ => Self::Other(word),
        }
    }
}

impl From<Incomplete> for String {
    fn from(why: Incomplete) -> Self {
        match why {
            Incomplete::NoRoom => NO_ROOM.to_owned(),
            Incomplete::Filter => FILTER.to_owned(),
            Incomplete::Other(word) => word,
        }
    }
}

impl std::fmt::Display for Incomplete {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRoom => NO_ROOM,
            Self::Filter => FILTER,
            Self::Other(word) => word,
        })
    }
}

impl TurnResponse {
    /// The function calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &FunctionCall> {
        self.outputs.iter().filter_map(|output| match &output.said {
            Said::Call(call) => Some(call),
            _ => None,
        })
    }

    /// The calls of hosted servers that were made, in order.
    pub(crate) fn hosted_calls(&self) -> impl Iterator<Item = &HostedCall> {
        self.outputs.iter().filter_map(|output| match &output.said {
            Said::HostedCall(call) => Some(call),
            _ => None,
        })
    }

    /// The calls of hosted servers that ask to be made, in order.
    pub(crate) fn hosted_requests(&self) -> impl Iterator<Item = &HostedRequest> {
        self.outputs.iter().filter_map(|output| match &output.said {
            Said::HostedRequest(request) => Some(request),
            _ => None,
        })
    }

    /// What it says in words, a refusal's too.
    pub fn text(&self) -> String {
        let texts = self.outputs.iter().filter_map(|output| match &output.said {
            Said::Text { text } | Said::Refusal { text } if !text.is_empty() => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}
