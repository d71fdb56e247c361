//! Lists: the items of a partition in the order of a sort key, page by page.

use aws_sdk_dynamodb::{
    operation::query::builders::QueryFluentBuilder,
    types::{AttributeValue, Select},
};
use kernel::page::{Page, PageRequest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Error, Item, Key, Table, classify};
use crate::error::read_item;

/// A whole list: the items of one partition of an index, in the order of its sort key.
#[derive(Clone, Debug)]
pub struct List {
    /// The index.
    pub index: &'static str,
    /// The partition key's attribute and value.
    pub partition: (&'static str, String),
    /// The sort key's attribute, a string. Its value is the item's position in the list.
    pub sort: &'static str,
    /// Whether the order is descending.
    pub newest_first: bool,
}

/// A page of a list as it was read.
#[derive(Debug)]
pub struct Found<T> {
    /// Each item with its position.
    items: Vec<(String, T)>,
    /// The position at which the page ends; `None` if the list ends there.
    end: Option<String>,
}

impl<T> Found<T> {
    /// A page of these items, each with its position. `more` says whether the list goes on after them.
    pub fn new(items: Vec<(String, T)>, more: bool) -> Self {
        let end = items.last().filter(|_| more).map(|(position, _)| position.clone());
        Self { items, end }
    }

    /// The position at which the page ends; `None` if the list ends there.
    pub fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// The items, in order.
    pub fn items(&self) -> impl ExactSizeIterator<Item = &T> {
        self.items.iter().map(|(_, item)| item)
    }

    /// Consumes the page and returns its items, in order.
    pub fn into_items(self) -> impl ExactSizeIterator<Item = T> {
        self.items.into_iter().map(|(_, item)| item)
    }

    /// Keeps at most `count` items. The next page begins after them.
    #[must_use]
    pub fn limit(mut self, count: usize) -> Self {
        if self.items.len() > count {
            self.items.truncate(count);
            self.end = self.items.last().map(|(position, _)| position.clone());
        }
        self
    }

    /// Keeps the items before the first that is not `wanted`, and ends the list there.
    #[must_use]
    pub fn take_while(mut self, wanted: impl Fn(&T) -> bool) -> Self {
        if let Some(first) = self.items.iter().position(|(_, item)| !wanted(item)) {
            self.items.truncate(first);
            self.end = None;
        }
        self
    }

    /// Converts or drops each item. The end of the page stays the same.
    pub fn filter_map<U>(self, mut convert: impl FnMut(T) -> Option<U>) -> Found<U> {
        let items = self.items.into_iter();
        let items = items.filter_map(|(position, item)| Some((position, convert(item)?))).collect();
        Found { items, end: self.end }
    }

    /// Converts each item.
    pub fn map<U>(self, mut convert: impl FnMut(T) -> U) -> Found<U> {
        self.filter_map(|item| Some(convert(item)))
    }

    /// The page as the API shows it, for the request that asked for it.
    pub fn into_page(self, request: &PageRequest) -> Page<T> {
        let next_cursor = self.end.as_deref().map(|end| request.cursor_after(end));
        Page { items: self.into_items().collect(), next_cursor }
    }
}

/// An item's entry in an index that has only keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The item's key in the table.
    #[serde(flatten)]
    pub key: Key,
}

