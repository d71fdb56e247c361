//! The reservation of an order: decided without I/O, from the records in the table.
//!
//! Each decision is idempotent, and correct in any order: "already done" is a result, and releasing a reservation that was never
//! made leaves a tombstone, so that a late reservation is refused.

use events::{InventoryEvent, Item, OrderItems, PricedItem};
use kernel::{
    clock::Timestamp,
    money::{Money, NoSum},
    saga::Refusal,
};
use runtime::table::aggregate::TOMBSTONE_LIFE;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::stock::{Movement, StockItem};

/// The items of an order: 1 to [`Basket::MAX`], each SKU once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "Vec<Item>")]
pub struct Basket(Vec<Item>);

impl Basket {
    /// Maximum number of items in an order. A transaction takes a hundred writes, one of which is the reservation's.
    pub const MAX: usize = OrderItems::MAX_ITEMS;

    /// The items.
    pub fn items(&self) -> &[Item] {
        &self.0
    }
}

impl TryFrom<Vec<Item>> for Basket {
    type Error = String;

    fn try_from(items: Vec<Item>) -> Result<Self, Self::Error> {
        let twice =
            items.iter().enumerate().any(|(index, item)| items[..index].iter().any(|it| it.sku == item.sku));
        if items.is_empty() || items.len() > Self::MAX {
            Err(format!("an order has 1 to {} items", Self::MAX))
        } else if twice {
            Err("an order has each SKU once".to_owned())
        } else {
            Ok(Self(items))
        }
    }
}

/// The part of an order that inventory needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct ReserveInput {
    /// The order's id.
    pub order_id: Uuid,
    /// The ordered items.
    pub items: Basket,
    /// The total that the buyer expects, if the order has one.
    pub expected_total: Option<Money>,
}

/// The reserved items, and their price.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// The items, at their prices when they were reserved.
    pub lines: Vec<PricedItem>,
    /// The total price.
    pub total: Money,
}

/// The status of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "UPPERCASE")]
pub enum Status {
    /// The items are reserved for the order.
    Held(Promise),
    /// The items have left the stock.
    Committed(Promise),
    /// Nothing is reserved, and nothing will be: a tombstone.
    Released {
        /// When DynamoDB may remove the item, in seconds since 1970 (time to live).
        expires_at: i64,
    },
}

/// The reservation of an order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reservation {
    /// The order.
    pub order_id: Uuid,
    /// 1 at first, increased by each change.
    pub version: u64,
    /// Its status.
    #[serde(flatten)]
    pub status: Status,
}

/// Items that are moved together, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    /// The movement.
    pub movement: Movement,
    /// The items.
    pub lines: Vec<PricedItem>,
}

/// The writes of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transition {
    /// The reservation after the transaction, which replaces the version before it.
    pub reservation: Reservation,
    /// The movement of stock; `None` if nothing was reserved before the release.
    pub moved: Option<Moved>,
}

/// Why an order's items cannot leave the stock. This cannot happen if the saga's steps run in order; an operator has to find
/// out what was done to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum NotHeld {
    /// They were never reserved.
    #[error("the order is confirmed, but nothing was ever reserved for it")]
    NeverReserved,
    /// The reservation was released.
    #[error("the order is confirmed, but its reservation has been released")]
    Released,
}

impl Reservation {
    /// Reserves an order's items. Returns the reserved items and, unless that was done before, what to write.
    ///
    /// `stock` has the ordered items that exist.
    pub fn reserve(
        existing: Option<&Self>,
        stock: &[StockItem],
        order: &ReserveInput,
    ) -> Result<(Promise, Option<Transition>), Refusal> {
        match existing.map(|reservation| &reservation.status) {
            Some(Status::Held(promise) | Status::Committed(promise)) => return Ok((promise.clone(), None)),
            Some(Status::Released { .. }) => return Err(Refusal::Cancelled),
            None => {}
        }
        let found: Vec<(&Item, &StockItem)> = order
            .items
            .items()
            .iter()
            .map(|item| Some((item, stock.iter().find(|stocked| stocked.sku == item.sku)?)))
            .collect::<Option<_>>()
            .ok_or(Refusal::UnknownSku)?;
        let prices = found.iter().map(|(item, stocked)| (stocked.unit_price, item.quantity.get()));
        let total = Money::total(prices).map_err(|no_sum| match no_sum {
            NoSum::MixedCurrencies => Refusal::MixedCurrencies,
            NoSum::TooLarge => Refusal::TotalTooLarge,
        })?;
        // A basket is never empty, so there is a total.
        let total = total.ok_or(Refusal::UnknownSku)?;
        if order.expected_total.is_some_and(|expected| expected != total) {
            return Err(Refusal::PriceChanged);
        }
        if found.iter().any(|(item, stocked)| stocked.available < u64::from(item.quantity.get())) {
            return Err(Refusal::OutOfStock);
        }

        let line = |(item, stocked): (&Item, &StockItem)| PricedItem {
            sku: item.sku.clone(),
            quantity: item.quantity,
            unit_price: stocked.unit_price,
        };
        let promise = Promise { lines: found.into_iter().map(line).collect(), total };
        let reservation =
            Self { order_id: order.order_id, version: 1, status: Status::Held(promise.clone()) };
        let moved = Moved { movement: Movement::Reserve, lines: promise.lines.clone() };
        Ok((promise, Some(Transition { reservation, moved: Some(moved) })))
    }

