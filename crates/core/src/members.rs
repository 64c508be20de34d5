//! Which alerts belong to an incident: a bounded set, stored as bytes.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One alert of an incident: 64 bits of the SHA-256 of its labels, without the card's `ignore-labels`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u64);

/// A bounded set of members: at most [`Members::LIMIT`], then only "many".
///
/// Stored as bytes, because a head holds two of them and is written often: one byte that is 1 where the set is
/// `many`, then eight a member, big end first. A format without bytes (JSON) gets them as a list of numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    set: BTreeSet<MemberId>,
    many: bool,
}

impl Members {
    /// The most members that are told apart.
    pub const LIMIT: usize = 64;

    /// Adds a member, or marks the set as `many` where it is full.
    pub fn insert(&mut self, id: MemberId) {
        if self.set.contains(&id) {
            return;
        }
        if self.set.len() < Self::LIMIT {
            self.set.insert(id);
        } else {
            self.many = true;
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, id: MemberId) {
        self.set.remove(&id);
    }

    /// Whether the member is known to be in it.
    pub fn contains(&self, id: MemberId) -> bool {
        self.set.contains(&id)
    }

    /// Whether more members were seen than are told apart.
    pub fn is_many(&self) -> bool {
        self.many
    }

    /// Whether nothing is in it. A set that is `many` never is: who is missing from it is not known.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && !self.many
    }

    /// The members that are told apart.
    pub fn iter(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.set.iter().copied()
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        for id in other.iter() {
            self.insert(id);
        }
        self.many |= other.many;
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (many, ids) = bytes.split_first()?;
        let (ids, rest) = ids.as_chunks::<8>();
        let sound = rest.is_empty() && ids.len() <= Self::LIMIT && *many <= 1;
        sound.then(|| Self {
            set: ids.iter().map(|id| MemberId(u64::from_be_bytes(*id))).collect(),
            many: *many == 1,
        })
    }
}

impl FromIterator<MemberId> for Members {
    fn from_iter<I: IntoIterator<Item = MemberId>>(ids: I) -> Self {
        let mut set = Self::default();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![u8::from(self.many)];
        bytes.extend(self.set.iter().flat_map(|id| id.0.to_be_bytes()));
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl<'de> Visitor<'de> for Bytes {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("0 or 1, and eight bytes for each of at most 64 members")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Members, E> {
                Members::from_bytes(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                self.visit_bytes(&bytes)
            }
        }

        deserializer.deserialize_byte_buf(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_set_is_many_and_never_empty_again() {
        let mut set: Members = (0..=64).map(MemberId).collect();
        assert!(set.is_many() && !set.contains(MemberId(64)));
        (0..=64).for_each(|n| set.remove(MemberId(n)));
        assert_eq!(set.iter().count(), 0);
        assert!(!set.is_empty());
    }

    #[test]
    fn a_set_that_takes_in_many_is_many() {
        let many: Members = (0..=64).map(MemberId).collect();
        let mut set = Members::default();
        assert!(set.is_empty());
        set.extend(&many);
        assert!(set.is_many());
    }

    #[test]
    fn bytes_that_are_no_set_are_refused() {
        for bytes in ["[]", "[2]", "[0,1,2]", "\"x\""] {
            assert!(serde_json::from_str::<Members>(bytes).is_err(), "{bytes}");
        }
        let crowd = format!("[0{}]", ",1".repeat(8 * 65));
        assert!(serde_json::from_str::<Members>(&crowd).is_err());
    }

    proptest! {
        #[test]
        fn a_set_reads_back_as_it_was_written(ids in prop::collection::vec(any::<u64>(), 0..80)) {
            let set: Members = ids.into_iter().map(MemberId).collect();
            let text = serde_json::to_string(&set).unwrap();
            prop_assert_eq!(serde_json::from_str::<Members>(&text).unwrap(), set);
        }
    }
}
