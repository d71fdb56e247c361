//! The contract of the endpoints, for `infra/openapi.json`.

use kernel::{
    contract::{Header, Operation, json},
    operation,
    page::Page,
    problem::Kind,
};
use uuid::Uuid;

use crate::{
    draft::Draft,
    endpoints::{self, View},
};

/// The endpoints.
pub fn operations() -> Vec<Operation> {
    let id = "0190a6c7-6b1e-7c44-9d27-5f0c1e8a4b10";
    let location = Header::Location("orders/0190a6c7-6b1e-7c44-9d27-5f0c1e8a4b10");
    let placed = json!({
        "id": id, "status": "PENDING", "items": [{"sku": "TEA-01", "quantity": 2, "unit_price": null}], "total": null,
        "created_at": "2026-05-04T09:32:00.123456Z", "updated_at": "2026-05-04T09:32:00.123456Z", "version": 1,
    });
    let mut cancelled = placed.clone();
    (cancelled["status"], cancelled["reason"]) = (json!("CANCELLED"), json!("cancelled_by_user"));
    (cancelled["version"], cancelled["updated_at"]) = (json!(2), json!("2026-05-04T09:32:00.456789Z"));
    let confirmed = json!({
        "id": id, "status": "CONFIRMED",
        "items": [{"sku": "TEA-01", "quantity": 2, "unit_price": {"amount": 450, "currency": "USD"}}],
        "total": {"amount": 900, "currency": "USD"}, "created_at": "2026-05-04T09:32:00.123456Z",
        "updated_at": "2026-05-04T09:32:01.234567Z", "version": 2,
    });
    vec![
        operation!("orders-place", "POST", "/orders", endpoints::place)
            .named("placeOrder", "Place an order")
            .about(
                "The order is accepted, and processed afterwards: `GET` it until its status is no longer `PENDING`. \
                 Each SKU may appear once. One person may place 30 orders an hour, unless the operator has set another limit.",
            )
            .with_profile()
            .creates()
            .limited_per_person()
            .refuses(&[Kind::Conflict])
            .takes::<Draft>(json!({
                "items": [{"sku": "TEA-01", "quantity": 2}], "payment_method": "pm_card_visa",
                "expected_total": {"amount": 900, "currency": "USD"},
            }))
            .answers::<View<'_>>(202, "The order is accepted.", placed)
            .with_headers(&[Header::ETag, location])
            .leads_to("getOrder", &[("id", "$response.body#/id")])
            .leads_to("cancelOrder", &[("id", "$response.body#/id")]),
        operation!("orders-list", "GET", "/orders", endpoints::list)
            .named("listOrders", "List the caller's orders")
            .about("Newest first.")
            .signed_in()
            .paginated()
            .answers::<Page<View<'_>>>(
                200,
                "A page of orders.",
                json!({"items": [confirmed.clone()], "next_cursor": null}),
            ),
        operation!("orders-get", "GET", "/orders/{id}", endpoints::get)
            .named("getOrder", "Get an order")
            .about("Only the buyer's own.")
            .signed_in()
            .path::<Uuid>("id", "The order.", id)
            .answers::<View<'_>>(200, "The order.", confirmed)
            .with_headers(&[Header::ETag]),
        operation!("orders-cancel", "POST", "/orders/{id}/cancel", endpoints::cancel)
            .named("cancelOrder", "Cancel an order")
            .about("The caller's own, while it is pending and not being rejected. What was done for it is compensated.")
            .signed_in()
            .refuses(&[Kind::ProfileDeleted, Kind::Conflict])
            .path::<Uuid>("id", "The order.", id)
            .answers::<View<'_>>(202, "The order is cancelled.", cancelled)
            .with_headers(&[Header::ETag, location]),
    ]
}