impl Table {
    /// Reads a page of a list: up to `limit` items after the position `after`. A page can be shorter although the
    /// list goes on, because DynamoDB ends a page at 1 MB.
    pub async fn page<T: DeserializeOwned>(
        &self,
        list: &List,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Found<T>, Error> {
        let answer = self
            .query(list, after)
            // One more than the limit, so that no cursor leads to an empty page.
            .limit(i32::try_from(limit).unwrap_or(i32::MAX).saturating_add(1))
            .scan_index_forward(!list.newest_first)
            .send()
            .await
            .map_err(classify)?;
        let items = answer.items.unwrap_or_default().into_iter().map(|item| {
            let position = position(list, &item)?;
            Ok((position, read_item(item)?))
        });
        let items = items.collect::<Result<_, Error>>()?;
        Ok(Found::new(items, answer.last_evaluated_key.is_some()).limit(limit as usize))
    }

    /// Reads a page of a list whose index has only keys, and then the items themselves, strongly consistently. Items that are gone by
    /// then are left out.
    pub async fn page_of_items<T: DeserializeOwned>(
        &self,
        list: &List,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Found<T>, Error> {
        let entries = self.page::<IndexEntry>(list, after, limit).await?;
        let keys: Vec<Key> = entries.items().map(|entry| entry.key.clone()).collect();
        let mut items = self.batch_get(&keys).await?;
        let mut found = Vec::with_capacity(keys.len());
        for (position, entry) in entries.items {
            found.extend(items.take(&entry.key)?.map(|item| (position, item)));
        }
        Ok(Found { items: found, end: entries.end })
    }

    /// Counts the items of a list after a position.
    pub async fn count(&self, list: &List, after: Option<&str>) -> Result<u64, Error> {
        let mut count = 0;
        let mut start = None;
        loop {
            let request = self.query(list, after).select(Select::Count).set_exclusive_start_key(start);
            let answer = request.send().await.map_err(classify)?;
            count += u64::try_from(answer.count).unwrap_or_default();
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(count);
            }
        }
    }

    /// The positions of a list's newest items, at most `count`, that come after the position `since`.
    pub(super) async fn newest_since(
        &self,
        list: &List,
        since: &str,
        count: usize,
    ) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut start = None;
        loop {
            let answer = self
                .query(list, None)
                .key_condition_expression("#partition = :partition AND #sort > :since")
                .expression_attribute_names("#sort", list.sort)
                .expression_attribute_values(":since", AttributeValue::S(since.to_owned()))
                .projection_expression("#sort")
                .scan_index_forward(false)
                .limit(i32::try_from(count - found.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(classify)?;
            for item in answer.items.unwrap_or_default() {
                found.push(position(list, &item)?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() || found.len() >= count {
                return Ok(found);
            }
        }
    }

    fn query(&self, list: &List, after: Option<&str>) -> QueryFluentBuilder {
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(list.index)
            // Only a local index, whose partition key is the table's, can be read consistently.
            .consistent_read(list.partition.0 == "pk")
            .expression_attribute_names("#partition", list.partition.0)
            .expression_attribute_values(":partition", AttributeValue::S(list.partition.1.clone()));
        let Some(after) = after else {
            return request.key_condition_expression("#partition = :partition");
        };
        request
            .key_condition_expression(if list.newest_first {
                "#partition = :partition AND #sort < :after"
            } else {
                "#partition = :partition AND #sort > :after"
            })
            .expression_attribute_names("#sort", list.sort)
            .expression_attribute_values(":after", AttributeValue::S(after.to_owned()))
    }
}

fn position(list: &List, item: &Item) -> Result<String, Error> {
    let position = item.get(list.sort).and_then(|value| value.as_s().ok());
    position.cloned().ok_or_else(|| {
        Error::Broken(
            format!("an item of the index {} has no string attribute {}", list.index, list.sort).into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(numbers: &[u32], more: bool) -> Found<u32> {
        Found::new(numbers.iter().map(|number| (format!("at {number}"), *number)).collect(), more)
    }

    fn numbers(found: &Found<u32>) -> (Vec<u32>, Option<&str>) {
        (found.items().copied().collect(), found.end())
    }

    #[test]
    fn a_page_ends_at_its_last_item_if_the_list_goes_on() {
        assert_eq!(numbers(&found(&[1, 2], true)), (vec![1, 2], Some("at 2")));
        assert_eq!(numbers(&found(&[1, 2], false)), (vec![1, 2], None));
        assert_eq!(numbers(&found(&[], false)), (vec![], None));
    }

    #[test]
    fn a_limit_moves_the_rest_to_the_next_page() {
        assert_eq!(numbers(&found(&[1, 2, 3], false).limit(2)), (vec![1, 2], Some("at 2")));
        assert_eq!(numbers(&found(&[1, 2], false).limit(2)), (vec![1, 2], None));
        assert_eq!(numbers(&found(&[1], true).limit(2)), (vec![1], Some("at 1")));
    }

    #[test]
    fn a_list_ends_at_the_first_item_that_is_not_wanted() {
        assert_eq!(numbers(&found(&[1, 2, 9, 3], true).take_while(|number| *number < 5)), (vec![1, 2], None));
        assert_eq!(
            numbers(&found(&[1, 2], true).take_while(|number| *number < 5)),
            (vec![1, 2], Some("at 2"))
        );
    }

    #[test]
    fn dropping_items_does_not_move_the_end_of_a_page() {
        let odd = found(&[1, 2, 3, 4], true).filter_map(|number| (number % 2 == 1).then_some(number));
        assert_eq!(numbers(&odd), (vec![1, 3], Some("at 4")));
    }

    #[test]
    fn the_next_cursor_starts_after_the_end_of_the_page() {
        let request = PageRequest::read("numbers", None, None).unwrap();
        let page = found(&[1, 2], true).into_page(&request);
        assert_eq!(page.items, [1, 2]);
        let next = PageRequest::read("numbers", None, page.next_cursor.as_deref()).unwrap();
        assert_eq!(next.after(), Some("at 2"));
        assert_eq!(found(&[1, 2], false).into_page(&request).next_cursor, None);
    }
}
