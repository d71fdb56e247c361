//! The contract of the endpoints, for `infra/openapi.json`.

use events::Sku;
use kernel::{
    contract::{Header, Operation, json},
    operation,
    page::Page,
    problem::Kind,
};

use crate::{
    endpoints,
    stock::{CatalogueItem, Listing, StockItem},
};

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let item = json!({
        "sku": "TEA-01", "name": "Green tea", "unit_price": {"amount": 450, "currency": "USD"}, "on_hand": 100,
        "reserved": 2, "available": 98, "version": 1,
    });
    let shown = json!({
        "sku": "TEA-01", "name": "Green tea", "unit_price": {"amount": 450, "currency": "USD"}, "available": 98,
        "version": 1,
    });
    let mut listed = item.clone();
    (listed["reserved"], listed["available"]) = (json!(0), json!(100));
    vec![
        operation!("inventory-list", "GET", "/inventory", endpoints::list)
            .named("listInventory", "List stock items")
            .about("By SKU.")
            .paginated()
            .answers::<Page<CatalogueItem>>(
                200,
                "A page of stock items.",
                json!({"items": [shown.clone()], "next_cursor": null}),
            ),
        operation!("inventory-get", "GET", "/inventory/{sku}", endpoints::get)
            .named("getStockItem", "Get a stock item")
            .about("With its price and how many can be ordered.")
            .path::<Sku>("sku", "The stock keeping unit.", "TEA-01")
            .answers::<CatalogueItem>(200, "The stock item.", shown)
            .with_headers(&[Header::ETag]),
        operation!("inventory-staff", "GET", "/staff/inventory", endpoints::staff_list)
            .named("listStock", "List stock items with all counts")
            .about(
                "By SKU. For members of the group `admin`, whom the user pool knows as such at this moment.",
            )
            .for_group("admin")
            .paginated()
            .answers::<Page<StockItem>>(
                200,
                "A page of stock items.",
                json!({"items": [item.clone()], "next_cursor": null}),
            ),
        operation!("inventory-staff", "GET", "/staff/inventory/{sku}", endpoints::staff_get)
            .named("getStock", "Get a stock item with all counts")
            .about("For members of the group `admin`, whom the user pool knows as such at this moment.")
            .for_group("admin")
            .path::<Sku>("sku", "The stock keeping unit.", "TEA-01")
            .answers::<StockItem>(200, "The stock item.", item.clone())
            .with_headers(&[Header::ETag]),
        operation!("inventory-put", "PUT", "/inventory/{sku}", endpoints::put)
            .named("putStockItem", "Create or change a stock item")
            .about("For members of the group `admin`, whom the user pool knows as such at this moment.")
            .for_group("admin")
            .refuses(&[Kind::Conflict])
            .path::<Sku>("sku", "The stock keeping unit.", "TEA-01")
            .accepts_conditions()
            .takes::<Listing>(json!({
                "name": "Green tea", "unit_price": {"amount": 450, "currency": "USD"}, "on_hand": 100,
            }))
            .answers::<StockItem>(200, "The changed stock item.", item)
            .with_headers(&[Header::ETag])
            .answers::<StockItem>(201, "The new stock item.", listed)
            .with_headers(&[Header::ETag, Header::Location("TEA-01")])
            .leads_to("getStockItem", &[("sku", "$response.body#/sku")]),
    ]
}
