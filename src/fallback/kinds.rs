use std::fmt;

use crate::verdict::VerdictKind;

/// A set of [`VerdictKind`]s in one byte: which outcomes a fallback answers.
///
/// With feature `serde`: a list, such as `["transient", "refused"]`.
///
/// ```
/// use buttress::{fallback::VerdictKinds, VerdictKind};
///
/// let kinds = VerdictKinds::from_iter([VerdictKind::Transient, VerdictKind::Refused]);
/// assert!(kinds.contains(VerdictKind::Refused));
/// assert_eq!(format!("{kinds:?}"), "[transient, refused]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerdictKinds(u8);

impl VerdictKinds {
    /// No kind at all.
    pub const NONE: VerdictKinds = VerdictKinds(0);

    /// This set and one more kind.
    #[must_use]
    pub const fn with(self, kind: VerdictKind) -> Self {
        VerdictKinds(self.0 | 1 << kind as u8)
    }

    /// Whether the kind is in the set.
    #[inline]
    pub const fn contains(self, kind: VerdictKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// Whether no kind is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds in the set, in the order of [`VerdictKind::ALL`].
    pub fn iter(self) -> VerdictKindsIter {
        self.into_iter()
    }
}

impl IntoIterator for VerdictKinds {
    type Item = VerdictKind;
    type IntoIter = VerdictKindsIter;

    fn into_iter(self) -> VerdictKindsIter {
        VerdictKindsIter { left: self }
    }
}

/// The kinds of a [`VerdictKinds`], in the order of [`VerdictKind::ALL`].
#[derive(Clone, Debug)]
pub struct VerdictKindsIter {
    left: VerdictKinds,
}

impl Iterator for VerdictKindsIter {
    type Item = VerdictKind;

    fn next(&mut self) -> Option<VerdictKind> {
        let next = VerdictKind::ALL.into_iter().find(|kind| self.left.contains(*kind))?;
        self.left.0 &= !(1 << next as u8);
        Some(next)
    }
}

impl FromIterator<VerdictKind> for VerdictKinds {
    fn from_iter<I: IntoIterator<Item = VerdictKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(VerdictKinds::NONE, VerdictKinds::with)
    }
}

/// Reads as it is written in a configuration file, because it is part of error messages.
impl fmt::Debug for VerdictKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|kind| Word(kind.as_str()))).finish()
    }
}

/// A word that prints without quotes in a debug list.
struct Word(&'static str);

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for VerdictKinds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for VerdictKinds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kinds: Vec<VerdictKind> = serde::Deserialize::deserialize(deserializer)?;
        Ok(kinds.into_iter().collect())
    }
}
