//! Stock items and reservations in the table.

use events::{InventoryEvent, Item, PricedItem, Sku};
use kernel::{
    clock::Timestamp,
    event::CloudEvent,
    page::PageRequest,
    problem::{Kind, Problem},
};
use runtime::{
    Error,
    table::{
        self, Condition, Found, Key, List, Table, Transacted, Update, Updated, Write, Written, aggregate,
    },
};
use serde::Serialize;
use thiserror::Error as ThisError;
use uuid::Uuid;

use crate::{
    reservation::{Reservation, Transition},
    stock::{Listing, Movement, StockItem},
};

/// The one partition of the index of all stock items. The index has only keys, so a reservation does not write to it.
const CATALOGUE: &str = "all";

/// A stock item as it is stored.
#[derive(Serialize)]
struct StockRecord<'a> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    item: &'a StockItem,
    /// The partition of the index `catalogue`.
    catalogue: &'static str,
}

/// A reservation as it is stored.
#[derive(Serialize)]
struct ReservationRecord<'a> {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    reservation: &'a Reservation,
    outbox: Option<CloudEvent<InventoryEvent>>,
}

/// The result of a transition.
#[derive(Debug, PartialEq, Eq)]
pub enum TransitionResult {
    /// It was written.
    Done,
    /// Something changed after the decision, so nothing was written.
    Conflict(Conflict),
}

/// What changed after the decision.
#[derive(Debug, PartialEq, Eq, ThisError)]
#[error("changed at the same time, or not enough in stock: {}", .0.join(", "))]
pub struct Conflict(Vec<String>);

/// The stock and its reservations.
#[derive(Clone, Debug)]
pub struct Inventory {
    table: Table,
}

fn stock_key(sku: &Sku) -> Key {
    Key::new(format!("sku#{sku}"), "item")
}

fn reservation_key(order: Uuid) -> Key {
    Key::new(format!("order#{order}"), "reservation")
}

/// [`StockItem::after`] as DynamoDB expressions: a movement's update, and its condition.
const fn expressions(movement: Movement) -> (&'static str, &'static str) {
    match movement {
        Movement::Reserve => (
            "SET #reserved = #reserved + :quantity, #available = #available - :quantity",
            "#available >= :quantity AND #unit_price = :unit_price",
        ),
        Movement::Release => (
            "SET #reserved = #reserved - :quantity, #available = #available + :quantity",
            "#reserved >= :quantity",
        ),
        Movement::Commit => (
            "SET #on_hand = #on_hand - :quantity, #reserved = #reserved - :quantity, \
             #version = #version + :one",
            "#on_hand >= :quantity AND #reserved >= :quantity",
        ),
        Movement::Restock => (
            "SET #on_hand = #on_hand + :quantity, #available = #available + :quantity, \
             #version = #version + :one",
            "attribute_exists(#pk)",
        ),
    }
}

impl Inventory {
    /// Connects to the table.
    pub async fn connect() -> Result<Self, Error> {
        Ok(Self { table: Table::connect().await? })
    }

    /// The stock item; 404 if there is none.
    pub async fn find(&self, sku: &Sku) -> Result<StockItem, Problem> {
        self.table.get(stock_key(sku)).await?.ok_or_else(|| Problem::not_found("stock item"))
    }

    /// A page of all stock items by SKU.
    pub async fn list(&self, page: &PageRequest) -> Result<Found<StockItem>, table::Error> {
        let partition = ("catalogue", CATALOGUE.to_owned());
        let list = List { index: "catalogue", partition, sort: "sku", newest_first: false };
        self.table.page_of_items(&list, page.after(), page.limit()).await
    }

    /// Lists a new item; 412 if it is listed already.
    pub async fn create(&self, item: &StockItem) -> Result<(), Problem> {
        let record = StockRecord { key: stock_key(&item.sku), item, catalogue: CATALOGUE };
        match self.table.put::<StockItem>(&record, Condition::absent()).await? {
            Written::Done => Ok(()),
            Written::ConditionFailed(_) => Err(Problem::new(
                Kind::StaleVersion,
                "it is listed already; to change it, send If-Match with the ETag of your last GET",
            )),
        }
    }

    /// Changes version `version_read` of an item, even if it was reserved in the meantime, and returns the item afterwards.
    /// `None` if it no longer has that version; 409 if more is reserved than would be on hand.
    pub async fn edit(
        &self,
        sku: &Sku,
        version_read: u64,
        listing: Listing,
    ) -> Result<Option<StockItem>, Problem> {
        let update = Update::new(
            "SET #name = :name, #unit_price = :unit_price, #on_hand = :on_hand, \
             #available = :on_hand - #reserved, #version = :version",
        )
        .object("name", &listing.name)?
        .object("unit_price", &listing.unit_price)?
        .value("on_hand", listing.on_hand)
        .value("version", version_read + 1);
        let condition = Condition::new("#version = :version_read AND #reserved <= :on_hand")
            .value("version_read", version_read)
            .value("on_hand", listing.on_hand);
        match self.table.update::<StockItem>(stock_key(sku), update, condition).await? {
            Updated::Done(item) => Ok(Some(item)),
            Updated::ConditionFailed(Some(current)) if current.version == version_read => {
                Err(current.edit(listing).err().unwrap_or_else(Problem::concurrent_change))
            }
            Updated::ConditionFailed(_) => Ok(None),
        }
    }

