//! The HTTP endpoints.

use events::Sku;
use kernel::problem::{Kind, Problem};
use runtime::{
    aws::identity_provider::UserPool,
    serve::http::{Reply, Request},
    table::aggregate::until_written,
};

use crate::{
    stock::{CatalogueItem, Listing, StockItem},
    store::Inventory,
};

/// The group that manages the stock.
const STAFF: &str = "admin";

/// `GET /inventory`, by SKU: what buyers see.
pub async fn list(inventory: &Inventory, request: &Request) -> Result<Reply, Problem> {
    let page = request.page("inventory")?;

    let found = inventory.list(&page).await?;
    Reply::ok(&found.map(CatalogueItem::from).into_page(&page))
}

/// `GET /inventory/{sku}`: what buyers see.
pub async fn get(inventory: &Inventory, request: &Request) -> Result<Reply, Problem> {
    let item = find(inventory, request).await?;
    let version = item.version;
    Ok(Reply::ok(&CatalogueItem::from(item))?.etag_of_view(version))
}

/// `GET /staff/inventory`, by SKU, with all counts.
pub async fn staff_list(
    (inventory, pool): &(Inventory, UserPool),
    request: &Request,
) -> Result<Reply, Problem> {
    pool.require_member(request, STAFF).await?;
    let page = request.page("staff inventory")?;

    let found = inventory.list(&page).await?;
    Reply::ok(&found.into_page(&page))
}

/// `GET /staff/inventory/{sku}`, with all counts.
pub async fn staff_get(
    (inventory, pool): &(Inventory, UserPool),
    request: &Request,
) -> Result<Reply, Problem> {
    pool.require_member(request, STAFF).await?;
    let item = find(inventory, request).await?;
    Ok(Reply::ok(&item)?.etag_of_view(item.version))
}

/// The item that the path names.
async fn find(inventory: &Inventory, request: &Request) -> Result<StockItem, Problem> {
    // What is not a SKU cannot be the id of an item.
    let sku = Sku::parse(request.parameter("sku")).ok_or_else(|| Problem::not_found("stock item"))?;
    inventory.find(&sku).await
}

/// `PUT /inventory/{sku}`, by administrators: lists an item with `If-None-Match: *`, changes one with `If-Match`.
pub async fn put((inventory, pool): &(Inventory, UserPool), request: &Request) -> Result<Reply, Problem> {
    pool.require_member(request, STAFF).await?;
    // Browsers resolve `.` and `..` in a path, so they could never reach such an item.
    let sku = Sku::parse(request.parameter("sku")).filter(|sku| !sku.as_str().chars().all(|c| c == '.'));
    let sku = sku.ok_or_else(|| {
        let detail = "must be 1 to 64 letters, digits, dots, underscores and hyphens, and not dots alone";
        Problem::invalid_field("/sku", detail)
    })?;
    let listing = Listing::read(request.json()?)?;

    if request.preconditions().creates_only()? {
        let item = StockItem::list(sku, listing);
        inventory.create(&item).await?;
        return Ok(Reply::created(&item, item.sku.as_str())?.etag_of_view(item.version));
    }
    if !request.preconditions().names_a_version() {
        return Err(Problem::new(
            Kind::VersionRequired,
            "send If-None-Match: * to list a new item, or If-Match with the ETag of your last GET to change one",
        ));
    }
    let edited = until_written(async || {
        let read = inventory.find(&sku).await?;
        request.require_match(read.version)?;
        // The item can be reserved after this read, so the write checks again.
        inventory.edit(&sku, read.version, listing.clone()).await
    });
    let item = edited.await?.ok_or_else(Problem::concurrent_change)?;
    Ok(Reply::ok(&item)?.etag_of_view(item.version))
}