    /// Releases the reservation. Returns what to write, unless that was done before. Items that had left the stock return to it,
    /// and a reservation that was not made can never be made.
    pub fn release(existing: Option<&Self>, order_id: Uuid, now: Timestamp) -> Option<Transition> {
        let moved = match existing.map(|reservation| &reservation.status) {
            Some(Status::Held(Promise { lines, .. })) => Some((Movement::Release, lines)),
            Some(Status::Committed(Promise { lines, .. })) => Some((Movement::Restock, lines)),
            Some(Status::Released { .. }) => return None,
            None => None,
        };
        let reservation = Self {
            order_id,
            version: existing.map_or(1, |reservation| reservation.version + 1),
            status: Status::Released { expires_at: now.as_second() + TOMBSTONE_LIFE },
        };
        let moved = moved.map(|(movement, lines)| Moved { movement, lines: lines.clone() });
        Some(Transition { reservation, moved })
    }

    /// Takes the reserved items out of the stock. Returns what to write, unless that was done before.
    pub fn commit(existing: Option<&Self>) -> Result<Option<Transition>, NotHeld> {
        let existing = existing.ok_or(NotHeld::NeverReserved)?;
        match &existing.status {
            Status::Held(promise) => {
                let reservation = Self {
                    order_id: existing.order_id,
                    version: existing.version + 1,
                    status: Status::Committed(promise.clone()),
                };
                let moved = Moved { movement: Movement::Commit, lines: promise.lines.clone() };
                Ok(Some(Transition { reservation, moved: Some(moved) }))
            }
            Status::Committed(_) => Ok(None),
            Status::Released { .. } => Err(NotHeld::Released),
        }
    }
}

impl Transition {
    /// The event to publish: `None` if nothing moves.
    pub fn event(&self) -> Option<InventoryEvent> {
        let Moved { movement, lines } = self.moved.as_ref()?;
        let item = |line: &PricedItem| Item { sku: line.sku.clone(), quantity: line.quantity };
        let items =
            OrderItems { order_id: self.reservation.order_id, items: lines.iter().map(item).collect() };
        Some(match movement {
            Movement::Reserve => InventoryEvent::Reserved(items),
            Movement::Release | Movement::Restock => InventoryEvent::Released(items),
            Movement::Commit => InventoryEvent::Committed(items),
        })
    }

    /// The effect of the transaction under its conditions: the stock afterwards if `existing` is the reservation before this one
    /// and every item can be moved, `None` otherwise.
    pub fn apply(&self, existing: Option<&Reservation>, stock: &[StockItem]) -> Option<Vec<StockItem>> {
        if existing.map_or(0, |existing| existing.version) + 1 != self.reservation.version {
            return None;
        }
        let mut stock = stock.to_vec();
        for line in self.moved.iter().flat_map(|moved| &moved.lines) {
            let item = stock.iter_mut().find(|item| item.sku == line.sku)?;
            *item = item.after(self.moved.as_ref()?.movement, line)?;
        }
        Some(stock)
    }
}

#[cfg(test)]
mod tests {
    use events::{Quantity, Sku};
    use iso_currency::Currency;

    use super::*;
    use crate::stock::tests::{given, line, usd};

    const ORDER: Uuid = Uuid::from_u128(1);
    const NOW: i64 = 1_700_000_000;

    fn now() -> Timestamp {
        Timestamp::from_microsecond(NOW * 1_000_000)
    }

    fn item(sku: &str, quantity: u64) -> Item {
        Item { sku: Sku::parse(sku).unwrap(), quantity: Quantity::new(quantity).unwrap() }
    }

    fn order_of(items: &[(&str, u64)]) -> ReserveInput {
        let items: Vec<Item> = items.iter().map(|(sku, quantity)| item(sku, *quantity)).collect();
        ReserveInput { order_id: ORDER, items: items.try_into().unwrap(), expected_total: None }
    }

