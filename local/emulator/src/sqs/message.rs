//! Messages as sent, as stored in a queue, and as received.
use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{SendError, checksum};

/// A message attribute of type `String`, `Number` or `Binary`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `String`, `Number` or `Binary`, with an optional `.suffix`.
    pub data_type: String,
    /// The value; base64 for `Binary`.
    pub value: String,
}

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    /// Body, 1 byte to 1 MiB.
    pub body: String,
    /// At most 10.
    pub attributes: BTreeMap<String, Attribute>,
    /// 0 to 900; `None`: the queue's `DelaySeconds`.
    pub delay_seconds: Option<u32>,
    /// `MessageGroupId`: 1 to 128 ASCII letters, digits and punctuation. It implies no order in a standard queue.
    pub group_id: Option<String>,
}

/// SQS's limit on attributes of one message.
const ATTRIBUTES_MAX: usize = 10;
/// SQS's limit on a `MessageGroupId`.
const GROUP_ID_LENGTH_MAX: usize = 128;
/// SQS's limit on the length of an attribute's name.
const ATTRIBUTE_NAME_LENGTH_MAX: usize = 256;

/// Message attributes in the encoding that SQS hashes: sorted by name, each part prefixed with its length.
///
/// This encoding is also the storage format: it takes one allocation per message, and one pass for the digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Attributes(Box<[u8]>);

impl From<Attributes> for String {
    /// Encodes as base64, for snapshots.
    fn from(attributes: Attributes) -> Self {
        BASE64_STANDARD.encode(&attributes.0)
    }
}

impl TryFrom<String> for Attributes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(BASE64_STANDARD.decode(text)?.into_boxed_slice()))
    }
}

/// An attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// `String` and `Number`.
    Text(&'a str),
    /// `Binary`.
    Binary(&'a [u8]),
}

const TRANSPORT_TEXT: u8 = 1;
const TRANSPORT_BINARY: u8 = 2;

impl Attributes {
    /// Validates and encodes attributes.
    ///
    /// # Errors
    /// `InvalidParameterValue`, with the attribute's name.
    pub fn encode(attributes: &BTreeMap<String, Attribute>) -> Result<Self, SendError> {
        if attributes.len() > ATTRIBUTES_MAX {
            return Err(invalid(format!("a message has at most {ATTRIBUTES_MAX} attributes")));
        }
        let mut bytes = Vec::new();
        for (name, attribute) in attributes {
            encode_one(&mut bytes, name, attribute)?;
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// Returns the name, data type and value of each attribute, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, Value<'_>)> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let name = take_text(&mut rest)?;
            let data_type = take_text(&mut rest)?;
            let (transport, after) = rest.split_first()?;
            rest = after;
            let value = match *transport {
                TRANSPORT_TEXT => Value::Text(take_text(&mut rest)?),
                _ => Value::Binary(take(&mut rest)?),
            };
            Some((name, data_type, value))
        })
    }

    /// Returns the attributes whose names satisfy `keep`.
    pub fn filter(&self, keep: impl Fn(&str) -> bool) -> Self {
        let mut bytes = Vec::new();
        for (name, data_type, value) in self.iter().filter(|(name, ..)| keep(name)) {
            put(&mut bytes, name.as_bytes());
            put(&mut bytes, data_type.as_bytes());
            match value {
                Value::Text(text) => put_value(&mut bytes, TRANSPORT_TEXT, text.as_bytes()),
                Value::Binary(binary) => put_value(&mut bytes, TRANSPORT_BINARY, binary),
            }
        }
        Self(bytes.into_boxed_slice())
    }

    /// Returns the digest that SDKs verify, in hex; `None` without attributes.
    pub fn md5(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| checksum::md5_hex(&self.0))
    }

    /// Returns the attributes' share of the message size, in bytes.
    pub(super) fn size(&self) -> usize {
        self.iter()
            .map(|(name, data_type, value)| {
                name.len()
                    + data_type.len()
                    + match value {
                        Value::Text(text) => text.len(),
                        Value::Binary(binary) => binary.len(),
                    }
            })
            .sum()
    }
}

