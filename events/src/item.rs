//! Items, which orders and the stock consist of.

use std::fmt;

use kernel::{
    input::{Fields, FromField, Invalid, whole},
    money::Money,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A stock keeping unit, the name of an item that can be ordered: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sku(String);

impl Sku {
    /// Maximum characters.
    const MAX: usize = 64;

    /// The SKU, if the text is a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=Self::MAX).contains(&text.len()) && text.bytes().all(valid)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromField for Sku {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        Self::parse(&String::from_field(value)?)
            .ok_or_else(|| Invalid::new("must be 1 to 64 letters, digits, dots, underscores and hyphens"))
    }
}

/// A quantity of one item: 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quantity(u32);

impl Quantity {
    /// Maximum quantity of one item in an order.
    pub const MAX: u32 = 1000;

    /// The quantity, if the number is from 1 to [`Self::MAX`].
    pub fn new(number: u64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| (1..=Self::MAX).contains(number)).map(Self)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromField for Quantity {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        whole(&value)
            .and_then(|number| Self::new(u64::try_from(number).ok()?))
            .ok_or_else(|| Invalid::new(format!("must be a whole number from 1 to {}", Self::MAX)))
    }
}

/// An item and its quantity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct Item {
    /// The stock keeping unit.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
}

impl FromField for Item {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let item = (fields.required("sku"), fields.required("quantity"));
        let (sku, quantity) = fields.complete(item)?;
        Ok(Self { sku, quantity })
    }
}

/// An item, its quantity, and its unit price.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PricedItem {
    /// The stock keeping unit.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// The price of one.
    pub unit_price: Money,
}

/// The JSON Schemas of [`Sku`] and [`Quantity`]: what [`Sku::parse`] and [`Quantity::new`] check.
#[cfg(feature = "contract")]
mod contract {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Quantity, Sku};

    impl JsonSchema for Sku {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Sku".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "string", "pattern": format!("^[A-Za-z0-9._-]{{1,{}}}$", Self::MAX)})
        }
    }

    impl JsonSchema for Quantity {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Quantity".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"type": "integer", "minimum": 1, "maximum": Self::MAX})
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sku_has_one_to_64_plain_characters() {
        for good in ["a", "TEA-01", "tea_1.5", &"x".repeat(64)] {
            assert_eq!(Sku::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "tea 1", "tea/1", "차", "tea#1", &"x".repeat(65)] {
            assert_eq!(Sku::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_quantity_is_a_whole_number_from_one_to_a_thousand() {
        for good in [1, 1000] {
            assert_eq!(Quantity::from_field(json!(good)).unwrap().get(), good);
        }
        for bad in [json!(0), json!(-1), json!(1001), json!(1.5), json!("1"), json!(null)] {
            assert!(Quantity::from_field(bad.clone()).is_err(), "{bad}");
        }
    }
}
