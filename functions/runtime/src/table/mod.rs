//! Reads and writes a service's DynamoDB table.
//!
//! One table per service, keys `pk` and `sk`, items as `serde` types. A failed condition is an answer, not an error, and so is a write
//! that took effect although its answer was lost. Reads of the table are strongly consistent; reads of a global index cannot be.
//!
//! | module | what it does |
//! |---|---|
//! | this one | reads and writes single items, and batches of keys |
//! | `expression` | condition and update expressions with their values |
//! | `query` | lists, page by page |
//! | `transaction` | several writes, all of them or none |
//! | `own_writes` | recognises a write that took effect although its answer was lost |
//! | [`aggregate`] | an aggregate and the event of its latest change in one item; tombstones |
//! | [`creation`] | creates an aggregate once per idempotency key |
//! | [`limits`] | limits of what one person may create within an hour |
//! | [`copies`] | a service's own copy of data that another service publishes |

pub mod aggregate;
pub mod copies;
pub mod creation;
mod expression;
pub mod limits;
mod own_writes;
mod query;
mod transaction;

use std::{collections::HashMap, error, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        put_item::PutItemError,
        update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    },
    types::{
        AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure as OnFailure,
    },
};
use kernel::problem::Problem;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use self::own_writes::{Judgement, OwnWrite};
pub use self::{
    expression::{Condition, Scalar, Update},
    query::{Found, IndexEntry, List},
    transaction::{Transacted, Write},
};
use crate::{
    aws,
    deadline::TimedOut,
    environment,
    error::{Unreadable, read_item},
    retry::Retries,
};

type Item = HashMap<String, AttributeValue>;

/// Maximum keys of one `BatchGetItem`.
const BATCH_SIZE: usize = 100;
/// Maximum retries of an update that conflicts with a transaction, and of a batch read that left keys unprocessed.
const RETRIES: usize = 4;
/// Maximum pause before the first of them; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Why a table could not be read or written.
#[derive(Debug, Error)]
pub enum Error {
    /// DynamoDB throttles or does not answer: a retry may succeed.
    #[error("the table is not available")]
    Unavailable(#[source] Box<dyn error::Error + Send + Sync>),
    /// A retry cannot succeed: a missing permission, or an item that does not fit its type.
    #[error("the table cannot be used")]
    Broken(#[source] Box<dyn error::Error + Send + Sync>),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) => Self::unavailable(error),
            Error::Broken(_) => Self::internal(error),
        }
    }
}

impl From<Unreadable> for Error {
    fn from(error: Unreadable) -> Self {
        Self::Broken(error.into())
    }
}

impl From<TimedOut> for Error {
    fn from(error: TimedOut) -> Self {
        Self::Unavailable(error.into())
    }
}

/// The SDK's error, classified by whether a retry may succeed.
fn classify<E>(error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + error::Error + Send + Sync + 'static,
{
    let temporary = match &error {
        SdkError::ServiceError(service) => {
            service.raw().status().is_server_error()
                || matches!(
                    service.err().code(),
                    Some(
                        "ProvisionedThroughputExceededException"
                            | "ThrottlingException"
                            | "RequestLimitExceeded"
                            | "LimitExceededException"
                            | "TransactionConflictException"
                            | "TransactionInProgressException"
                    )
                )
        }
        SdkError::ConstructionFailure(_) => false,
        _ => true,
    };
    if temporary { Error::Unavailable(error.into()) } else { Error::Broken(error.into()) }
}

/// The primary key of an item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
pub struct Key {
    /// The partition key.
    pub pk: String,
    /// The sort key.
    pub sk: String,
}

impl Key {
    /// The key with these two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }

    fn into_item(self) -> Item {
        HashMap::from([
            ("pk".to_owned(), AttributeValue::S(self.pk)),
            ("sk".to_owned(), AttributeValue::S(self.sk)),
        ])
    }
}

/// The result of a conditional write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written<T> {
    /// It was written.
    Done,
    /// The condition did not hold; this is the present item, if there is one.
    ConditionFailed(Option<T>),
}

