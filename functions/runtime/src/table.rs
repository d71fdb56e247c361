//! Reads and writes a service's DynamoDB table.
//!
//! One table per service, keys `pk` and `sk`, items as `serde` types. A failed condition is an answer, not an error. Reads of
//! the table are strongly consistent; reads of a global index cannot be.

use std::{collections::HashMap, error, fmt, time::Duration};

use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        put_item::PutItemError, query::builders::QueryFluentBuilder,
        transact_write_items::TransactWriteItemsError, update_item::UpdateItemError,
    },
    types::{
        AttributeValue, KeysAndAttributes, Put, ReturnValue,
        ReturnValuesOnConditionCheckFailure as OnFailure, Select, TransactWriteItem, Update,
    },
};
use kernel::problem::Problem;
use serde::{Serialize, de::DeserializeOwned};

use crate::{aws, environment};

type Item = HashMap<String, AttributeValue>;
type Names = HashMap<String, String>;

/// Maximum keys of one `BatchGetItem`.
const BATCH_SIZE: usize = 100;
/// Maximum attempts of a change that conflicts with a transaction.
const CONFLICT_ATTEMPTS: u32 = 5;
/// DynamoDB's reason for a write whose condition did not hold.
const CONDITION_FAILED: &str = "ConditionalCheckFailed";
/// Maximum retries for keys that a `BatchGetItem` left unprocessed.
const BATCH_ATTEMPTS: u32 = 5;

/// Why a table could not be read or written.
#[derive(Debug)]
pub enum Error {
    /// DynamoDB throttles or does not answer: a retry may succeed.
    Unavailable(Box<dyn error::Error + Send + Sync>),
    /// A retry cannot succeed: a missing permission, or an item that does not fit its type.
    Broken(Box<dyn error::Error + Send + Sync>),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unavailable(_) => "the table is not available",
            Self::Broken(_) => "the table cannot be used",
        })
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        let (Self::Unavailable(cause) | Self::Broken(cause)) = self;
        Some(cause.as_ref())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) => Self::unavailable(error),
            Error::Broken(_) => Self::internal(error),
        }
    }
}

impl From<serde_dynamo::Error> for Error {
    fn from(error: serde_dynamo::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// Whether an SDK's error can be retried.
fn failed<E>(error: SdkError<E>) -> Error
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

/// The condition of a write: a condition expression and its values.
///
/// An attribute is written `#name`, a value `:name`.
#[derive(Clone, Debug)]
pub struct Condition {
    expression: String,
    values: Vec<(String, AttributeValue)>,
}

impl Condition {
    /// A condition without values.
    pub fn new(expression: &str) -> Self {
        Self { expression: expression.to_owned(), values: Vec::new() }
    }

    /// There is no item under the key.
    pub fn absent() -> Self {
        Self::new("attribute_not_exists(#pk)")
    }

    /// The item still has the version that was read.
    pub fn version(version: u64) -> Self {
        Self::new("#version = :version_read").value("version_read", version)
    }

    /// The item is from an older version of its subject than `sequence`, or there is no item.
    pub fn older_than(sequence: u64) -> Self {
        Self::new("(attribute_not_exists(#sequence) OR #sequence < :new_sequence)")
            .value("new_sequence", sequence)
    }

    /// Gives `:name` its value.
    #[must_use]
    pub fn value(mut self, name: &str, value: impl Into<Scalar>) -> Self {
        self.values.push((format!(":{name}"), value.into().0));
        self
    }

    /// Gives `:name` a map or list as its value.
    pub fn object(mut self, name: &str, value: &impl Serialize) -> Result<Self, Error> {
        self.values.push((format!(":{name}"), serde_dynamo::to_attribute_value(value)?));
        Ok(self)
    }

    fn names(&self) -> impl Iterator<Item = (String, String)> {
        names(&self.expression)
    }
}

/// A change that depends on the present attributes: an update expression and its values, written like a [`Condition`]:
/// `SET #reserved = #reserved + :quantity`.
#[derive(Clone, Debug)]
pub struct Change(Condition);

impl Change {
    /// A change without values.
    pub fn new(expression: &str) -> Self {
        Self(Condition::new(expression))
    }

    /// Gives `:name` its value.
    #[must_use]
    pub fn value(self, name: &str, value: impl Into<Scalar>) -> Self {
        Self(self.0.value(name, value))
    }

    /// Gives `:name` a map or list as its value.
    pub fn object(mut self, name: &str, value: &impl Serialize) -> Result<Self, Error> {
        self.0.values.push((format!(":{name}"), serde_dynamo::to_attribute_value(value)?));
        Ok(self)
    }

    /// The expression, with its names and values and those of its condition.
    fn guarded(self, condition: &Condition) -> (String, Names, Item) {
        let names = self.0.names().chain(condition.names()).collect();
        let values = self.0.values.into_iter().chain(condition.values.clone()).collect();
        (self.0.expression, names, values)
    }
}

/// A value in a condition or key expression.
#[derive(Clone, Debug)]
pub struct Scalar(AttributeValue);

impl From<u64> for Scalar {
    fn from(number: u64) -> Self {
        Self(AttributeValue::N(number.to_string()))
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self(AttributeValue::N(number.to_string()))
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self(AttributeValue::S(text.to_owned()))
    }
}

/// `#name → name` for each attribute of an expression, because any name could be a reserved word.
fn names(expression: &str) -> impl Iterator<Item = (String, String)> {
    expression.split('#').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        (format!("#{}", &rest[..end]), rest[..end].to_owned())
    })
}

