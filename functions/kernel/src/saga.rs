//! Why the steps of the order saga refuse, with public names that never change, and the status of its executions.
//!
//! A step succeeds, refuses, or fails. A refusal is final: it is never retried, and its name decides how the state machine
//! goes on and which `reason` the order gets. Any other failure (a time-out, a throttled table, a crash) is retried.

/// The status of an execution of the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExecutionStatus {
    /// There is no execution with this name.
    NotFound,
    /// It is running, or will start.
    Running,
    /// It has succeeded.
    Succeeded,
    /// It failed, was stopped, or timed out.
    Failed,
}

/// A step's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The buyer has no profile, or it was deleted.
    UserNotFound,
    /// An item is not available in the ordered quantity.
    OutOfStock,
    /// An item does not exist.
    UnknownSku,
    /// The total is not the one that the buyer expected.
    PriceChanged,
    /// The items' prices have different currencies.
    MixedCurrencies,
    /// The total is larger than [`Money::LARGEST_TOTAL`](crate::money::Money::LARGEST_TOTAL).
    TotalTooLarge,
    /// The payment method was declined.
    Declined,
    /// The order is cancelled or is being compensated, so that a late step must not act.
    Cancelled,
    /// The order has been confirmed: it cannot be undone any more.
    AlreadyConfirmed,
    /// The order waits for an operator.
    NeedsAttention,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 10] = [
        Self::UserNotFound,
        Self::OutOfStock,
        Self::UnknownSku,
        Self::PriceChanged,
        Self::MixedCurrencies,
        Self::TotalTooLarge,
        Self::Declined,
        Self::Cancelled,
        Self::AlreadyConfirmed,
        Self::NeedsAttention,
    ];

    /// The public name, as in the state machine's `ErrorEquals`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNotFound => "User.NotFound",
            Self::OutOfStock => "Inventory.OutOfStock",
            Self::UnknownSku => "Inventory.UnknownSku",
            Self::PriceChanged => "Inventory.PriceChanged",
            Self::MixedCurrencies => "Inventory.MixedCurrencies",
            Self::TotalTooLarge => "Inventory.TotalTooLarge",
            Self::Declined => "Payment.Declined",
            Self::Cancelled => "Order.Cancelled",
            Self::AlreadyConfirmed => "Order.AlreadyConfirmed",
            Self::NeedsAttention => "Order.NeedsAttention",
        }
    }

    /// The refusal with this public name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_back_to_its_refusal_and_another_to_none() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_name(refusal.name()), Some(refusal));
        }
        assert_eq!(Refusal::from_name("States.Timeout"), None);
    }
}