impl<T> Written<T> {
    /// Turns a failed condition into an error of the caller's choice.
    pub fn done_or<E>(self, condition_failed: impl FnOnce() -> E) -> Result<(), E> {
        match self {
            Self::Done => Ok(()),
            Self::ConditionFailed(_) => Err(condition_failed()),
        }
    }

    /// The value, unless the condition failed.
    pub fn then_some<U>(self, value: U) -> Option<U> {
        match self {
            Self::Done => Some(value),
            Self::ConditionFailed(_) => None,
        }
    }

    /// Drops the present item.
    pub(crate) fn forget(self) -> Written<()> {
        match self {
            Self::Done => Written::Done,
            Self::ConditionFailed(_) => Written::ConditionFailed(None),
        }
    }
}

/// The result of a conditional [`Update`].
#[derive(Debug, PartialEq, Eq)]
pub enum Updated<T> {
    /// It was updated; this is the new item.
    Done(T),
    /// The condition did not hold; this is the present item, if there is one.
    ConditionFailed(Option<T>),
}

/// The items of a batch read, to be taken by their keys.
#[derive(Debug)]
pub struct Items(HashMap<Key, Item>);

impl Items {
    /// Takes the item under a key, if there is one.
    pub fn take<T: DeserializeOwned>(&mut self, key: &Key) -> Result<Option<T>, Error> {
        Ok(self.0.remove(key).map(read_item).transpose()?)
    }
}

/// A service's table.
#[derive(Clone, Debug)]
pub struct Table {
    client: Client,
    name: String,
}

impl Table {
    /// Connects to the table that the environment variable `TABLE` names.
    pub async fn connect() -> Result<Self, environment::Missing> {
        let name = environment::required("TABLE")?;
        Ok(Self { client: aws::client!(aws_sdk_dynamodb), name })
    }