/// The result of a conditional write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written<T> {
    /// It was written.
    Done,
    /// The condition did not hold; this is the present item, if there is one.
    Refused(Option<T>),
}

impl<T> Written<T> {
    /// Turns a failed condition into an error of the caller's choice.
    pub fn done_or<E>(self, refused: impl FnOnce() -> E) -> Result<(), E> {
        match self {
            Self::Done => Ok(()),
            Self::Refused(_) => Err(refused()),
        }
    }

    /// Drops the present item.
    pub(crate) fn forget(self) -> Written<()> {
        match self {
            Self::Done => Written::Done,
            Self::Refused(_) => Written::Refused(None),
        }
    }
}

/// The result of a conditional [`Change`].
#[derive(Debug, PartialEq, Eq)]
pub enum Changed<T> {
    /// It was changed; this is the new item.
    Now(T),
    /// The condition did not hold; this is the present item, if there is one.
    Refused(Option<T>),
}

/// The result of a transaction.
#[derive(Debug, PartialEq, Eq)]
pub enum Transacted {
    /// They took place.
    Done,
    /// Nothing was written: the conditions of the writes with these indices did not hold.
    Refused(Vec<usize>),
}

/// One write of a transaction.
#[derive(Debug)]
pub struct Write(TransactWriteItem);

/// The items of a batch read, to be taken by their keys.
#[derive(Debug)]
pub struct Items(HashMap<Key, Item>);

impl Items {
    /// Takes the item under a key, if there is one.
    pub fn take<T: DeserializeOwned>(&mut self, key: &Key) -> Result<Option<T>, Error> {
        Ok(self.0.remove(key).map(serde_dynamo::from_item).transpose()?)
    }
}

/// An item's entry in an index: its key, and its position by `created`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Row {
    /// The item's key in the table.
    #[serde(flatten)]
    pub key: Key,
    /// The time and the id of what the item holds: `<RFC 3339 time>#<id>`.
    pub created: String,
}

