//! How a backoff is written: a duration, which is constant, or a table.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::{Backoff, Jitter, Kind};

/// A backoff with everything left out that need not be said.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<Kind>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    base: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    max: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Jitter>,
}

impl From<Table> for Backoff {
    fn from(table: Table) -> Backoff {
        let default = Backoff::default();
        let base = table.base.unwrap_or(default.base);
        // Each kind has its own idea of what is left out.
        let plain = match table.kind.unwrap_or(default.kind) {
            Kind::Constant => Backoff::constant(base),
            Kind::Linear => Backoff::linear(base),
            Kind::Exponential => Backoff::exponential(base),
        };
        Backoff {
            factor: table.factor.unwrap_or(plain.factor),
            max: table.max.unwrap_or(plain.max),
            jitter: table.jitter,
            ..plain
        }
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationOrTable)
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Backoff::constant(self.base) {
            return humantime_serde::serialize(&self.base, serializer);
        }
        let Backoff { kind, base, factor, max, jitter } = *self;
        let (kind, base, factor, max) = (Some(kind), Some(base), Some(factor), Some(max));
        Table { kind, base, factor, max, jitter }.serialize(serializer)
    }
}

struct DurationOrTable;

impl<'de> Visitor<'de> for DurationOrTable {
    type Value = Backoff;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"5s\", or a table of kind, base, factor, max and jitter")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Backoff, E> {
        humantime_serde::deserialize::<Duration, _>(text.into_deserializer()).map(Backoff::constant)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backoff, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Backoff::from)
    }
}
