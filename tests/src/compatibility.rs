//! Compares an event's current schema with a released one, in both directions: consumers of the released schema must be able
//! to read current events, and current consumers must be able to read events of the released schema.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Keywords that annotate a schema and validate nothing.
const ANNOTATIONS: [&str; 6] = ["$schema", "$id", "title", "description", "examples", "default"];
/// Keywords for lower limits.
const LOWER_LIMITS: [&str; 4] = ["minimum", "exclusiveMinimum", "minLength", "minItems"];
/// Keywords for upper limits.
const UPPER_LIMITS: [&str; 4] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems"];

/// The incompatible changes: a sentence for each field, with the remedy. Empty if every consumer can read every event.
pub fn breaks(event: &str, released: &Value, current: &Value) -> Vec<String> {
    let mut comparison = Comparison { event, found: Vec::new() };
    comparison.compare("", released, current);
    comparison.found
}

/// A schema without its annotations: two schemas that are equal without them are the same revision.
pub fn bare(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !ANNOTATIONS.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| {
                    // These are names of fields, and a field may be called `title`.
                    let value = match (name.as_str(), value) {
                        ("properties", Value::Object(fields)) => {
                            fields.iter().map(|(name, value)| (name.clone(), bare(value))).collect()
                        }
                        // Their order means nothing.
                        ("required" | "enum", value) => json!(set(Some(value))),
                        _ => bare(value),
                    };
                    (name.clone(), value)
                })
                .collect(),
            )
        }
        other => other.clone(),
    }
}

struct Comparison<'a> {
    event: &'a str,
    found: Vec<String>,
}

impl Comparison<'_> {
    /// Reports a change after which old consumers cannot read current events.
    fn breaks_old_consumers(&mut self, field: &str, what: &str) {
        let field = if field.is_empty() { "the event itself" } else { field };
        let event = self.event;
        self.found.push(format!(
            "{event}: {field} {what}. Consumers that know the released {event} cannot read that: publish it with a new \
             schemaversion, side by side with this one, until no consumer reads this one."
        ));
    }

    fn compare(&mut self, field: &str, released: &Value, current: &Value) {
        let empty = Map::new();
        let old = released.as_object().unwrap_or(&empty);
        let new = current.as_object().unwrap_or(&empty);
        let keywords: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for keyword in keywords.into_iter().filter(|keyword| !ANNOTATIONS.contains(&keyword.as_str())) {
            let (was, is) = (old.get(keyword), new.get(keyword));
            match keyword.as_str() {
                "properties" => self.properties(field, released, current),
                // Compared together with `properties`.
                "required" => {}
                "items" => self.compare(
                    &format!("{field}[]"),
                    was.unwrap_or(&Value::Null),
                    is.unwrap_or(&Value::Null),
                ),
                "type" => {
                    let (was, is) = (set(was), set(is));
                    let what = format!("changed its type from {} to {}", list(&was), list(&is));
                    // Without `type`, every type is valid.
                    if !was.is_empty() && (is.is_empty() || !is.is_subset(&was)) {
                        self.breaks_old_consumers(field, &what);
                    } else if !is.is_empty() && (was.is_empty() || !was.is_subset(&is)) {
                        self.breaks_old_events(field, &what);
                    }
                }
                "enum" => match (was, is) {
                    (Some(_), Some(_)) => {
                        let (was, is) = (set(was), set(is));
                        let added: BTreeSet<String> = is.difference(&was).cloned().collect();
                        let removed: BTreeSet<String> = was.difference(&is).cloned().collect();
                        if !added.is_empty() {
                            self.breaks_old_consumers(field, &format!("may now be {}", list(&added)));
                        }
                        if !removed.is_empty() {
                            self.breaks_old_events(field, &format!("may no longer be {}", list(&removed)));
                        }
                    }
                    (Some(_), None) => {
                        self.breaks_old_consumers(field, "may now be any value, and was one of a list");
                    }
                    _ => self.breaks_old_events(field, "is now one of a list, and could be any value"),
                },
                limit if LOWER_LIMITS.contains(&limit) || UPPER_LIMITS.contains(&limit) => {
                    let (before, now) = (was.and_then(Value::as_f64), is.and_then(Value::as_f64));
                    let wider = match (before, now) {
                        (Some(before), Some(now)) if LOWER_LIMITS.contains(&limit) => now < before,
                        (Some(before), Some(now)) => now > before,
                        (before, _) => before.is_some(),
                    };
                    let what = format!("changed its {limit} from {} to {}", json!(was), json!(is));
                    if wider {
                        self.breaks_old_consumers(field, &what);
                    } else if before != now {
                        self.breaks_old_events(field, &what);
                    }
                }
                _ if was == is => {}
                _ if was.is_none() => {
                    self.breaks_old_events(field, &format!("now has the {keyword} {}", json!(is)));
                }
                _ => self.breaks_old_consumers(
                    field,
                    &format!("changed its {keyword} from {} to {}", json!(was), json!(is)),
                ),
            }
        }
    }

    fn properties(&mut self, field: &str, released: &Value, current: &Value) {
        let empty = Map::new();
        let (old, new) = (
            released["properties"].as_object().unwrap_or(&empty),
            current["properties"].as_object().unwrap_or(&empty),
        );
        let (was_required, is_required) = (set(released.get("required")), set(current.get("required")));
        let at = |name: &str| if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") };
        for (name, was) in old {
            let here = at(name);
            match new.get(name) {
                None => self.breaks_old_consumers(&here, "was removed"),
                Some(is) => {
                    if was_required.contains(name) && !is_required.contains(name) {
                        self.breaks_old_consumers(&here, "is no longer required");
                    } else if is_required.contains(name) && !was_required.contains(name) {
                        self.breaks_old_events(&here, "is now required");
                    }
                    self.compare(&here, was, is);
                }
            }
        }
        for name in new.keys().filter(|name| !old.contains_key(*name) && is_required.contains(*name)) {
            self.breaks_old_events(&at(name), "is new and required");
        }
    }

    /// Reports a change after which current consumers cannot read old events.
    fn breaks_old_events(&mut self, field: &str, what: &str) {
        let event = self.event;
        self.found.push(format!(
            "{event}: {field} {what}. Events that were published before, in queues and in the archive, need not be like that: \
             go on reading them (what is new is optional), or publish it with a new schemaversion, side by side with this \
             one, until no consumer reads this one."
        ));
    }
}

fn set(value: Option<&Value>) -> BTreeSet<String> {
    match value {
        Some(Value::Array(values)) => values.iter().map(text).collect(),
        Some(value) => BTreeSet::from([text(value)]),
        None => BTreeSet::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(values: &BTreeSet<String>) -> String {
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    if values.is_empty() { "anything".to_owned() } else { values.join(" or ") }
}
