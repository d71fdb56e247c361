//! Reads and checks the body of `POST /orders`.

use std::collections::HashSet;

use events::{Item, OrderItems};
use kernel::{
    input::{Fields, FromField, Invalid},
    money::Money,
    problem::{FieldError, Problem},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Maximum number of items in an order.
const MAX_ITEMS: usize = OrderItems::MAX_ITEMS;

/// The body of `POST /orders`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "NewOrder"))]
pub struct Draft {
    /// The ordered items.
    pub items: Items,
    /// The payment method.
    pub payment_method: PaymentMethod,
    /// The total that the buyer expects; the order is rejected if it differs.
    pub expected_total: Option<Money>,
}

impl Draft {
    /// Reads `{"items": [{"sku", "quantity"}], "payment_method", "expected_total"?}`.
    pub fn read(mut fields: Fields) -> Result<Self, Problem> {
        let draft =
            (fields.required("items"), fields.required("payment_method"), fields.optional("expected_total"));
        let (items, payment_method, expected_total) = fields.finish(draft)?;
        Ok(Self { items, payment_method, expected_total })
    }
}

/// 1 to 50 items, each SKU once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(inline))]
pub struct Items(#[cfg_attr(feature = "contract", schemars(length(min = 1, max = MAX_ITEMS)))] Vec<Item>);

impl Items {
    /// The items, in the order in which they were sent.
    pub fn as_slice(&self) -> &[Item] {
        &self.0
    }
}

impl FromField for Items {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        if value.as_array().is_some_and(|items| items.is_empty() || items.len() > MAX_ITEMS) {
            return Err(Invalid::new(format!("must have 1 to {MAX_ITEMS} items")));
        }
        let items = Vec::<Item>::from_field(value)?;
        // Refused rather than added up: only the buyer knows what was meant.
        let mut seen = HashSet::new();
        let repeated = items.iter().enumerate().filter(|(_, item)| !seen.insert(&item.sku));
        let errors: Vec<FieldError> = repeated
            .map(|(index, _)| FieldError {
                pointer: format!("/{index}/sku"),
                detail: "is in the order already; list each SKU once".to_owned(),
            })
            .collect();
        if errors.is_empty() { Ok(Self(items)) } else { Err(Invalid::Inside(errors)) }
    }
}

/// A payment method, by the provider's name for it: `pm_card_visa`. Never a card's number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(inline))]
pub struct PaymentMethod(
    #[cfg_attr(feature = "contract", schemars(regex(pattern = "^pm_[A-Za-z0-9_]{1,100}$")))] String,
);

impl FromField for PaymentMethod {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let name = String::from_field(value)?;
        let rest = name.strip_prefix("pm_").unwrap_or_default();
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if (1..=100).contains(&rest.len()) && rest.bytes().all(valid) {
            Ok(Self(name))
        } else {
            Err(Invalid::new("must be a payment method's name, such as pm_card_visa"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(body: &Value) -> Vec<String> {
        let problem = Draft::read(Fields::read(body.to_string().as_bytes()).unwrap()).unwrap_err();
        problem.errors.into_iter().map(|error| error.pointer).collect()
    }

    fn item(sku: &str) -> Value {
        json!({"sku": sku, "quantity": 1})
    }

    fn numbered(number: u32) -> Value {
        item(&number.to_string())
    }

    #[test]
    fn a_draft_has_items_a_payment_method_and_optionally_an_expected_total() {
        let body = json!({
            "items": [{"sku": "tea", "quantity": 2}], "payment_method": "pm_card_visa",
            "expected_total": {"amount": 900, "currency": "KRW"},
        });
        let draft = Draft::read(Fields::read(body.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(draft).unwrap(), body);
    }

    #[test]
    fn an_order_has_one_to_fifty_items() {
        let with = |items: Vec<Value>| json!({"items": items, "payment_method": "pm_card_visa"});
        assert_eq!(pointers(&with(vec![])), ["/items"]);
        assert_eq!(pointers(&with((0..51).map(numbered).collect())), ["/items"]);
        let fifty = with((0..50).map(numbered).collect());
        assert!(Draft::read(Fields::read(fifty.to_string().as_bytes()).unwrap()).is_ok());
    }

    #[test]
    fn an_expected_total_that_json_cannot_carry_exactly_is_refused() {
        let total = json!({"amount": Money::LARGEST_TOTAL + 1, "currency": "USD"});
        let body = json!({"items": [item("a")], "payment_method": "pm_card_visa", "expected_total": total});
        assert_eq!(pointers(&body), ["/expected_total/amount"]);
    }

    #[test]
    fn a_repeated_sku_is_refused_at_the_repetition() {
        let body = json!({"items": [item("a"), item("b"), item("a")], "payment_method": "pm_card_visa"});
        assert_eq!(pointers(&body), ["/items/2/sku"]);
    }

    #[test]
    fn every_mistake_is_reported_at_its_pointer() {
        let body = json!({
            "items": [{"sku": "a b", "quantity": 0}, {"sku": "c"}, 7], "payment_method": "4242 4242 4242 4242",
            "expected_total": {"amount": 9_223_372_036_854_775_808_u64, "currency": "XYZ"}, "coupon": "x",
        });
        let expected = [
            "/items/0/sku",
            "/items/0/quantity",
            "/items/1/quantity",
            "/items/2",
            "/payment_method",
            "/expected_total/amount",
            "/expected_total/currency",
            "/coupon",
        ];
        assert_eq!(pointers(&body), expected);
    }
}
