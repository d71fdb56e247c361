//! Amounts of money: whole minor units (cents, won) of one currency, never a fraction.

use iso_currency::Currency;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::input::{Fields, FromField, Invalid, whole};

/// An amount of one currency: `{"amount": 1250, "currency": "USD"}` is 12.50 US dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// Minor units, such as cents. ISO 4217 says how many make one major unit of the currency.
    pub amount: i64,
    /// The currency, by its ISO 4217 code.
    pub currency: Currency,
}

/// Why amounts cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSum {
    /// They have different currencies.
    MixedCurrencies,
    /// The sum is larger than [`Money::LARGEST_TOTAL`].
    TooLarge,
}

impl Money {
    /// The maximum total: 2^53 − 1 minor units. Programs that read JSON numbers as floating point, such as Step Functions'
    /// JSONata, cannot tell larger integers apart (RFC 8259, section 6).
    pub const LARGEST_TOTAL: i64 = 9_007_199_254_740_991;

    /// The sum of amounts times quantities; `None` if there are no amounts.
    pub fn total(parts: impl IntoIterator<Item = (Self, u32)>) -> Result<Option<Self>, NoSum> {
        parts.into_iter().try_fold(None, |sum: Option<Self>, (price, times)| {
            if sum.is_some_and(|sum| sum.currency != price.currency) {
                return Err(NoSum::MixedCurrencies);
            }
            let before = sum.map_or(0, |sum| sum.amount);
            let after = price.amount.checked_mul(i64::from(times)).and_then(|more| before.checked_add(more));
            let amount = after.filter(|after| *after <= Self::LARGEST_TOTAL).ok_or(NoSum::TooLarge)?;
            Ok(Some(Self { amount, ..price }))
        })
    }
}

/// Reads a price or a total: an amount from 1 to [`Money::LARGEST_TOTAL`] in a currency that exists.
impl FromField for Money {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        let money = (fields.required::<Amount>("amount"), fields.required::<Code>("currency"));
        let (Amount(amount), Code(currency)) = fields.complete(money)?;
        Ok(Self { amount, currency })
    }
}

struct Amount(i64);

impl FromField for Amount {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let amount = whole(&value).filter(|amount| (1..=Money::LARGEST_TOTAL).contains(amount));
        amount.map(Self).ok_or_else(|| {
            let most = Money::LARGEST_TOTAL;
            Invalid::new(format!("must be a whole number of minor units, from 1 to {most}"))
        })
    }
}

struct Code(Currency);

impl FromField for Code {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let code = String::from_field(value)?;
        Currency::from_code(&code)
            .map(Self)
            .ok_or_else(|| Invalid::new("must be an ISO 4217 code, such as USD or KRW"))
    }
}

/// A request must use a currency of the current list; an answer may contain one of a later list.
#[cfg(feature = "contract")]
impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        use iso_currency::IntoEnumIterator;

        let mut currency = serde_json::json!({
            "type": "string", "pattern": "^[A-Z]{3}$", "description": "The ISO 4217 code.",
        });
        let mut amount = serde_json::json!({
            "type": "integer", "minimum": 1,
            "description": "An amount in minor units of the currency, such as cents.",
        });
        if generator.contract().is_deserialize() {
            let codes: Vec<&str> = Currency::iter().map(|currency| currency.code()).collect();
            currency["enum"] = serde_json::json!(codes);
            amount["maximum"] = Self::LARGEST_TOTAL.into();
        }
        schemars::json_schema!({
            "type": "object",
            "properties": {"amount": amount, "currency": currency},
            "required": ["amount", "currency"],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn usd(amount: i64) -> Money {
        Money { amount, currency: Currency::USD }
    }

    #[test]
    fn a_total_is_the_sum_of_prices_times_quantities() {
        assert_eq!(Money::total([(usd(1250), 2), (usd(1), 3)]), Ok(Some(usd(2503))));
        assert_eq!(Money::total([]), Ok(None));
    }

    #[test]
    fn currencies_are_not_mixed_and_nothing_overflows() {
        let krw = Money { amount: 1, currency: Currency::KRW };
        assert_eq!(Money::total([(usd(1), 1), (krw, 1)]), Err(NoSum::MixedCurrencies));
        let largest = usd(Money::LARGEST_TOTAL);
        assert_eq!(Money::total([(largest, 1)]), Ok(Some(largest)));
        assert_eq!(Money::total([(largest, 1), (usd(1), 1)]), Err(NoSum::TooLarge));
        assert_eq!(Money::total([(usd(i64::MAX), 2)]), Err(NoSum::TooLarge));
    }

    #[test]
    fn money_is_read_and_written_as_amount_and_currency() {
        let json = json!({"amount": 1250, "currency": "USD"});
        assert_eq!(Money::from_field(json.clone()).unwrap(), usd(1250));
        assert_eq!(serde_json::to_value(usd(1250)).unwrap(), json);
        assert_eq!(serde_json::from_value::<Money>(json).unwrap(), usd(1250));
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        let bad = json!({"amount": 12.5, "currency": "usd", "cents": 1});
        let pointers = |value| match Money::from_field(value).unwrap_err() {
            Invalid::Inside(errors) => errors.into_iter().map(|error| error.pointer).collect(),
            Invalid::Itself(detail) => vec![detail],
        };
        assert_eq!(pointers(bad), ["/amount", "/currency", "/cents"]);
        assert_eq!(pointers(json!(12)), ["must be an object, not a number"]);
        for amount in [json!(0), json!(-1), json!("1"), json!(9_223_372_036_854_775_808_u64), json!(1e30)] {
            assert_eq!(pointers(json!({"amount": amount, "currency": "USD"})), ["/amount"], "{amount}");
        }
    }
}
