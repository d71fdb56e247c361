//! `/inventory`.

use std::collections::HashMap;

use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    Answer, Person, System,
    shop::{CARD, assert_invariants, new_sku, usd, wait_until_settled},
    turns::{PROCESSORS, turn},
};
use uuid::Uuid;

fn listing(price: &Value, on_hand: u64) -> Value {
    json!({"name": "Green tea 녹차", "unit_price": price, "on_hand": on_hand})
}

/// A whole stock item.
fn item(sku: &str, price: &Value, on_hand: u64, reserved: u64, version: u64) -> Value {
    json!({
        "sku": sku, "name": "Green tea 녹차", "unit_price": price, "on_hand": on_hand, "reserved": reserved,
        "available": on_hand - reserved, "version": version,
    })
}

/// What buyers see of a whole stock item.
fn shown(item: &Value) -> Value {
    let mut shown = item.clone();
    for hidden in ["on_hand", "reserved"] {
        shown.as_object_mut().unwrap().remove(hidden).unwrap();
    }
    shown
}

/// Asserts that staff see this whole item, and buyers the part of it that they may see.
async fn assert_stocked(system: &System, sku: &str, item: &Value) {
    let staff = system.staff().await;
    staff.get(&format!("/staff/inventory/{sku}")).await.is(200, item);
    system.get(&format!("/inventory/{sku}")).await.is(200, &shown(item));
}

async fn create(person: &Person, sku: &str, listing: &Value) -> Answer {
    let request = person.request(Method::PUT, &format!("/inventory/{sku}"));
    request.header("if-none-match", "*").json(listing).send().await
}

async fn replace(person: &Person, sku: &str, version: u64, listing: &Value) -> Answer {
    let request = person.request(Method::PUT, &format!("/inventory/{sku}"));
    request.if_match(version).json(listing).send().await
}

/// An admin, and the SKU of an item that the admin has just listed.
async fn listed(system: &System, on_hand: u64) -> (Person, String) {
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    assert_eq!(create(&admin, &sku, &listing(&usd(450), on_hand)).await.status, 201);
    (admin, sku)
}

/// Reserves a quantity of one item for an order that exists nowhere else.
async fn reserve(system: &System, order: Uuid, sku: &str, quantity: u32) -> Result<Value, String> {
    let items = json!([{"sku": sku, "quantity": quantity}]);
    let input = json!({"order_id": order, "items": items, "expected_total": null, "traceparent": null});
    system.step("inventory-reserve", &input).await
}

async fn step(system: &System, function: &str, order: Uuid) {
    let answer = system.step(function, &json!({"order_id": order, "traceparent": null})).await;
    assert_eq!(answer, Ok(json!({})), "{function}");
}

#[tokio::test]
async fn an_item_can_be_listed_once_and_anyone_can_read_it() {
    let system = System::connect().await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    let path = format!("/inventory/{sku}");
    system.get(&path).await.is_problem(404, "not-found");
    let created = create(&admin, &sku, &listing(&usd(450), 7)).await;
    created.is(201, &item(&sku, &usd(450), 7, 0, 1));
    assert_eq!(created.location(), system.url(&path));
    created.is_view_of(1);

    create(&admin, &sku, &listing(&usd(1), 1)).await.is_problem(412, "stale-version");
    let read = system.get(&path).await;
    read.is(200, &shown(&created.body));
    read.is_view_of(1);
    let whole = admin.get(&format!("/staff{path}")).await;
    whole.is(200, &created.body);
    whole.is_view_of(1);
}

