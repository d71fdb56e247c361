//! The metrics of orders.
//!
//! Orders are counted after their write has succeeded. If the process dies in between, or the table's response is lost, an order
//! is not counted, but none is counted twice. An order that the reconciler parks is counted before the write, one that a step
//! parks after it and at every retry, because an alarm too many is better than one too few.

use runtime::telemetry::metrics::{Count, Time};

/// Orders that were accepted.
pub const ORDERS_PLACED: Count = Count::new("OrdersPlaced");
/// Orders that were confirmed.
pub const ORDERS_CONFIRMED: Count = Count::new("OrdersConfirmed");
/// Orders that were rejected, by reason (`payment_declined`).
pub const ORDERS_REJECTED: Count = Count::by("OrdersRejected", "reason");
/// Orders that their buyers cancelled.
pub const ORDERS_CANCELLED: Count = Count::new("OrdersCancelled");
/// Orders that were left to an operator.
pub const ORDERS_PARKED: Count = Count::new("OrdersParked");
/// From placing an order to its confirmation, cancellation, or rejection with all compensations. What follows a confirmation
/// or cancellation, capturing or refunding the money, is not included, although the order is settled only after that. Alarms
/// and dashboards use the metric's name, so it stays.
pub const DECISION_TIME: Time = Time::new("SettlingTime");
