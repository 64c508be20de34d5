//! Signatures over the ends of records: whoever can write a whole store, but has no key, cannot write another chain in
//! place of the one that was signed.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Finding, anchor};
use crate::canonical::canonical;
use crate::digest::{hex, unhex};
use crate::incident::{Head, IncidentId};

/// What is signed before the anchor, so that no signature of another purpose is one of an anchor.
const DOMAIN: &str = "sentinel-anchor-1\n";

/// The signature over an entry's number and hash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The entry's number.
    pub n: u64,
    /// The public key, in hexadecimal digits.
    pub key: String,
    /// Ed25519's 64 bytes, in hexadecimal digits.
    pub signature: String,
}

impl Signature {
    /// Whether it is its key's, over this incident's entry with this hash.
    fn holds(&self, incident: &IncidentId, hash: &str) -> bool {
        let (Some(key), Some(signature)) = (unhex::<32>(&self.key), unhex::<64>(&self.signature)) else {
            return false;
        };
        // No other spelling: a digit that was changed is a change.
        hex(&key) == self.key
            && hex(&signature) == self.signature
            && UnparsedPublicKey::new(&ED25519, key)
                .verify(&signed(incident, self.n, hash), &signature)
                .is_ok()
    }
}

/// What is signed.
fn signed(incident: &IncidentId, n: u64, hash: &str) -> Vec<u8> {
    let anchor = canonical(&json!({"hash": hash, "incident": incident.as_str(), "n": n}));
    [DOMAIN.as_bytes(), anchor.as_bytes()].concat()
}

/// An Ed25519 key that signs the ends of records.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key that these 32 bytes are the seed of. `None`: the cryptographic library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self)
    }

    /// What its signatures are verified with.
    pub fn public(&self) -> PublicKey {
        PublicKey(hex(self.0.public_key().as_ref()))
    }

    /// Signs the newest entry of a head into it.
    pub(crate) fn sign(&self, head: &mut Head) {
        let Some((n, hash)) = anchor(head) else { return };
        let signature = hex(self.0.sign(&signed(&head.id, n, &hash)).as_ref());
        head.signed = Some(Signature { n, key: self.public().0, signature });
    }
}

/// Without the key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}

/// The public half of a [`SigningKey`], written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey(String);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicKey {
    type Err = &'static str;

    fn from_str(digits: &str) -> Result<Self, Self::Err> {
        let bytes: Option<[u8; 32]> = unhex(digits.trim());
        bytes
            .map(|bytes| Self(hex(&bytes)))
            .ok_or("a public key is 64 hexadecimal digits: `sentinel audit key` prints it")
    }
}

/// Holds the signature in a head against the record's chain, of which `hash_of` tells the entries' hashes and `last` is
/// the end. `by`: the only key that counts, and one is wanted.
pub(super) fn check(
    head: Option<&Head>,
    by: Option<&PublicKey>,
    last: u64,
    hash_of: impl Fn(u64) -> Option<String>,
) -> Vec<Finding> {
    let breach = |what: String| vec![Finding::breach("HEAD", what)];
    let Some((head, signed)) = head.and_then(|head| Some((head, head.signed.as_ref()?))) else {
        return match by {
            Some(key) => breach(format!("no signature by {key} stands in it")),
            None => Vec::new(),
        };
    };
    let Signature { n, key, .. } = signed;
    let Some(hash) = hash_of(*n) else {
        return breach(format!("the signature in it is over entry {n}, which is not on the chain"));
    };
    if !signed.holds(&head.id, &hash) {
        return breach(format!("the signature in it is not one of {key} over entry {n}"));
    }
    if let Some(by) = by.filter(|by| by.0 != *key) {
        return breach(format!("it is signed by {key}, and not by {by}"));
    }
    if *n < last {
        return vec![Finding::note("HEAD", format!("the entries after {n} were written without a key"))];
    }
    Vec::new()
}
