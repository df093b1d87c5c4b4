//! How the optional budget is written: a table, or `false` for none.
//!
//! A field that is left out means its default, which is a budget, and TOML has no null. So "none"
//! needs a word of its own.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use super::RetryBudgetConfig;

#[allow(clippy::ref_option)] // the signature is serde's
pub(super) fn serialize<S: Serializer>(
    budget: &Option<RetryBudgetConfig>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match budget {
        Some(config) => config.serialize(serializer),
        None => serializer.serialize_bool(false),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<RetryBudgetConfig>, D::Error> {
    deserializer.deserialize_any(TableOrFalse)
}

struct TableOrFalse;

impl<'de> Visitor<'de> for TableOrFalse {
    type Value = Option<RetryBudgetConfig>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of the budget's settings, or `false` for no budget")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Self::Value, E> {
        if on { Err(E::invalid_value(Unexpected::Bool(on), &self)) } else { Ok(None) }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        RetryBudgetConfig::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}