#[tokio::test]
async fn a_change_of_an_item_must_name_its_current_version() {
    let system = System::connect().await;
    let (admin, sku) = listed(&system, 7).await;
    let path = format!("/inventory/{sku}");
    let euros = json!({"amount": 399, "currency": "EUR"});
    let changed = replace(&admin, &sku, 1, &listing(&euros, 9)).await;
    changed.is(200, &item(&sku, &euros, 9, 0, 2));
    changed.is_view_of(2);
    assert_stocked(&system, &sku, &changed.body).await;

    replace(&admin, &sku, 1, &listing(&usd(1), 1)).await.is_problem(412, "stale-version");
    let unconditional = admin.request(Method::PUT, &path).json(&listing(&usd(1), 1)).send().await;
    unconditional.is_problem(428, "version-required");
    replace(&admin, &new_sku("tea"), 1, &listing(&usd(1), 1)).await.is_problem(404, "not-found");
    // An item that is to be created has no version.
    for sku in [&sku, &new_sku("tea")] {
        let both = admin.request(Method::PUT, &format!("/inventory/{sku}")).if_match(2);
        let both = both.header("if-none-match", "*").json(&listing(&usd(1), 1)).send().await;
        both.is_problem(412, "stale-version");
    }
    let other = admin.request(Method::PUT, &path).if_match(2).header("if-none-match", "\"2\"");
    other.json(&listing(&usd(1), 1)).send().await.is_problem(412, "stale-version");
    assert_stocked(&system, &sku, &changed.body).await;
    // An item without stock still exists.
    replace(&admin, &sku, 2, &listing(&euros, 0)).await.is(200, &item(&sku, &euros, 0, 0, 3));
}

#[tokio::test]
async fn only_an_admin_can_change_the_stock() {
    let system = System::connect().await;
    let (_, sku) = listed(&system, 7).await;
    let (buyer, new) = (system.registered("Ara").await, new_sku("tea"));
    create(&buyer, &new, &listing(&usd(1), 1)).await.is_problem(403, "forbidden");
    replace(&buyer, &sku, 1, &listing(&usd(1), 1)).await.is_problem(403, "forbidden");
    // The role is checked before the request.
    replace(&buyer, &sku, 9, &json!({})).await.is_problem(403, "forbidden");
    system.get(&format!("/inventory/{new}")).await.is_problem(404, "not-found");
    assert_stocked(&system, &sku, &item(&sku, &usd(450), 7, 0, 1)).await;
}

#[tokio::test]
async fn only_staff_see_how_many_are_on_hand_and_reserved() {
    let system = System::connect().await;
    let (admin, sku) = listed(&system, 7).await;
    reserve(&system, Uuid::now_v7(), &sku, 3).await.unwrap();
    let whole = item(&sku, &usd(450), 7, 3, 1);
    let path = format!("/inventory/{sku}");
    admin.get(&format!("/staff{path}")).await.is(200, &whole);
    // Not even an admin sees more than buyers do where everyone looks.
    for answer in [system.get(&path).await, admin.get(&path).await] {
        answer.is(200, &shown(&whole));
    }
    let buyer = system.registered("Ara").await;
    for path in
        ["/staff/inventory".to_owned(), format!("/staff{path}"), "/staff/inventory/unknown".to_owned()]
    {
        buyer.get(&path).await.is_problem(403, "forbidden");
        assert_eq!(system.get(&path).await.status, 401);
    }
    admin.get(&format!("/staff/inventory/{}", new_sku("tea"))).await.is_problem(404, "not-found");
    admin.get("/staff/inventory/green%20tea").await.is_problem(404, "not-found");
}

#[tokio::test]
async fn an_invalid_listing_gets_an_error_per_field_and_is_not_stored() {
    let system = System::connect().await;
    let (admin, sku) = (system.admin().await, new_sku("tea"));
    let with = |field: &str, value: Value| {
        let mut body = listing(&usd(1), 1);
        body[field] = value;
        body
    };
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({}), &["/name", "/unit_price", "/on_hand"]),
        (with("name", json!("")), &["/name"]),
        (with("name", json!("n".repeat(201))), &["/name"]),
        (with("name", json!("\u{3164}\u{200b}")), &["/name"]),
        (with("name", json!("a\u{2028}b")), &["/name"]),
        (with("on_hand", json!(-1)), &["/on_hand"]),
        (with("on_hand", json!(1.5)), &["/on_hand"]),
        (with("on_hand", json!(1_000_000_001)), &["/on_hand"]),
        (with("on_hand", json!("1")), &["/on_hand"]),
        (with("unit_price", json!(450)), &["/unit_price"]),
        (with("unit_price", usd(0)), &["/unit_price/amount"]),
        (with("unit_price", usd(-1)), &["/unit_price/amount"]),
        // A single one would cost more than the largest total of an order.
        (with("unit_price", usd(9_007_199_254_740_992)), &["/unit_price/amount"]),
        (
            with("unit_price", json!({"amount": 9_223_372_036_854_775_808_u64, "currency": "Won"})),
            &["/unit_price/amount", "/unit_price/currency"],
        ),
        (with("reserved", json!(0)), &["/reserved"]),
        (with("available", json!(1)), &["/available"]),
        (with("version", json!(7)), &["/version"]),
        (with("sku", json!(sku)), &["/sku"]),
    ];
    for (body, pointers) in cases {
        create(&admin, &sku, &body).await.is_invalid(pointers);
    }
    system.get(&format!("/inventory/{sku}")).await.is_problem(404, "not-found");
    let raw = admin.request(Method::PUT, &format!("/inventory/{sku}")).header("if-none-match", "*");
    raw.raw("application/json", "{").send().await.is_problem(400, "unreadable");
}