/// A range of a partition, in the order of its sort key.
#[derive(Clone, Debug)]
pub struct Query {
    /// The index.
    pub index: &'static str,
    /// The partition key's attribute and value.
    pub partition: (&'static str, String),
    /// The sort key's attribute.
    pub sort: &'static str,
    /// Only items after this sort key.
    pub after: Option<String>,
    /// Whether the order is descending.
    pub newest_first: bool,
    /// Maximum number of items.
    pub limit: u32,
}

/// The result of a [`Query`].
#[derive(Debug)]
pub struct Found<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether there are more items after these.
    pub more: bool,
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
            .map_err(failed)?;
        Ok(answer.item.map(serde_dynamo::from_item).transpose()?)
    }

    /// Reads up to a hundred items of any types in one call.
    pub async fn read(&self, keys: &[Key]) -> Result<Items, Error> {
        let mut found = HashMap::with_capacity(keys.len());
        for chunk in keys.chunks(BATCH_SIZE) {
            let mut left: Vec<Item> = chunk.iter().cloned().map(Key::into_item).collect();
            let mut attempt = 0;
            while !left.is_empty() {
                let wanted = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
                let wanted = wanted.map_err(|error| Error::Broken(error.into()))?;
                let answer = self
                    .client
                    .batch_get_item()
                    .request_items(&self.name, wanted)
                    .send()
                    .await
                    .map_err(failed)?;
                for item in answer.responses.into_iter().flatten().flat_map(|(_, items)| items) {
                    let key: Key = serde_dynamo::from_item(item.clone())?;
                    found.insert(key, item);
                }
                // If DynamoDB lacks capacity, it leaves keys unprocessed, in an answer that is a success.
                let unprocessed = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name));
                left = unprocessed.map(|keys| keys.keys).unwrap_or_default();
                if !left.is_empty() {
                    attempt += 1;
                    if attempt == BATCH_ATTEMPTS {
                        return Err(Error::Unavailable("BatchGetItem left keys unprocessed".into()));
                    }
                    pause(attempt).await;
                }
            }
        }
        Ok(Items(found))
    }

    /// Writes a whole item if the condition holds.
    pub async fn put<T: DeserializeOwned>(
        &self,
        item: &impl Serialize,
        condition: Condition,
    ) -> Result<Written<T>, Error> {
        let result = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(to_item(item)?))
            .set_expression_attribute_names(Some(condition.names().collect()))
            .set_expression_attribute_values(some(condition.values.into_iter().collect()))
            .condition_expression(condition.expression)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(Written::Done) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(check)) => refused(check.item.clone()),
            _ => Err(failed(error)),
        }
    }

    /// Sets the attributes of `set`, at least one, and removes those of `remove`, if the condition holds.
    pub async fn update<T: DeserializeOwned>(
        &self,
        key: Key,
        set: &impl Serialize,
        remove: &[&str],
        condition: Condition,
    ) -> Result<Written<T>, Error> {
        let set = to_item(set)?;
        let assignments: Vec<String> = set.keys().map(|name| format!("#{name} = :{name}")).collect();
        let removals: Vec<String> = remove.iter().map(|name| format!("#{name}")).collect();
        let mut expression = format!("SET {}", assignments.join(", "));
        if !removals.is_empty() {
            expression = format!("{expression} REMOVE {}", removals.join(", "));
        }
        let names = names(&expression).chain(condition.names()).collect();
        let values = set.into_iter().map(|(name, value)| (format!(":{name}"), value));
        let result = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .update_expression(expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(some(values.chain(condition.values).collect()))
            .condition_expression(condition.expression)
            .return_values(ReturnValue::None)
            .return_values_on_condition_check_failure(OnFailure::AllOld)
            .send()
            .await;
        let Err(error) = result else { return Ok(Written::Done) };
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(check)) => refused(check.item.clone()),
            _ => Err(failed(error)),
        }
    }

    /// Changes one item if the condition holds. Retries if it conflicts with a transaction, which the SDK does not.
    pub async fn change<T: DeserializeOwned>(
        &self,
        key: Key,
        change: Change,
        condition: Condition,
    ) -> Result<Changed<T>, Error> {
        let (expression, names, values) = change.guarded(&condition);
        let request = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .update_expression(expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(some(values))
            .condition_expression(condition.expression)
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(OnFailure::AllOld);
        let mut attempt = 1;
        loop {
            let error = match request.clone().send().await {
                Ok(answer) => {
                    let now = answer.attributes.unwrap_or_default();
                    return Ok(Changed::Now(serde_dynamo::from_item(now)?));
                }
                Err(error) => error,
            };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(check)) => {
                    let standing = check.item.clone().map(serde_dynamo::from_item).transpose()?;
                    return Ok(Changed::Refused(standing));
                }
                Some(UpdateItemError::TransactionConflictException(_)) if attempt < CONFLICT_ATTEMPTS => {
                    pause(attempt).await;
                    attempt += 1;
                }
                _ => return Err(failed(error)),
            }
        }
    }

    /// A write of a whole item if the condition holds, as part of a transaction.
    pub fn writing(&self, item: &impl Serialize, condition: Condition) -> Result<Write, Error> {
        let put = Put::builder()
            .table_name(&self.name)
            .set_item(Some(to_item(item)?))
            .set_expression_attribute_names(Some(condition.names().collect()))
            .set_expression_attribute_values(some(condition.values.into_iter().collect()))
            .condition_expression(condition.expression)
            .build()
            .map_err(|error| Error::Broken(error.into()))?;
        Ok(Write(TransactWriteItem::builder().put(put).build()))
    }

    /// A change of an item if the condition holds, as part of a transaction.
    pub fn changing(&self, key: Key, change: Change, condition: Condition) -> Result<Write, Error> {
        let (expression, names, values) = change.guarded(&condition);
        let update = Update::builder()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .update_expression(expression)
            .set_expression_attribute_names(Some(names))
            .set_expression_attribute_values(some(values))
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
            return Err(failed(error));
        };
        let codes: Vec<&str> =
            cancelled.cancellation_reasons().iter().map(|reason| reason.code().unwrap_or_default()).collect();
        let of_conditions: Vec<usize> = (0..codes.len()).filter(|i| codes[*i] == CONDITION_FAILED).collect();
        if !of_conditions.is_empty() {
            Ok(Transacted::Refused(of_conditions))
        } else if codes.contains(&"ValidationError") {
            Err(Error::Broken(error.into()))
        } else {
            // It conflicts with another transaction, or the table throttles.
            Err(Error::Unavailable(error.into()))
        }
    }

    /// Reads a range of a partition. There can be fewer items than the limit and still more after them, because DynamoDB ends
    /// a page at 1 MB.
    pub async fn query<T: DeserializeOwned>(&self, query: &Query) -> Result<Found<T>, Error> {
        let answer = self
            .request(query)
            // One more than the limit, to know whether there are more without a cursor to an empty page.
            .limit(i32::try_from(query.limit).unwrap_or(i32::MAX).saturating_add(1))
            .scan_index_forward(!query.newest_first)
            .send()
            .await
            .map_err(failed)?;
        let mut items = answer.items.unwrap_or_default();
        let limit = query.limit as usize;
        let more = items.len() > limit || answer.last_evaluated_key.is_some();
        items.truncate(limit);
        Ok(Found { items: serde_dynamo::from_items(items)?, more })
    }

    /// Counts the items of a range; its limit is ignored.
    pub async fn count(&self, query: &Query) -> Result<u64, Error> {
        let mut count = 0;
        let mut start = None;
        loop {
            let request = self.request(query).select(Select::Count).set_exclusive_start_key(start);
            let answer = request.send().await.map_err(failed)?;
            count += u64::try_from(answer.count).unwrap_or_default();
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    fn request(&self, query: &Query) -> QueryFluentBuilder {
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(query.index)
            // Global indexes, whose partition is not the table's, offer no consistent read.
            .consistent_read(query.partition.0 == "pk")
            .expression_attribute_names("#partition", query.partition.0)
            .expression_attribute_values(":partition", AttributeValue::S(query.partition.1.clone()));
        let Some(after) = &query.after else {
            return request.key_condition_expression("#partition = :partition");
        };
        request
            .key_condition_expression(if query.newest_first {
                "#partition = :partition AND #sort < :after"
            } else {
                "#partition = :partition AND #sort > :after"
            })
            .expression_attribute_names("#sort", query.sort)
            .expression_attribute_values(":after", AttributeValue::S(after.clone()))
    }

    /// Deletes one item. A missing one counts as deleted.
    pub async fn delete(&self, key: Key) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(key.into_item()))
            .send()
            .await
            .map_err(failed)?;
        Ok(())
    }
}