    /// Reads one item.
    pub async fn get<T: DeserializeOwned>(&self, key: Key) -> Result<Option<T>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .consistent_read(true)
            .send()
            .await
            .map_err(classify)?;
        Ok(answer.item.map(read_item).transpose()?)
    }

    /// Reads items of any types.
    pub async fn batch_get(&self, keys: &[Key]) -> Result<Items, Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for chunk in keys.chunks(BATCH_SIZE) {
            let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
            let mut left: Vec<Item> = chunk.iter().cloned().map(Key::into_item).collect();
            loop {
                left = self.get_some(left, &mut found).await?;
                if left.is_empty() {
                    break;
                }
                if !retries.wait().await {
                    return Err(Error::Unavailable("BatchGetItem left keys unprocessed".into()));
                }
            }
        }
        Ok(Items(found))
    }

    /// Reads items with one `BatchGetItem`, and returns the keys of those that are left: if capacity is short, DynamoDB
    /// returns success with unprocessed keys.
    async fn get_some(&self, keys: Vec<Item>, found: &mut HashMap<Key, Item>) -> Result<Vec<Item>, Error> {
        let wanted = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let wanted = wanted.map_err(|error| Error::Broken(error.into()))?;
        let request = self.client.batch_get_item().request_items(&self.name, wanted);
        let answer = request.send().await.map_err(classify)?;
        for item in answer.responses.into_iter().flatten().flat_map(|(_, items)| items) {
            let key: Key = read_item(item.clone())?;
            found.insert(key, item);
        }
        let unprocessed = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name));
        Ok(unprocessed.map(|keys| keys.keys).unwrap_or_default())
    }

    /// Writes a whole item if the condition holds.
    pub async fn put<T: DeserializeOwned>(
        &self,
        item: &impl Serialize,
        condition: Condition,
    ) -> Result<Written<T>, Error> {
        let mut item = to_item(item)?;
        let write = OwnWrite::of(&mut item, &condition);
        let result = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .set_expression_attribute_names(Some(condition.names().collect()))
            .set_expression_attribute_values(non_empty(condition.values.into_iter().collect()))
            .condition_expression(condition.expression)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .customize()
            .interceptor(write.attempts())
            .send()
            .await;
        let Err(error) = result else { return Ok(Written::Done) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(check)) => written(&write, check.item.clone()),
            _ => Err(classify(error)),
        }
    }

    /// Sets the attributes of `set`, at least one, and removes those of `remove`, if the condition holds.
    pub async fn set<T: DeserializeOwned>(
        &self,
        key: Key,
        set: &impl Serialize,
        remove: &[&str],
        condition: Condition,
    ) -> Result<Written<T>, Error> {
        let mut set = to_item(set)?;
        let write = OwnWrite::of(&mut set, &condition);
        let request = self.update_item(key, Update::of_attributes(set, remove), condition);
        let request = request.return_values(ReturnValue::None).customize().interceptor(write.attempts());
        let Err(error) = request.send().await else { return Ok(Written::Done) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(check)) => {
                written(&write, check.item.clone())
            }
            _ => Err(classify(error)),
        }
    }

    /// Updates one item if the condition holds. The update is one clause: `SET`. Retries if it conflicts with a transaction, which the
    /// SDK does not.
    pub async fn update<T: DeserializeOwned>(
        &self,
        key: Key,
        update: Update,
        condition: Condition,
    ) -> Result<Updated<T>, Error> {
        let mut mark = Item::new();
        let write = OwnWrite::of(&mut mark, &condition);
        let request =
            self.update_item(key, update.and_set(mark), condition).return_values(ReturnValue::AllNew);
        let mut retries = Retries::new(FIRST_PAUSE, RETRIES);
        loop {
            let error = match request.clone().customize().interceptor(write.attempts()).send().await {
                Ok(answer) => {
                    let now = answer.attributes.unwrap_or_default();
                    return Ok(Updated::Done(read_item(now)?));
                }
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(check)) => {
                    return match write.judge(check.item.clone())? {
                        Judgement::Own(item) => Ok(Updated::Done(read_item(item)?)),
                        Judgement::Refused(item) => present(item).map(Updated::ConditionFailed),
                    };
                }
                Some(UpdateItemError::TransactionConflictException(_)) if retries.wait().await => {}
                _ => return Err(classify(error)),
            }
        }
    }

    /// The request of an update if the condition holds. If it does not, DynamoDB returns the present item.
    fn update_item(&self, key: Key, update: Update, condition: Condition) -> UpdateItemFluentBuilder {
        let (expression, names, values) = update.into_parts(&condition);
        self.client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .update_expression(expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(non_empty(values))
            .condition_expression(condition.expression)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
    }

    /// Deletes one item. A missing one counts as deleted.
    pub async fn delete(&self, key: Key) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .send()
            .await
            .map_err(classify)?;
        Ok(())
    }
}

/// An item without its null attributes: DynamoDB accepts no null in a key of an index.
fn to_item(item: &impl Serialize) -> Result<Item, Error> {
    let mut item: Item = serde_dynamo::to_item(item).map_err(|error| Error::Broken(error.into()))?;
    item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
    Ok(item)
}

/// `None` for an empty map, which DynamoDB refuses.
fn non_empty(values: HashMap<String, AttributeValue>) -> Option<HashMap<String, AttributeValue>> {
    (!values.is_empty()).then_some(values)
}

/// The result of a write whose condition failed.
fn written<T: DeserializeOwned>(write: &OwnWrite, item: Option<Item>) -> Result<Written<T>, Error> {
    match write.judge(item)? {
        Judgement::Own(_) => Ok(Written::Done),
        Judgement::Refused(item) => present(item).map(Written::ConditionFailed),
    }
}

/// The present item, which DynamoDB returns if a condition failed.
fn present<T: DeserializeOwned>(item: Option<Item>) -> Result<Option<T>, Error> {
    Ok(item.map(read_item).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_left_out_of_an_item() {
        #[derive(Serialize)]
        struct Post {
            title: &'static str,
            feed: Option<&'static str>,
        }
        let item = to_item(&Post { title: "t", feed: None }).unwrap();
        assert_eq!(item.keys().collect::<Vec<_>>(), ["title"]);
    }
}
