//! Pages of a list: `limit`, `cursor` and `{items, next_cursor}`.
//!
//! ```
//! use kernel::page::{Page, PageRequest};
//!
//! let found = ["apple", "banana", "cherry"];
//! let request = PageRequest::read("fruit", Some("2"), None)?; // the first page
//! assert_eq!((request.after(), request.limit()), (None, 2));
//! let page = Page { items: found[..2].to_vec(), next_cursor: Some(request.cursor_after("banana")) };
//!
//! let request = PageRequest::read("fruit", Some("2"), page.next_cursor.as_deref())?;
//! assert_eq!(request.after(), Some("banana"));
//! assert!(PageRequest::read("vegetables", None, page.next_cursor.as_deref()).is_err());
//! # Ok::<(), kernel::problem::Problem>(())
//! ```

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// The number of items on a page if the request has no `limit`.
pub const DEFAULT_LIMIT: u32 = 20;
/// The maximum number of items on a page.
pub const MAX_LIMIT: u32 = 100;

/// One page of a list.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema), schemars(rename = "PageOf{T}"))]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; `null` on the last one. Opaque to clients.
    pub next_cursor: Option<String>,
}

/// The page of a list that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    list: String,
    after: Option<String>,
    limit: u32,
}

impl PageRequest {
    /// Reads the query parameters `limit` (1 to 100, default 20) and `cursor` (a `next_cursor` of this list); 422 if one is
    /// invalid.
    pub fn read(
        list: impl Into<String>,
        limit_parameter: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Self, Problem> {
        let list = list.into();
        let limit = limit(limit_parameter)?;
        let after = Cursor::decode(&list, cursor)?;
        Ok(Self { list, after, limit })
    }

    /// The position after which the page starts; `None` for the first page.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The maximum number of items.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The cursor of the page that starts after a position.
    pub fn cursor_after(&self, position: &str) -> String {
        Cursor::encode(&self.list, position)
    }
}

/// Reads `limit`.
fn limit(parameter: Option<&str>) -> Result<u32, Problem> {
    let Some(text) = parameter else {
        return Ok(DEFAULT_LIMIT);
    };
    match text.parse() {
        Ok(limit @ 1..=MAX_LIMIT) => Ok(limit),
        _ => Err(Problem::invalid_field("/limit", format!("must be a whole number from 1 to {MAX_LIMIT}"))),
    }
}

/// Where a page ended: the sort key of its last item, and the list that it belongs to.
///
/// The position is a key, not an offset, so that no item is repeated or skipped when others come or go.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    #[serde(rename = "l")]
    list: String,
    #[serde(rename = "k")]
    position: String,
}

impl Cursor {
    /// The cursor after the item at `position` of `list`.
    fn encode(list: &str, position: &str) -> String {
        let cursor = Self { list: list.to_owned(), position: position.to_owned() };
        // Two strings always serialise.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).unwrap_or_default())
    }

    /// Reads the query parameter `cursor`: its position, if it was made for this list.
    fn decode(list: &str, parameter: Option<&str>) -> Result<Option<String>, Problem> {
        let Some(text) = parameter else {
            return Ok(None);
        };
        URL_SAFE_NO_PAD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok())
            .filter(|cursor| {
                cursor.list == list && !cursor.position.is_empty() && cursor.position.len() <= 200
            })
            .map(|cursor| Some(cursor.position))
            .ok_or_else(|| Problem::invalid_field("/cursor", "is not a next_cursor of this list"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_to_a_hundred() {
        assert_eq!(limit(None).unwrap(), 20);
        assert_eq!(limit(Some("100")).unwrap(), 100);
        for bad in ["0", "101", "-1", "1.5", "ten", ""] {
            assert!(limit(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_leads_back_to_its_position() {
        let cursor = Cursor::encode("feed", "2023-11-14T22:13:20.000000Z#7");
        assert_eq!(Cursor::decode("feed", Some(&cursor)).unwrap().unwrap(), "2023-11-14T22:13:20.000000Z#7");
    }

    #[test]
    fn a_malformed_cursor_and_one_of_another_list_are_invalid() {
        let other = Cursor::encode("author:1", "k");
        for bad in [other.as_str(), "rubbish", "", "e30", "bnVsbA"] {
            let problem = Cursor::decode("feed", Some(bad)).unwrap_err();
            assert_eq!(problem.errors[0].pointer, "/cursor");
        }
    }
}