/// An item without its null attributes: DynamoDB accepts no null in a key of an index.
fn to_item(item: &impl Serialize) -> Result<Item, Error> {
    let mut item: Item = serde_dynamo::to_item(item)?;
    item.retain(|_, value| !matches!(value, AttributeValue::Null(_)));
    Ok(item)
}

/// `None` for an empty map, which DynamoDB refuses.
fn some(values: HashMap<String, AttributeValue>) -> Option<HashMap<String, AttributeValue>> {
    (!values.is_empty()).then_some(values)
}

/// The answer to a failed condition, with the present item that DynamoDB returned.
fn refused<T: DeserializeOwned>(standing: Option<Item>) -> Result<Written<T>, Error> {
    Ok(Written::Refused(standing.map(serde_dynamo::from_item).transpose()?))
}

/// Waits before the retry of a write that lost to a concurrent one: exponential, with full jitter.
pub async fn pause(attempt: u32) {
    let longest = 25_u64 << attempt;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_of_an_expression_is_given_its_name() {
        let condition =
            Condition::new("attribute_exists(#pk) AND (#name < :n OR #deleted_at=:d)").value("n", "x");
        let names: Vec<String> = condition.names().map(|(_, name)| name).collect();
        assert_eq!(names, ["pk", "name", "deleted_at"]);
    }

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
