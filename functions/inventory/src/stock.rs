//! Stock items, and how each movement changes them.

use std::hash::{Hash, Hasher};

use events::{PricedItem, Sku};
use kernel::{
    input::{Fields, FromField, Invalid, whole},
    money::Money,
    problem::{Kind, Problem},
    text::Line,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The name of an item: 1 to 200 characters.
pub type Name = Line<200>;

/// Maximum `on_hand` that an administrator can set.
const MAX_ON_HAND: u64 = 1_000_000_000;

/// The body of `PUT /inventory/{sku}`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "StockListing"))]
pub struct Listing {
    /// The display name.
    pub name: Name,
    /// The unit price.
    pub unit_price: Money,
    /// The number in stock, including reserved ones.
    #[cfg_attr(feature = "contract", schemars(range(max = MAX_ON_HAND)))]
    pub on_hand: u64,
}

impl Listing {
    /// Reads the body `{"name": …, "unit_price": …, "on_hand": …}`.
    pub fn read(mut fields: Fields) -> Result<Self, Problem> {
        let listing =
            (fields.required("name"), fields.required("unit_price"), fields.required::<OnHand>("on_hand"));
        let (name, unit_price, OnHand(on_hand)) = fields.finish(listing)?;
        Ok(Self { name, unit_price, on_hand })
    }
}

struct OnHand(u64);

impl FromField for OnHand {
    fn from_field(value: Value) -> Result<Self, Invalid> {
        let number = whole(&value).and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| *number <= MAX_ON_HAND);
        number
            .map(Self)
            .ok_or_else(|| Invalid::new(format!("must be a whole number from 0 to {MAX_ON_HAND}")))
    }
}

/// A stock item and its counts, as staff see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct StockItem {
    /// The stock keeping unit.
    pub sku: Sku,
    /// The display name.
    pub name: Name,
    /// The unit price.
    pub unit_price: Money,
    /// The number in stock, including reserved ones.
    pub on_hand: u64,
    /// The number that is reserved for orders.
    pub reserved: u64,
    // Stored because a condition in DynamoDB can compare but not calculate.
    /// The number that can be ordered: `on_hand` − `reserved`.
    pub available: u64,
    /// 1 at first, increased when an administrator changes the item and when `on_hand` changes. Reservations do not change it, so
    /// that an item can be edited while it is being ordered.
    pub version: u64,
}

impl Hash for StockItem {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { sku, name, unit_price, on_hand, reserved, available, version } = self;
        (sku, name.as_str(), unit_price, on_hand, reserved, available, version).hash(state);
    }
}

/// A stock item as buyers see it: how many are on hand and reserved is the shop's own business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
pub struct CatalogueItem {
    /// The stock keeping unit.
    pub sku: Sku,
    /// The display name.
    pub name: Name,
    /// The unit price.
    pub unit_price: Money,
    /// The number that can be ordered.
    pub available: u64,
    /// The version of the stock item.
    pub version: u64,
}

impl From<StockItem> for CatalogueItem {
    fn from(item: StockItem) -> Self {
        let StockItem { sku, name, unit_price, on_hand: _, reserved: _, available, version } = item;
        Self { sku, name, unit_price, available, version }
    }
}

/// How an order moves a quantity of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Movement {
    /// The quantity is reserved for the order.
    Reserve,
    /// The reservation is released.
    Release,
    /// The reserved quantity leaves the stock.
    Commit,
    /// The quantity returns to the stock.
    Restock,
}

impl Movement {
    /// Every movement.
    pub const ALL: [Self; 4] = [Self::Reserve, Self::Release, Self::Commit, Self::Restock];
}

impl StockItem {
    /// A new item.
    pub fn list(sku: Sku, listing: Listing) -> Self {
        let Listing { name, unit_price, on_hand } = listing;
        Self { sku, name, unit_price, on_hand, reserved: 0, available: on_hand, version: 1 }
    }

    /// Changes the item as an administrator; 409 if fewer would be on hand than are reserved.
    pub fn edit(self, listing: Listing) -> Result<Self, Problem> {
        let Listing { name, unit_price, on_hand } = listing;
        let Some(available) = on_hand.checked_sub(self.reserved) else {
            let reserved = self.reserved;
            return Err(Problem::new(
                Kind::Conflict,
                format!("{reserved} of this item are reserved for orders; on_hand cannot be less"),
            ));
        };
        Ok(Self { name, unit_price, on_hand, available, version: self.version + 1, ..self })
    }