    /// The reservation of an order, if there is one, and the stock items that it asks for, in one read.
    pub async fn reservation_and_stock(
        &self,
        order: Uuid,
        wanted: &[Item],
    ) -> Result<(Option<Reservation>, Vec<StockItem>), table::Error> {
        let reservation = reservation_key(order);
        let stock: Vec<Key> = wanted.iter().map(|item| stock_key(&item.sku)).collect();
        let keys: Vec<Key> = std::iter::once(&reservation).chain(&stock).cloned().collect();
        let mut items = self.table.batch_get(&keys).await?;
        let mut found = Vec::with_capacity(stock.len());
        for key in &stock {
            found.extend(items.take(key)?);
        }
        Ok((items.take(&reservation)?, found))
    }

    /// The reservation of an order, if there is one.
    pub async fn reservation(&self, order: Uuid) -> Result<Option<Reservation>, table::Error> {
        self.table.get(reservation_key(order)).await
    }

    /// Writes a transition: the reservation, its event and every moved item, or nothing.
    pub async fn write(
        &self,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<TransitionResult, table::Error> {
        let Transition { reservation, moved } = transition;
        let Reservation { order_id, version, .. } = *reservation;
        let outbox = transition
            .event()
            .map(|event| aggregate::in_trace(CloudEvent::new(order_id, version, now, event)));
        let record = ReservationRecord { key: reservation_key(order_id), reservation, outbox };
        let unchanged = if version == 1 { Condition::absent() } else { Condition::version(version - 1) };
        let mut writes = vec![self.table.transact_put(&record, unchanged)?];
        let mut names = vec!["the reservation".to_owned()];
        if let Some(moved) = moved {
            for line in &moved.lines {
                writes.push(self.movement_write(moved.movement, line)?);
                names.push(format!("SKU {}", line.sku));
            }
        }
        Ok(match self.table.transact(writes).await? {
            Transacted::Done => TransitionResult::Done,
            Transacted::ConditionsFailed(indexes) => TransitionResult::Conflict(Conflict(
                indexes.into_iter().filter_map(|index| names.get(index).cloned()).collect(),
            )),
        })
    }

    /// The movement of one stock item, as part of a transaction.
    fn movement_write(&self, movement: Movement, line: &PricedItem) -> Result<Write, table::Error> {
        let (update, condition) = expressions(movement);
        let quantity = u64::from(line.quantity.get());
        let update = Update::new(update).value("quantity", quantity);
        let condition = Condition::new(condition);
        let (update, condition) = match movement {
            Movement::Reserve => {
                (update, condition.value("quantity", quantity).object("unit_price", &line.unit_price)?)
            }
            Movement::Release => (update, condition.value("quantity", quantity)),
            Movement::Commit => (update.value("one", 1_u64), condition.value("quantity", quantity)),
            Movement::Restock => (update.value("one", 1_u64), condition),
        };
        self.table.transact_update(stock_key(&line.sku), update, condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stock::tests::{given, line};

    /// An item after DynamoDB has applied the expressions of a movement; `None` if the condition fails.
    fn interpreted(item: &StockItem, movement: Movement, line: &PricedItem) -> Option<StockItem> {
        let quantity = u64::from(line.quantity.get());
        let (update, condition) = expressions(movement);
        let before = item.clone();
        let count = |name: &str| match name {
            "#on_hand" => before.on_hand,
            "#reserved" => before.reserved,
            "#available" => before.available,
            "#version" => before.version,
            ":quantity" => quantity,
            ":one" => 1,
            other => panic!("{other} is not a number of a stock item"),
        };
        let holds = |comparison: &str| match *comparison.split(' ').collect::<Vec<_>>() {
            ["#unit_price", "=", ":unit_price"] => before.unit_price == line.unit_price,
            ["attribute_exists(#pk)"] => true,
            [left, ">=", right] => count(left) >= count(right),
            _ => panic!("{comparison} is not a condition of a movement"),
        };
        if !condition.split(" AND ").all(holds) {
            return None;
        }
        let mut after = before.clone();
        for assignment in update.strip_prefix("SET ").unwrap().split(", ") {
            let [target, "=", left, sign, right] = *assignment.split(' ').collect::<Vec<_>>() else {
                panic!("{assignment} is not a change of a movement");
            };
            let result = match sign {
                "+" => count(left) + count(right),
                // DynamoDB would store a negative number, which the conditions must prevent.
                _ => count(left).checked_sub(count(right)).unwrap(),
            };
            *match target {
                "#on_hand" => &mut after.on_hand,
                "#reserved" => &mut after.reserved,
                "#available" => &mut after.available,
                "#version" => &mut after.version,
                other => panic!("{other} is not a number of a stock item"),
            } = result;
        }
        Some(after)
    }

    #[test]
    fn the_expressions_change_an_item_like_the_movements() {
        for movement in Movement::ALL {
            for on_hand in 0..=4 {
                for reserved in 0..=on_hand {
                    let item =
                        StockItem { reserved, available: on_hand - reserved, ..given("TEA", 450, on_hand) };
                    for line in [line("TEA", 1, 450), line("TEA", 3, 450), line("TEA", 1, 500)] {
                        let after = item.after(movement, &line);
                        assert_eq!(
                            interpreted(&item, movement, &line),
                            after,
                            "{movement:?} {line:?} {item:?}"
                        );
                        if let Some(after) = after {
                            assert_eq!(after.available, after.on_hand - after.reserved);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_conflict_names_what_has_changed() {
        let conflict = Conflict(vec!["the reservation".to_owned(), "SKU TEA".to_owned()]);
        assert_eq!(
            conflict.to_string(),
            "changed at the same time, or not enough in stock: the reservation, SKU TEA"
        );
    }
}
