//! The metrics of orders.
//!
//! Orders are counted after the answer to the write: if the process dies then, or the answer is lost, one is missing, but none is
//! counted twice. Parked orders are counted before the write, at every attempt, because an alarm too many is better than one too
//! few.

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
/// or cancellation, capturing or refunding the money, is not included.
pub const SETTLING_TIME: Time = Time::new("SettlingTime");
