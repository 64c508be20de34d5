//! What SNS posts to a subscribed address.
//! <https://docs.aws.amazon.com/sns/latest/dg/http-notification-json.html>

use serde::Deserialize;

/// The most bytes of a message: SNS takes 256 KB, each byte of which may be six in JSON.
const MOST: usize = 2 << 20;
/// Within how many bytes a message names its topic: only short fields stand before it.
const BEGINNING: usize = 2 << 10;

/// A message, whoever it is of: its signature has not been looked at.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Message {
    #[serde(rename = "Type")]
    pub(crate) kind: Kind,
    #[serde(rename = "MessageId")]
    id: String,
    #[serde(rename = "TopicArn")]
    pub(crate) topic: String,
    #[serde(rename = "Subject", default)]
    subject: Option<String>,
    /// What was published, or why a confirmation is asked for.
    #[serde(rename = "Message")]
    pub(crate) text: String,
    #[serde(rename = "Timestamp")]
    pub(crate) timestamp: String,
    #[serde(rename = "SignatureVersion")]
    pub(crate) signature_version: String,
    #[serde(rename = "Signature")]
    pub(crate) signature: String,
    #[serde(rename = "SigningCertURL")]
    pub(crate) signing_cert_url: String,
    #[serde(rename = "SubscribeURL", default)]
    pub(crate) subscribe_url: Option<String>,
    #[serde(rename = "Token", default)]
    token: Option<String>,
}

/// What a message is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(crate) enum Kind {
    /// Something was published.
    Notification,
    /// Somebody subscribed this address.
    SubscriptionConfirmation,
    /// Somebody ended its subscription.
    UnsubscribeConfirmation,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
            Self::UnsubscribeConfirmation => "UnsubscribeConfirmation",
        }
    }
}

impl Message {
    /// Reads a body; `None`: it is no message of SNS. A field that stands twice makes it none.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let beginning = body.get(..BEGINNING).unwrap_or(body);
        let names_a_topic = beginning.windows(10).any(|bytes| bytes == b"\"TopicArn\"");
        if !names_a_topic || body.len() > MOST {
            return None;
        }
        serde_json::from_slice(body).ok()
    }

    /// The text that its signature is over.
    pub(crate) fn signed(&self) -> String {
        let fields = match self.kind {
            Kind::Notification => [
                ("Message", Some(&self.text)),
                ("MessageId", Some(&self.id)),
                ("Subject", self.subject.as_ref()),
                ("Timestamp", Some(&self.timestamp)),
                ("TopicArn", Some(&self.topic)),
                ("", None),
            ],
            Kind::SubscriptionConfirmation | Kind::UnsubscribeConfirmation => [
                ("Message", Some(&self.text)),
                ("MessageId", Some(&self.id)),
                ("SubscribeURL", self.subscribe_url.as_ref()),
                ("Timestamp", Some(&self.timestamp)),
                ("Token", self.token.as_ref()),
                ("TopicArn", Some(&self.topic)),
            ],
        };
        let mut signed = String::with_capacity(self.text.len() + 512);
        for (name, value) in fields {
            if let Some(value) = value {
                for part in [name, value] {
                    signed.push_str(part);
                    signed.push('\n');
                }
            }
        }
        signed + "Type\n" + self.kind.as_str() + "\n"
    }
}
