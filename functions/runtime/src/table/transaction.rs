//! Transactions: several writes, all of them or none.

use aws_sdk_dynamodb::{
    operation::transact_write_items::TransactWriteItemsError,
    types::{Put, TransactWriteItem, Update as UpdateItem},
};
use serde::Serialize;

use super::{Condition, Error, Key, Table, Update, classify, non_empty, to_item};

/// DynamoDB's reason for a write whose condition did not hold.
const CONDITION_FAILED: &str = "ConditionalCheckFailed";

/// One write of a transaction.
#[derive(Debug)]
pub struct Write(TransactWriteItem);

/// The result of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Transacted {
    /// Everything was written.
    Done,
    /// Nothing was written: the conditions of the writes with these indices did not hold.
    ConditionsFailed(Vec<usize>),
}

impl Table {
    /// A write of a whole item if the condition holds, as part of a transaction.
    pub fn transact_put(&self, item: &impl Serialize, condition: Condition) -> Result<Write, Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .set_item(Some(to_item(item)?))
            .set_expression_attribute_names(Some(condition.names().collect()))
            .set_expression_attribute_values(non_empty(condition.values.into_iter().collect()))
            .condition_expression(condition.expression)
            .build()
            .map_err(|error| Error::Broken(error.into()))?;
        Ok(Write(TransactWriteItem::builder().put(put).build()))
    }

    /// An update of an item if the condition holds, as part of a transaction.
    pub fn transact_update(&self, key: Key, update: Update, condition: Condition) -> Result<Write, Error> {
        let (expression, names, values) = update.into_parts(&condition);
        let update = UpdateItem::builder()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .update_expression(expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(non_empty(values))
            .condition_expression(condition.expression)
            .build()
            .map_err(|error| Error::Broken(error.into()))?;
        Ok(Write(TransactWriteItem::builder().update(update).build()))
    }

    /// Writes up to a hundred items in one transaction: all of them or none.
    pub async fn transact(&self, writes: Vec<Write>) -> Result<Transacted, Error> {
        let writes = writes.into_iter().map(|write| write.0).collect();
        let result = self.client.transact_write_items().set_transact_items(Some(writes)).send().await;
        let Err(error) = result else { return Ok(Transacted::Done) };
        let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error()
        else {
            return Err(classify(error));
        };
        let codes: Vec<&str> =
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default()).collect();
        let failed_conditions: Vec<usize> =
            (0..codes.len()).filter(|i| codes[*i] == CONDITION_FAILED).collect();
        if !failed_conditions.is_empty() {
            Ok(Transacted::ConditionsFailed(failed_conditions))
        } else if codes.contains(&"ValidationError") {
            Err(Error::Broken(error.into()))
        } else {
            // It conflicts with another transaction, or the table throttles.
            Err(Error::Unavailable(error.into()))
        }
    }
}