    /// The item after a movement of `line`; `None` if the movement is not possible: there are too few, or the line's price is
    /// not the item's.
    #[must_use]
    pub fn after(&self, movement: Movement, line: &PricedItem) -> Option<Self> {
        let quantity = u64::from(line.quantity.get());
        let mut item = self.clone();
        match movement {
            Movement::Reserve => {
                if item.unit_price != line.unit_price {
                    return None;
                }
                item.reserved += quantity;
                item.available = item.available.checked_sub(quantity)?;
            }
            Movement::Release => {
                item.reserved = item.reserved.checked_sub(quantity)?;
                item.available += quantity;
            }
            Movement::Commit => {
                item.on_hand = item.on_hand.checked_sub(quantity)?;
                item.reserved = item.reserved.checked_sub(quantity)?;
                item.version += 1;
            }
            Movement::Restock => {
                item.on_hand += quantity;
                item.available += quantity;
                item.version += 1;
            }
        }
        Some(item)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use events::Quantity;
    use iso_currency::Currency;

    use super::*;

    pub(crate) fn usd(amount: i64) -> Money {
        Money { amount, currency: Currency::USD }
    }

    pub(crate) fn line(sku: &str, quantity: u64, price: i64) -> PricedItem {
        PricedItem {
            sku: Sku::parse(sku).unwrap(),
            quantity: Quantity::new(quantity).unwrap(),
            unit_price: usd(price),
        }
    }

    fn listing(name: &str, price: i64, on_hand: u64) -> Listing {
        Listing { name: Name::parse(name.to_owned()).unwrap(), unit_price: usd(price), on_hand }
    }

    pub(crate) fn given(sku: &str, price: i64, on_hand: u64) -> StockItem {
        StockItem::list(Sku::parse(sku).unwrap(), listing(sku, price, on_hand))
    }

    /// (on hand, reserved, available, version)
    fn counts(item: &StockItem) -> (u64, u64, u64, u64) {
        (item.on_hand, item.reserved, item.available, item.version)
    }

    #[test]
    fn buyers_see_of_the_counts_only_what_is_available() {
        let held = given("TEA-01", 450, 10).after(Movement::Reserve, &line("TEA-01", 4, 450)).unwrap();
        assert_eq!(
            serde_json::to_value(CatalogueItem::from(held)).unwrap(),
            serde_json::json!({
                "sku": "TEA-01", "name": "TEA-01", "unit_price": {"amount": 450, "currency": "USD"},
                "available": 6, "version": 1,
            })
        );
    }

    #[test]
    fn a_new_item_is_available_in_full() {
        assert_eq!(counts(&given("TEA-01", 450, 10)), (10, 0, 10, 1));
    }

    #[test]
    fn reserving_moves_from_available_to_reserved_and_keeps_the_version() {
        let item = given("TEA-01", 450, 10);
        let held = item.after(Movement::Reserve, &line("TEA-01", 4, 450)).unwrap();
        assert_eq!(counts(&held), (10, 4, 6, 1));
        assert_eq!(held.after(Movement::Release, &line("TEA-01", 4, 450)).unwrap(), item);
    }

    #[test]
    fn committing_takes_the_reserved_quantity_and_restocking_makes_it_available() {
        let held = given("TEA-01", 450, 10).after(Movement::Reserve, &line("TEA-01", 4, 450)).unwrap();
        let sold = held.after(Movement::Commit, &line("TEA-01", 4, 450)).unwrap();
        assert_eq!(counts(&sold), (6, 0, 6, 2));
        let back = sold.after(Movement::Restock, &line("TEA-01", 4, 450)).unwrap();
        assert_eq!(counts(&back), (10, 0, 10, 3));
    }

    #[test]
    fn more_than_there_is_cannot_move() {
        let item = given("TEA-01", 450, 3);
        assert!(item.after(Movement::Reserve, &line("TEA-01", 3, 450)).is_some());
        for movement in [Movement::Reserve, Movement::Release, Movement::Commit] {
            assert_eq!(item.after(movement, &line("TEA-01", 4, 450)), None, "{movement:?}");
        }
    }

    #[test]
    fn nothing_is_reserved_at_another_price() {
        let item = given("TEA-01", 450, 10);
        assert_eq!(item.after(Movement::Reserve, &line("TEA-01", 1, 400)), None);
    }

    #[test]
    fn an_edit_keeps_the_reserved_quantity() {
        let held = given("TEA-01", 450, 10).after(Movement::Reserve, &line("TEA-01", 4, 450)).unwrap();
        let edited = held.edit(listing("Green tea", 500, 4)).unwrap();
        let expected = StockItem {
            sku: Sku::parse("TEA-01").unwrap(),
            name: Name::parse("Green tea".to_owned()).unwrap(),
            unit_price: usd(500),
            on_hand: 4,
            reserved: 4,
            available: 0,
            version: 2,
        };
        assert_eq!(edited, expected);
    }

    #[test]
    fn an_edit_below_the_reserved_quantity_is_a_conflict() {
        let held = given("TEA-01", 450, 10).after(Movement::Reserve, &line("TEA-01", 4, 450)).unwrap();
        let problem = held.edit(listing("TEA-01", 450, 3)).unwrap_err();
        assert_eq!(problem.kind, Kind::Conflict);
        assert_eq!(problem.detail, "4 of this item are reserved for orders; on_hand cannot be less");
    }

    #[test]
    fn a_listing_is_read_or_every_mistake_is_reported() {
        let read = |body: &str| Listing::read(Fields::read(body.as_bytes()).unwrap());
        let good = r#"{"name": "Green tea", "unit_price": {"amount": 450, "currency": "USD"}, "on_hand": 0}"#;
        assert_eq!(read(good).unwrap(), listing("Green tea", 450, 0));

        let bad =
            r#"{"name": " ", "unit_price": {"amount": 0, "currency": "USD"}, "on_hand": -1, "sku": "x"}"#;
        let errors = read(bad).unwrap_err().errors;
        let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/name", "/unit_price/amount", "/on_hand", "/sku"]);
        for on_hand in ["1000000001", "1.5", "\"1\"", "null"] {
            let body = good.replace("\"on_hand\": 0", &format!("\"on_hand\": {on_hand}"));
            assert_eq!(read(&body).unwrap_err().errors[0].pointer, "/on_hand", "{on_hand}");
        }
        assert!(read(&good.replace("\"on_hand\": 0", "\"on_hand\": 1000000000")).is_ok());
    }
}