    /// Two of the tea and one cup, which cost 450 and 1200.
    fn order() -> ReserveInput {
        order_of(&[("TEA", 2), ("CUP", 1)])
    }

    fn stock() -> Vec<StockItem> {
        vec![given("CUP", 1200, 1), given("TEA", 450, 10)]
    }

    fn promise() -> Promise {
        Promise { lines: vec![line("TEA", 2, 450), line("CUP", 1, 1200)], total: usd(2100) }
    }

    fn items() -> OrderItems {
        OrderItems { order_id: ORDER, items: vec![item("TEA", 2), item("CUP", 1)] }
    }

    fn reservation(version: u64, status: Status) -> Reservation {
        Reservation { order_id: ORDER, version, status }
    }

    fn held() -> Reservation {
        reservation(1, Status::Held(promise()))
    }

    fn committed() -> Reservation {
        reservation(2, Status::Committed(promise()))
    }

    fn released(version: u64) -> Reservation {
        reservation(version, Status::Released { expires_at: NOW + TOMBSTONE_LIFE })
    }

    /// What is written, the event, and the counts of the tea: (on hand, reserved, available).
    fn outcome(
        transition: &Transition,
        existing: Option<&Reservation>,
        stock: &[StockItem],
    ) -> (Reservation, Option<InventoryEvent>, (u64, u64, u64)) {
        let stock = transition.apply(existing, stock).unwrap();
        let tea = (stock[1].on_hand, stock[1].reserved, stock[1].available);
        (transition.reservation.clone(), transition.event(), tea)
    }

    fn stock_after_reserving() -> Vec<StockItem> {
        let (_, transition) = Reservation::reserve(None, &stock(), &order()).unwrap();
        transition.unwrap().apply(None, &stock()).unwrap()
    }

    fn stock_after_committing() -> Vec<StockItem> {
        let transition = Reservation::commit(Some(&held())).unwrap().unwrap();
        transition.apply(Some(&held()), &stock_after_reserving()).unwrap()
    }

    #[test]
    fn reserving_returns_the_items_at_the_prices_in_stock() {
        let (promised, transition) = Reservation::reserve(None, &stock(), &order()).unwrap();
        assert_eq!(promised, promise());
        let event = InventoryEvent::Reserved(items());
        assert_eq!(outcome(&transition.unwrap(), None, &stock()), (held(), Some(event), (10, 2, 8)));
    }

    #[test]
    fn reserving_again_returns_the_same_promise_even_if_prices_have_changed() {
        for existing in [held(), committed()] {
            let dearer = vec![given("CUP", 9900, 0)];
            assert_eq!(
                Reservation::reserve(Some(&existing), &dearer, &order()),
                Ok((promise(), None)),
                "{existing:?}"
            );
        }
    }

    #[test]
    fn reserving_after_a_release_is_refused() {
        for version in [1, 2] {
            let result = Reservation::reserve(Some(&released(version)), &stock(), &order());
            assert_eq!(result, Err(Refusal::Cancelled));
        }
    }

    #[test]
    fn an_item_that_is_not_listed_is_an_unknown_sku() {
        let order = order_of(&[("TEA", 1), ("SCONE", 1)]);
        assert_eq!(Reservation::reserve(None, &stock(), &order), Err(Refusal::UnknownSku));
    }

    #[test]
    fn the_last_item_is_reserved_and_one_more_is_out_of_stock() {
        assert!(Reservation::reserve(None, &stock(), &order_of(&[("CUP", 1)])).is_ok());
        let order = order_of(&[("TEA", 1), ("CUP", 2)]);
        assert_eq!(Reservation::reserve(None, &stock(), &order), Err(Refusal::OutOfStock));
    }

    #[test]
    fn an_unexpected_amount_or_currency_is_refused() {
        let won = Money { amount: 2100, currency: Currency::KRW };
        for (expected, refused) in [(usd(2100), false), (usd(2099), true), (usd(2101), true), (won, true)] {
            let order = ReserveInput { expected_total: Some(expected), ..order() };
            let result = Reservation::reserve(None, &stock(), &order);
            assert_eq!(result == Err(Refusal::PriceChanged), refused, "{expected:?}");
        }
    }

    #[test]
    fn mixed_currencies_and_too_large_a_total_are_refused() {
        let mut foreign = stock();
        foreign[0].unit_price.currency = Currency::KRW;
        assert_eq!(Reservation::reserve(None, &foreign, &order()), Err(Refusal::MixedCurrencies));
        let mut dear = stock();
        dear[1].unit_price = usd(i64::MAX);
        assert_eq!(Reservation::reserve(None, &dear, &order()), Err(Refusal::TotalTooLarge));
    }