#[tokio::test]
async fn a_sku_has_1_to_64_plain_characters() {
    let system = System::connect().await;
    let admin = system.admin().await;
    // One or two dots cannot be tested: clients remove such path segments.
    for bad in ["green%20tea", "tea%23", "%EC%B0%A8", "...", &"x".repeat(65)] {
        create(&admin, bad, &listing(&usd(1), 1)).await.is_invalid(&["/sku"]);
        system.get(&format!("/inventory/{bad}")).await.is_problem(404, "not-found");
    }
    // A UUID of 36 characters makes the SKU unique.
    let longest = format!("{}.{}_{}", Uuid::now_v7(), "x".repeat(13), "y".repeat(13));
    create(&admin, &longest, &listing(&usd(1), 1)).await.is(201, &item(&longest, &usd(1), 1, 0, 1));
}

#[tokio::test]
async fn the_stock_is_listed_by_sku_page_by_page() {
    let system = System::connect().await;
    let admin = system.admin().await;
    let mut mine: HashMap<String, Value> = HashMap::new();
    for name in ["zz", "aa", "mm", "mn", "AA"] {
        let sku = new_sku(name);
        mine.insert(sku.clone(), create(&admin, &sku, &listing(&usd(450), 3)).await.body);
    }
    // Staff see whole items, buyers a part of each.
    let lists = [("/inventory", shown as fn(&Value) -> Value), ("/staff/inventory", Value::clone)];
    for (list, visible) in lists {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{list}?limit=100{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let items = page.body["items"].as_array().unwrap();
            assert!(
                items.len() == 100 || page.body["next_cursor"].is_null(),
                "a page before the last is not full"
            );
            seen.extend(items.iter().cloned());
            match page.body["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let skus: Vec<&str> = seen.iter().map(|item| item["sku"].as_str().unwrap()).collect();
        assert!(skus.windows(2).all(|pair| pair[0] < pair[1]), "not in order, or one twice: {skus:?}");
        for (sku, item) in &mine {
            let found: Vec<&Value> = seen.iter().filter(|seen| seen["sku"] == sku.as_str()).collect();
            assert_eq!(found, [&visible(item)]);
        }
        let one = admin.get(&format!("{list}?limit=1")).await;
        assert_eq!(one.body["items"], json!([seen[0]]));
        admin.get(&format!("{list}?limit=0")).await.is_invalid(&["/limit"]);
        admin.get(&format!("{list}?cursor=nonsense")).await.is_invalid(&["/cursor"]);
    }
    // A cursor of the one list is refused by the other.
    let one = system.get("/inventory?limit=1").await;
    let cursor = one.body["next_cursor"].as_str().unwrap();
    admin.get(&format!("/staff/inventory?cursor={cursor}")).await.is_invalid(&["/cursor"]);
}

#[tokio::test]
async fn a_reservation_keeps_the_version_and_a_sale_increments_it() {
    let system = System::connect().await;
    let (_, sku) = listed(&system, 10).await;
    let staff = system.staff().await;
    let assert_stock = async |on_hand, reserved, version| {
        let answer = staff.get(&format!("/staff/inventory/{sku}")).await;
        answer.is(200, &item(&sku, &usd(450), on_hand, reserved, version));
        answer.is_view_of(version);
    };
    let (sold, dropped) = (Uuid::now_v7(), Uuid::now_v7());
    let line = json!({"sku": sku, "quantity": 3, "unit_price": usd(450)});
    let reserved = Ok(json!({"lines": [line], "total": usd(1350)}));
    // Each step runs twice. The second time changes nothing.
    for _ in 0..2 {
        assert_eq!(reserve(&system, sold, &sku, 3).await, reserved);
        assert_eq!(reserve(&system, dropped, &sku, 3).await, reserved);
        assert_stock(10, 6, 1).await;
    }
    for _ in 0..2 {
        step(&system, "inventory-release", dropped).await;
        assert_stock(10, 3, 1).await;
    }
    for _ in 0..2 {
        step(&system, "inventory-commit", sold).await;
        assert_stock(7, 0, 2).await;
    }
    for _ in 0..2 {
        step(&system, "inventory-release", sold).await;
        assert_stock(10, 0, 3).await;
    }
    // A released reservation cannot be made or committed again.
    for order in [sold, dropped] {
        assert_eq!(reserve(&system, order, &sku, 3).await, Err("Order.Cancelled".to_owned()));
        let commit = json!({"order_id": order, "traceparent": null});
        assert_eq!(system.step("inventory-commit", &commit).await, Err("Transient".to_owned()));
    }
    assert_stock(10, 0, 3).await;
}

#[tokio::test]
async fn an_admin_can_edit_a_reserved_item_but_not_below_what_is_reserved() {
    let system = System::connect().await;
    let (admin, sku) = listed(&system, 10).await;
    let order = Uuid::now_v7();
    reserve(&system, order, &sku, 4).await.unwrap();
    // A reservation does not change the version.
    replace(&admin, &sku, 1, &listing(&usd(500), 3)).await.is_problem(409, "conflict");
    let lowest = replace(&admin, &sku, 1, &listing(&usd(500), 4)).await;
    lowest.is(200, &item(&sku, &usd(500), 4, 4, 2));
    assert_eq!(reserve(&system, Uuid::now_v7(), &sku, 1).await, Err("Inventory.OutOfStock".to_owned()));

    // The reservation keeps its price.
    let kept = reserve(&system, order, &sku, 4).await.unwrap();
    assert_eq!(kept["total"], usd(1800));
    step(&system, "inventory-commit", order).await;
    assert_stocked(&system, &sku, &item(&sku, &usd(500), 0, 0, 3)).await;
    // An edit based on a version from before the sale would put the sold items back.
    replace(&admin, &sku, 2, &listing(&usd(500), 4)).await.is_problem(412, "stale-version");
}

#[tokio::test]
async fn a_reservation_that_was_released_before_it_was_made_is_refused() {
    let system = System::connect().await;
    let (_, sku) = listed(&system, 10).await;
    let order = Uuid::now_v7();
    step(&system, "inventory-release", order).await;
    assert_eq!(reserve(&system, order, &sku, 1).await, Err("Order.Cancelled".to_owned()));
    assert_stocked(&system, &sku, &item(&sku, &usd(450), 10, 0, 1)).await;
}

#[tokio::test]
async fn exactly_ten_of_a_hundred_orders_for_the_last_ten_items_are_confirmed() {
    let _turn = turn(&[PROCESSORS], &[]).await;
    let system = System::connect().await;
    let (_, sku) = listed(&system, 10).await;
    let buyers: Vec<Person> =
        stream::iter(0..10).map(|_| system.registered("Ara")).buffer_unordered(10).collect().await;
    let decided: Vec<Answer> = stream::iter(0..100)
        .map(async |number: usize| {
            let buyer = &buyers[number % buyers.len()];
            buyer.wait_until_decided(buyer.orders(&sku, 1, CARD).await).await
        })
        .buffer_unordered(20)
        .collect()
        .await;

    let mut ends: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    for answer in &decided {
        let end = (answer.body["status"].as_str().unwrap(), answer.body["reason"].as_str());
        *ends.entry(end).or_default() += 1;
    }
    let expected = HashMap::from([(("CONFIRMED", None), 10), (("REJECTED", Some("out_of_stock")), 90)]);
    assert_eq!(ends, expected);
    let orders: Vec<Uuid> = decided.iter().map(Answer::id).collect();
    wait_until_settled(&system, &orders).await;
    assert_eq!(assert_invariants(&system, &orders, &sku, 10).await, 10);
    assert_stocked(&system, &sku, &item(&sku, &usd(450), 0, 0, 11)).await;
}
