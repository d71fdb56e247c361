//! What the steps of the order saga refuse, by public names that never change.
//!
//! A step answers, refuses, or fails. A refusal is final: it is never tried again, and the state machine
//! and the order's `reason` go by its name. Everything else (a time-out, a throttled table, a crash) may go
//! well at the next attempt.

/// A step's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The buyer has no profile, or no longer.
    UserNotFound,
    /// There is not enough of something.
    OutOfStock,
    /// There is no such thing.
    UnknownSku,
    /// The total is not the one that the buyer expected.
    PriceChanged,
    /// The things' prices are of several currencies.
    MixedCurrencies,
    /// The total is larger than amounts can be.
    TotalTooLarge,
    /// The card, or the bank behind it, says no.
    Declined,
    /// The order has been cancelled or is being undone: a step that comes late finds it so.
    Cancelled,
    /// The order has been confirmed: it cannot be undone any more.
    AlreadyConfirmed,
    /// The order waits for a person.
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