    #[test]
    fn an_unknown_sku_comes_before_a_changed_price_and_that_before_missing_stock() {
        let expected_total = Some(usd(1));
        let all_wrong = ReserveInput { expected_total, ..order_of(&[("CUP", 2), ("SCONE", 1)]) };
        assert_eq!(Reservation::reserve(None, &stock(), &all_wrong), Err(Refusal::UnknownSku));
        let price_and_stock = ReserveInput { expected_total, ..order_of(&[("CUP", 2)]) };
        assert_eq!(Reservation::reserve(None, &stock(), &price_and_stock), Err(Refusal::PriceChanged));
    }

    #[test]
    fn a_reservation_loses_to_another_that_took_the_last_item() {
        let (_, transition) = Reservation::reserve(None, &stock(), &order()).unwrap();
        assert_eq!(transition.unwrap().apply(None, &stock_after_reserving()), None);
    }

    #[test]
    fn a_reservation_loses_to_a_new_price_and_to_a_tombstone() {
        let transition = Reservation::reserve(None, &stock(), &order()).unwrap().1.unwrap();
        let mut dearer = stock();
        dearer[1].unit_price = usd(451);
        assert_eq!(transition.apply(None, &dearer), None);
        assert_eq!(transition.apply(Some(&released(1)), &stock()), None);
    }

    #[test]
    fn releasing_makes_the_items_available() {
        let transition = Reservation::release(Some(&held()), ORDER, now()).unwrap();
        let event = InventoryEvent::Released(items());
        assert_eq!(
            outcome(&transition, Some(&held()), &stock_after_reserving()),
            (released(2), Some(event), (10, 0, 10))
        );
    }

    #[test]
    fn releasing_without_a_reservation_leaves_a_tombstone_and_publishes_nothing() {
        let transition = Reservation::release(None, ORDER, now()).unwrap();
        assert_eq!(outcome(&transition, None, &stock()), (released(1), None, (10, 0, 10)));
    }

    #[test]
    fn releasing_committed_items_restocks_them() {
        let transition = Reservation::release(Some(&committed()), ORDER, now()).unwrap();
        let event = InventoryEvent::Released(items());
        assert_eq!(
            outcome(&transition, Some(&committed()), &stock_after_committing()),
            (released(3), Some(event), (10, 0, 10))
        );
    }

    #[test]
    fn releasing_again_changes_nothing() {
        assert_eq!(Reservation::release(Some(&released(2)), ORDER, now()), None);
    }

    #[test]
    fn committing_takes_the_reserved_items_out_of_the_stock() {
        let transition = Reservation::commit(Some(&held())).unwrap().unwrap();
        let event = InventoryEvent::Committed(items());
        assert_eq!(
            outcome(&transition, Some(&held()), &stock_after_reserving()),
            (committed(), Some(event), (8, 0, 8))
        );
    }

    #[test]
    fn committing_again_changes_nothing() {
        assert_eq!(Reservation::commit(Some(&committed())), Ok(None));
    }

    #[test]
    fn committing_without_a_held_reservation_fails() {
        assert_eq!(Reservation::commit(None), Err(NotHeld::NeverReserved));
        assert_eq!(Reservation::commit(Some(&released(2))), Err(NotHeld::Released));
    }

    #[test]
    fn the_second_of_two_changes_of_one_version_loses() {
        let commit = Reservation::commit(Some(&held())).unwrap().unwrap();
        let release = Reservation::release(Some(&held()), ORDER, now()).unwrap();
        assert_eq!(release.apply(Some(&commit.reservation), &stock_after_committing()), None);
        let free = release.apply(Some(&held()), &stock_after_reserving()).unwrap();
        assert_eq!(commit.apply(Some(&release.reservation), &free), None);
    }

    #[test]
    fn a_basket_has_one_to_fifty_items_and_each_sku_once() {
        let many = |count: usize| (0..count).map(|n| item(&format!("SKU-{n}"), 1)).collect::<Vec<_>>();
        assert!(Basket::try_from(many(1)).is_ok());
        assert!(Basket::try_from(many(50)).is_ok());
        for bad in [many(0), many(51), vec![item("TEA", 1), item("TEA", 2)]] {
            assert!(Basket::try_from(bad).is_err());
        }
    }

    #[test]
    fn a_reservation_reads_back_as_it_was_written() {
        for reservation in [held(), committed(), released(2)] {
            let json = serde_json::to_value(&reservation).unwrap();
            assert_eq!(serde_json::from_value::<Reservation>(json).unwrap(), reservation);
        }
        let json = serde_json::json!({
            "order_id": ORDER, "version": 1, "state": "RELEASED", "expires_at": NOW + TOMBSTONE_LIFE,
        });
        assert_eq!(serde_json::to_value(released(1)).unwrap(), json);
    }
}
