//! Carries out the decisions of [`payment`], with the table and the provider.

use kernel::clock::Timestamp;
use runtime::{Error, serve::task::StepError};
use uuid::Uuid;

use crate::{
    payment::{
        self, Action, Command, IntentStatus, Payment, PaymentRecord, Prepared, ProviderRequest, Purchase,
        Status,
    },
    provider::Provider,
    store::Payments,
};

/// Maximum actions for one command. Four suffice without concurrent writes; each write that loses a race takes two more.
const STEPS: u32 = 16;

/// The payments and their provider.
pub struct Cashier {
    /// The payments.
    pub payments: Payments,
    /// The payment provider.
    pub provider: Provider,
}

impl Cashier {
    /// Connects to the table and to the provider.
    pub async fn connect() -> Result<Self, Error> {
        let payments = Payments::connect().await?;
        let provider = Provider::connect(payments.table()).await?;
        Ok(Self { payments, provider })
    }

    /// Carries out a command. Returns the record that is then stored.
    pub async fn carry_out(&self, order_id: Uuid, command: &Command) -> Result<PaymentRecord, StepError> {
        let mut record = self.payments.find(order_id).await?;
        let mut intent = None;
        for _ in 0..STEPS {
            match payment::next_action(command, &record, intent.as_ref()) {
                Action::Begin(purchase) => record = self.begin(purchase).await?,
                Action::Ask(request) => intent = Some(self.ask(request, &record).await?),
                Action::Write(payment) => {
                    record = self.payments.change(*payment, Timestamp::now()).await?;
                    intent = None;
                    log_decline(&record);
                }
                Action::WriteTombstone => {
                    record = self.payments.write_tombstone(order_id, Timestamp::now()).await?;
                }
                Action::Done => return Ok(record),
                Action::Refuse(refusal) => return Err(refusal.into()),
                Action::Fail(cause) => return Err(StepError::retryable(cause)),
            }
        }
        Err(StepError::retryable("the payment kept changing"))
    }

    async fn begin(&self, purchase: Purchase) -> Result<PaymentRecord, StepError> {
        let order_id = purchase.order_id;
        let prepared = self.provider.prepare(&purchase).await?;
        let payment = Payment::begin(purchase, self.provider.name(), prepared.clone(), Timestamp::now());
        let record = self.payments.begin(payment).await?;
        if let Prepared::Intent(reference) = prepared
            && !uses(&record, &reference)
        {
            self.provider.discard(order_id, &reference).await?;
        }
        log_decline(&record);
        Ok(record)
    }

    async fn ask(&self, request: ProviderRequest, record: &PaymentRecord) -> Result<IntentStatus, StepError> {
        let PaymentRecord::Payment(payment) = record else {
            return Err(StepError::retryable("there is no payment to ask about"));
        };
        Ok(self.provider.ask(request, payment).await?)
    }
}

/// Whether the record uses what was prepared under `reference`: a concurrent call may have been first.
fn uses(record: &PaymentRecord, reference: &str) -> bool {
    matches!(record, PaymentRecord::Payment(payment) if payment.provider_reference.as_deref() == Some(reference))
}

/// Logs the decline code, which the log line of a refusal does not have.
fn log_decline(record: &PaymentRecord) {
    if let PaymentRecord::Payment(payment @ Payment { status: Status::Declined, .. }) = record {
        let code = payment.decline_code.as_deref().unwrap_or_default();
        tracing::info!(order_id = %payment.order_id, code, "the provider declined");
    }
}
