//! The payment provider: the built-in sandbox, or Stripe.

use runtime::{environment, table::Table};
use uuid::Uuid;

use crate::{
    error::ProviderError,
    payment::{IntentStatus, Payment, Prepared, ProviderName, ProviderRequest, Purchase},
    sandbox::Sandbox,
    stripe::Stripe,
};

/// The provider that the function's environment chooses.
pub enum Provider {
    /// The built-in sandbox.
    Sandbox(Sandbox),
    /// Stripe.
    Stripe(Stripe),
}

impl Provider {
    /// Connects to the provider that the environment variable `PAYMENT_PROVIDER` names: `sandbox` or `stripe`. The other one
    /// is not connected.
    pub async fn connect(table: &Table) -> Result<Self, runtime::Error> {
        match environment::required("PAYMENT_PROVIDER")?.as_str() {
            "sandbox" => Ok(Self::Sandbox(Sandbox::new(table.clone()))),
            "stripe" => Ok(Self::Stripe(Stripe::connect().await?)),
            other => Err(format!("PAYMENT_PROVIDER must be sandbox or stripe, not {other}").into()),
        }
    }

    /// Its name, as it is stored in payments.
    pub fn name(&self) -> ProviderName {
        match self {
            Self::Sandbox(_) => ProviderName::Sandbox,
            Self::Stripe(_) => ProviderName::Stripe,
        }
    }

    /// The secret that its webhooks are signed with; `None` if it sends none.
    pub fn webhook_secret(&self) -> Option<&str> {
        match self {
            Self::Sandbox(_) => None,
            Self::Stripe(stripe) => Some(stripe.webhook_secret()),
        }
    }

    /// Prepares a payment, which holds no money yet. A repeat for the same order returns the same reference.
    pub async fn prepare(&self, purchase: &Purchase) -> Result<Prepared, ProviderError> {
        match self {
            Self::Sandbox(sandbox) => Ok(sandbox.prepare(purchase)),
            Self::Stripe(stripe) => stripe.prepare(purchase).await,
        }
    }

    /// Cancels what was prepared if the record does not use it: the order was cancelled, or another call was first.
    pub async fn discard(&self, order_id: Uuid, reference: &str) -> Result<(), ProviderError> {
        match self {
            // It keeps nothing before money is held.
            Self::Sandbox(_) => Ok(()),
            Self::Stripe(stripe) => stripe.cancel(order_id, reference).await.map(drop),
        }
    }

    /// Carries out a request and returns the status of the payment afterwards. Requests are idempotent: one that was carried out
    /// before changes nothing.
    pub async fn ask(
        &self,
        request: ProviderRequest,
        payment: &Payment,
    ) -> Result<IntentStatus, ProviderError> {
        if payment.provider != self.name() {
            let cause = format!("the payment is with {:?}, not {:?}", payment.provider, self.name());
            return Err(ProviderError::Broken(cause.into()));
        }
        let Some(reference) = payment.provider_reference.as_deref() else {
            return Err(ProviderError::Broken("the payment has no reference".into()));
        };
        match self {
            Self::Sandbox(sandbox) => sandbox.ask(request, payment).await,
            Self::Stripe(stripe) => stripe.ask(request, payment.order_id, reference).await,
        }
    }
}
