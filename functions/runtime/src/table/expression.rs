//! Condition and update expressions with their values.
//!
//! An attribute is written `#name`, a value `:name`:
//! `Update::new("SET #reserved = #reserved + :quantity").value("quantity", 2_u64)`.
//!
//! DynamoDB takes the values of an update and those of its condition in one map. Here each has names of its own: what is `:name` in a
//! condition is sent as `:if_name`, in an update as `:to_name`, and the value of an attribute that is set as `:set_name`. No
//! value can take the place of another.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::Serialize;

use super::{Error, Item};

/// The placeholders of an expression: see [`names`].
pub(super) type Names = HashMap<String, String>;

/// The beginning of the names of a condition's values, of an update's, and of attributes that are set.
const IF: &str = ":if_";
const TO: &str = ":to_";
const SET: &str = ":set_";

/// The condition of a write: a condition expression and its values.
#[derive(Clone, Debug)]
pub struct Condition {
    pub(super) expression: String,
    pub(super) values: Vec<(String, AttributeValue)>,
}

impl Condition {
    /// A condition without values.
    pub fn new(expression: &str) -> Self {
        Self { expression: expression.replace(':', IF), values: Vec::new() }
    }

    /// There is no item under the key.
    pub fn absent() -> Self {
        Self::new("attribute_not_exists(#pk)")
    }

    /// There is an item under the key.
    pub fn present() -> Self {
        Self::new("attribute_exists(#pk)")
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
        self.values.push((format!("{IF}{name}"), value.into().0));
        self
    }

    /// Gives `:name` a map or list as its value.
    pub fn object(mut self, name: &str, value: &impl Serialize) -> Result<Self, Error> {
        self.values.push((format!("{IF}{name}"), object(value)?));
        Ok(self)
    }

    /// The version that must not have changed, if this is such a condition.
    pub(super) fn version_read(&self) -> Option<u64> {
        let (_, version) =
            self.values.iter().find(|(name, _)| name.strip_prefix(IF) == Some("version_read"))?;
        version.as_n().ok()?.parse().ok()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (String, String)> {
        names(&self.expression)
    }
}

/// An update that depends on the current attributes: an update expression and its values.
#[derive(Clone, Debug)]
pub struct Update {
    expression: String,
    values: Vec<(String, AttributeValue)>,
}

impl Update {
    /// An update without values.
    pub fn new(expression: &str) -> Self {
        Self { expression: expression.replace(':', TO), values: Vec::new() }
    }

    /// Sets the attributes of `set`, at least one, and removes those of `remove`.
    pub(super) fn of_attributes(set: Item, remove: &[&str]) -> Self {
        let removals: Vec<String> = remove.iter().map(|name| format!("#{name}")).collect();
        let mut expression = format!("SET {}", assignments(&set));
        if !removals.is_empty() {
            expression = format!("{expression} REMOVE {}", removals.join(", "));
        }
        Self { expression, values: values(set).collect() }
    }

    /// Also sets these attributes. The expression so far is one clause, `SET`.
    #[must_use]
    pub(super) fn and_set(mut self, set: Item) -> Self {
        if !set.is_empty() {
            self.expression = format!("{}, {}", self.expression, assignments(&set));
            self.values.extend(values(set));
        }
        self
    }

    /// Gives `:name` its value.
    #[must_use]
    pub fn value(mut self, name: &str, value: impl Into<Scalar>) -> Self {
        self.values.push((format!("{TO}{name}"), value.into().0));
        self
    }

    /// Gives `:name` a map or list as its value.
    pub fn object(mut self, name: &str, value: &impl Serialize) -> Result<Self, Error> {
        self.values.push((format!("{TO}{name}"), object(value)?));
        Ok(self)
    }

    /// The expression, with its names and values and those of its condition.
    pub(super) fn into_parts(self, condition: &Condition) -> (String, Names, Item) {
        let names = names(&self.expression).chain(condition.names()).collect();
        let values = self.values.into_iter().chain(condition.values.clone()).collect();
        (self.expression, names, values)
    }
}

/// The assignments of attributes to the values of their names.
fn assignments(set: &Item) -> String {
    set.keys().map(|name| format!("#{name} = {SET}{name}")).collect::<Vec<_>>().join(", ")
}

/// The values of attributes under their names in an expression.
fn values(set: Item) -> impl Iterator<Item = (String, AttributeValue)> {
    set.into_iter().map(|(name, value)| (format!("{SET}{name}"), value))
}

/// A map or list as a value.
fn object(value: &impl Serialize) -> Result<AttributeValue, Error> {
    serde_dynamo::to_attribute_value(value).map_err(|error| Error::Broken(error.into()))
}

/// A value in an expression.
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
    fn values_of_one_name_in_update_condition_and_attributes_stay_apart() {
        let condition = Condition::new("#state = :state AND #version = :version").value("state", "old");
        let set = Item::from([("state".to_owned(), AttributeValue::S("set".to_owned()))]);
        let update = Update::new("SET #total = #total + :state").value("state", 7_u64).and_set(set);
        let (expression, names, values) = update.into_parts(&condition);
        assert_eq!(expression, "SET #total = #total + :to_state, #state = :set_state");
        assert_eq!(condition.expression, "#state = :if_state AND #version = :if_version");
        assert_eq!(names.len(), 3);
        let value = |name: &str| values[name].clone();
        assert_eq!(value(":to_state"), AttributeValue::N("7".to_owned()));
        assert_eq!(value(":set_state"), AttributeValue::S("set".to_owned()));
        assert_eq!(value(":if_state"), AttributeValue::S("old".to_owned()));
    }
}