fn encode_one(bytes: &mut Vec<u8>, name: &str, attribute: &Attribute) -> Result<(), SendError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > ATTRIBUTE_NAME_LENGTH_MAX || !name.chars().all(allowed) {
        return Err(invalid(format!("\"{name}\" is not an attribute name")));
    }
    if attribute.value.is_empty() {
        return Err(invalid(format!("the message attribute '{name}' must contain a non-empty value")));
    }
    put(bytes, name.as_bytes());
    put(bytes, attribute.data_type.as_bytes());
    match attribute.data_type.split('.').next() {
        Some("String") => put_value(bytes, TRANSPORT_TEXT, attribute.value.as_bytes()),
        Some("Number") if attribute.value.parse::<f64>().is_ok() => {
            put_value(bytes, TRANSPORT_TEXT, attribute.value.as_bytes());
        }
        Some("Number") => return Err(invalid(format!("the message attribute '{name}' is not a number"))),
        Some("Binary") => {
            let binary = BASE64_STANDARD
                .decode(&attribute.value)
                .map_err(|_| invalid(format!("the message attribute '{name}' is not base64")))?;
            put_value(bytes, TRANSPORT_BINARY, &binary);
        }
        _ => {
            return Err(invalid(format!(
                "the message attribute '{name}' has the type {}; there are String, Number and Binary",
                attribute.data_type
            )));
        }
    }
    Ok(())
}

/// Validates a `MessageGroupId` by SQS's rule.
///
/// # Errors
/// `InvalidParameterValue`.
pub(super) fn check_group_id(group_id: &str) -> Result<(), SendError> {
    let is_valid = (1..=GROUP_ID_LENGTH_MAX).contains(&group_id.len())
        && group_id.bytes().all(|byte| byte.is_ascii_graphic());
    if is_valid {
        return Ok(());
    }
    Err(invalid(format!(
        "MessageGroupId can only include alphanumeric and punctuation characters, 1 to {GROUP_ID_LENGTH_MAX} in length"
    )))
}

fn invalid(message: String) -> SendError {
    SendError::new("InvalidParameterValue", message)
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    // No part reaches 4 GiB: a message has at most 1 MiB.
    bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
    bytes.extend_from_slice(part);
}

fn put_value(bytes: &mut Vec<u8>, transport: u8, value: &[u8]) {
    bytes.push(transport);
    put(bytes, value);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take(rest)?).ok()
}

/// The immutable part of a message in its queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Content {
    /// Assigned by the queue.
    pub id: Uuid,
    /// As sent.
    pub body: Box<str>,
    /// As sent.
    pub attributes: Attributes,
    /// As sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<Box<str>>,
    /// The time of the send in milliseconds since 1970; constant across redeliveries.
    pub sent_ms: u64,
    pub(super) md5_of_body: [u8; 16],
}

impl Content {
    /// Returns the digest of the body in hex.
    pub fn md5_of_body(&self) -> String {
        checksum::hex(&self.md5_of_body)
    }
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Received {
    /// The message.
    pub content: Arc<Content>,
    /// The receipt handle, for deleting the message or changing its visibility.
    pub receipt: Receipt,
    /// The receive count over all queues that have held the message.
    pub receive_count: u32,
    /// The time of the first receive, in milliseconds since 1970.
    pub first_received_ms: u64,
    /// ARN of the source queue, if a redrive policy moved the message to this DLQ.
    pub dead_letter_source: Option<Arc<str>>,
}

/// The receipt handle of one delivery of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub(super) message_id: Uuid,
    pub(super) sequence: u64,
    pub(super) delivery: u32,
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:016x}{:08x}", self.message_id.simple(), self.sequence, self.delivery)
    }
}

impl FromStr for Receipt {
    type Err = SendError;

    fn from_str(text: &str) -> Result<Self, SendError> {
        let parse = || {
            let (id, rest) = text.split_at_checked(32)?;
            let (sequence, delivery) = rest.split_at_checked(16).filter(|(_, d)| d.len() == 8)?;
            Some(Self {
                message_id: Uuid::try_parse(id).ok()?,
                sequence: u64::from_str_radix(sequence, 16).ok()?,
                delivery: u32::from_str_radix(delivery, 16).ok()?,
            })
        };
        parse().ok_or_else(|| {
            SendError::new("ReceiptHandleIsInvalid", "the receipt handle is not one of this queue")
        })
    }
}
