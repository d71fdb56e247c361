//! Lists stock, places orders, and afterwards checks the invariants in the tables' and the provider's records.

use std::{collections::HashMap, fs, path::PathBuf};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sfn::types::{ExecutionStatus, HistoryEvent, HistoryEventType};
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

use crate::{
    Answer, Person, System, eventually,
    faults::{Environments, change_variables, finally, restore_variables},
};

/// A card whose payments succeed.
pub const CARD: &str = "pm_card_visa";
/// A card whose payments are declined.
pub const DECLINED: &str = "pm_card_chargeDeclined";

/// The functions of the saga's steps, in order.
pub const STEPS: [&str; 6] = [
    "orders-validate-user",
    "inventory-reserve",
    "payments-authorize",
    "orders-confirm",
    "payments-capture",
    "inventory-commit",
];
/// The functions of the saga's compensations, in order.
pub const COMPENSATIONS: [&str; 4] =
    ["orders-abort", "payments-cancel", "inventory-release", "orders-reject"];

/// The functions that handle an order, the reconciler included: a test that injects faults needs them as they were deployed.
pub fn saga() -> Vec<&'static str> {
    [&["orders-place", "orders-reconcile", "orders-park"][..], &STEPS, &COMPENSATIONS].concat()
}

/// A SKU that no other test uses.
pub fn new_sku(name: &str) -> String {
    format!("{name}-{}", Uuid::now_v7().simple())
}

/// US dollars, in cents.
pub fn usd(amount: i64) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

impl System {
    /// A member of the group `admin`.
    pub async fn admin(&self) -> Person {
        // Boxed, because callers await several at once and the SDK's futures are large.
        let mut person = Box::pin(self.registered("Admin")).await;
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(&self.aws);
        let add = cognito.admin_add_user_to_group().user_pool_id(self.output("user_pool_id"));
        add.username(&person.email).group_name("admin").send().await.expect("AdminAddUserToGroup");
        // Only tokens that are issued from now on name the group.
        person.sign_in().await.expect("InitiateAuth");
        person
    }

    /// An admin who reads the stock for all tests of this process.
    pub async fn staff(&self) -> Person {
        static STAFF: OnceCell<Person> = OnceCell::const_new();
        let staff = STAFF.get_or_init(|| self.admin()).await.clone();
        // Another test's HTTP client ends with that test.
        Person { system: self.clone(), ..staff }
    }

    /// A stock item with all its counts.
    pub async fn stock(&self, sku: &str) -> Value {
        // Boxed, because callers await several at once and the SDK's futures are large.
        let staff = Box::pin(self.staff()).await;
        let answer = staff.get(&format!("/staff/inventory/{sku}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// One item of a table.
    pub async fn item(&self, table: &str, pk: &str, sk: &str) -> Option<Value> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&self.aws);
        let request = dynamodb.get_item().table_name(table).consistent_read(true);
        let key = |value: &str| AttributeValue::S(value.to_owned());
        let get = request.key("pk", key(pk)).key("sk", key(sk)).send();
        // Boxed, because callers await several at once and the SDK's futures are large.
        let answer = Box::pin(get).await.expect("GetItem");
        answer.item.map(|item| serde_dynamo::from_item(item).expect("an item as JSON"))
    }

    /// The ARN of an execution of the order saga.
    pub fn execution(&self, name: &str) -> String {
        let machine = self.output("state_machine_arn");
        format!("{}:{name}", machine.replacen(":stateMachine:", ":execution:", 1))
    }

    /// The status of an execution, if there is one.
    pub async fn execution_status(&self, name: &str) -> Option<ExecutionStatus> {
        let client = aws_sdk_sfn::Client::new(&self.aws);
        let answer = client.describe_execution().execution_arn(self.execution(name)).send().await;
        match answer {
            Ok(answer) => Some(answer.status),
            Err(error) => {
                assert!(
                    error.as_service_error().is_some_and(
                        aws_sdk_sfn::operation::describe_execution::DescribeExecutionError::is_execution_does_not_exist
                    ),
                    "{error:?}"
                );
                None
            }
        }
    }

    /// The history of an execution, oldest event first.
    pub async fn history(&self, name: &str) -> Vec<HistoryEvent> {
        let client = aws_sdk_sfn::Client::new(&self.aws);
        let request = client.get_execution_history().execution_arn(self.execution(name)).max_results(1000);
        request.send().await.expect("GetExecutionHistory").events
    }

    /// The states that an execution visited, in order.
    pub async fn path(&self, name: &str) -> Vec<String> {
        let history = self.history(name).await;
        let entered = history.iter().filter(|event| event.r#type == HistoryEventType::TaskStateEntered);
        entered.map(|event| event.state_entered_event_details().unwrap().name().to_owned()).collect()
    }

    /// Waits until the reconciler has started an execution of this name. It does so half a minute after the order was placed.
    pub async fn wait_until_started(&self, name: &str) -> ExecutionStatus {
        eventually(&format!("{name} is started"), async || {
            self.reconcile().await;
            self.execution_status(name).await
        })
        .await
    }

    /// Runs the reconciler now instead of at the next full minute.
    pub async fn reconcile(&self) {
        let lambda = aws_sdk_lambda::Client::new(&self.aws);
        let answer = lambda.invoke().function_name("orders-reconcile").send().await.expect("Invoke");
        assert_eq!(answer.function_error, None, "{answer:?}");
    }
}

impl Person {
    /// Lists a new item, as an admin.
    pub async fn stocks(&self, sku: &str, price: &Value, on_hand: u32) {
        let body = json!({"name": format!("A {sku}"), "unit_price": price, "on_hand": on_hand});
        let request = self.request(reqwest::Method::PUT, &format!("/inventory/{sku}"));
        let answer = request.header("if-none-match", "*").json(&body).send().await;
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Orders a quantity of one item.
    pub async fn orders(&self, sku: &str, quantity: u32, payment_method: &str) -> Uuid {
        self.orders_with_key(&new_sku("key"), &order(sku, quantity, payment_method)).await
    }

    /// Places an order with an `Idempotency-Key`.
    pub async fn orders_with_key(&self, key: &str, body: &Value) -> Uuid {
        self.creates("/orders", key, body, 202).await
    }

    /// Waits until an order of this person is no longer pending, and returns it.
    pub async fn wait_until_decided(&self, order: Uuid) -> Answer {
        eventually(&format!("order {order} is decided"), async || {
            let answer = self.get(&format!("/orders/{order}")).await;
            assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
            (answer.status == 200 && answer.body["status"] != "PENDING").then_some(answer)
        })
        .await
    }
}

/// A buyer, and the SKU of an item at 4.50 with this stock.
pub async fn shop(system: &System, on_hand: u32) -> (Person, String) {
    let (_, buyer, sku) = shop_with_admin(system, on_hand).await;
    (buyer, sku)
}

/// An admin, a buyer, and the SKU of an item at 4.50 with this stock.
pub async fn shop_with_admin(system: &System, on_hand: u32) -> (Person, Person, String) {
    let (admin, buyer) = tokio::join!(system.admin(), system.registered("Ara"));
    let sku = new_sku("tea");
    admin.stocks(&sku, &usd(450), on_hand).await;
    (admin, buyer, sku)
}

/// The body of an order of one item.
pub fn order(sku: &str, quantity: u32, payment_method: &str) -> Value {
    json!({"items": [{"sku": sku, "quantity": quantity}], "payment_method": payment_method})
}

/// The id of the order that this person places with this `Idempotency-Key`. Tests need it before they place the order, to
/// inject faults.
pub fn order_id(buyer: &Person, key: &str) -> Uuid {
    let key = kernel::idempotency::IdempotencyKey::parse(key.as_bytes()).expect("a key");
    kernel::idempotency::CreationRequest::new(buyer.id, "POST /orders", Some(&key), &()).id()
}

/// The records of an order, each with the status that its owner gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecords {
    /// The order's status in its table.
    pub order: String,
    /// The reservation's status.
    pub reservation: String,
    /// The payment's status in its table.
    pub payment: String,
    /// The payment's status at the provider.
    pub provider: String,
}

impl OrderRecords {
    /// Reads all four. One that does not exist is `none`.
    pub async fn read(system: &System, order: Uuid) -> Self {
        let pk = format!("order#{order}");
        let (paid, intent) = (format!("payment#{order}"), format!("sandbox#{order}"));
        let (stored, reservation, payment, intent) = tokio::join!(
            system.item("orders", &pk, "order"),
            system.item("inventory", &pk, "reservation"),
            system.item("payments", &paid, "payment"),
            system.item("payments", &intent, "intent"),
        );
        let word = |item: Option<Value>, name: &str| match item {
            Some(item) if item[name].is_string() => item[name].as_str().unwrap().to_uppercase(),
            Some(_) => "TOMBSTONE".to_owned(),
            None => "none".to_owned(),
        };
        Self {
            order: word(stored, "status"),
            reservation: word(reservation, "state"),
            payment: word(payment, "status"),
            provider: word(intent, "status"),
        }
    }

    /// Says which records violate the invariants of a settled order, if they do.
    pub fn violation(&self) -> Option<String> {
        let words = [self.order.as_str(), &self.reservation, &self.payment, &self.provider];
        let valid = match words {
            ["CONFIRMED", "COMMITTED", "CAPTURED", "CAPTURED"] => true,
            ["REJECTED" | "CANCELLED", reservation, payment, provider] => {
                matches!(reservation, "RELEASED" | "none")
                    && matches!(payment, "DECLINED" | "CANCELLED" | "REFUNDED" | "TOMBSTONE" | "none")
                    && matches!(provider, "OPEN" | "DECLINED" | "CANCELLED" | "REFUNDED" | "none")
            }
            _ => false,
        };
        (!valid).then(|| format!("{self:?}"))
    }
}

/// Asserts the invariants for these settled orders, and for an item with an initial stock of `on_hand`, which no other order
/// contains. Returns the number of confirmed orders.
pub async fn assert_invariants(system: &System, orders: &[Uuid], sku: &str, on_hand: u64) -> usize {
    let (mut confirmed, mut sold) = (0, 0);
    for order in orders {
        let records = OrderRecords::read(system, *order).await;
        assert_eq!(records.violation(), None, "order {order}");
        if records.order == "CONFIRMED" {
            confirmed += 1;
            let stored = system.item("orders", &format!("order#{order}"), "order").await.unwrap();
            let items = stored["items"].as_array().unwrap().iter();
            sold += items
                .filter(|item| item["sku"] == sku)
                .map(|item| item["quantity"].as_u64().unwrap())
                .sum::<u64>();
        }
    }
    let stock = system.stock(sku).await;
    assert!(sold <= on_hand, "{sold} sold of {on_hand}");
    let left = on_hand - sold;
    let counts = (&stock["on_hand"], &stock["reserved"], &stock["available"]);
    assert_eq!(counts, (&json!(left), &json!(0), &json!(left)), "{sku}");
    confirmed
}

/// The folder in which the steps of the saga look for faults: see `runtime::serve::faults`.
fn faults_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.local/faults")
}

/// Injects faults into a step of an order: one into each of its next invocations.
pub fn inject(order: Uuid, function: &str, faults: &[&str]) {
    let folder = faults_folder().join(order.to_string()).join(function);
    fs::create_dir_all(&folder).expect("a folder for faults");
    for (index, fault) in faults.iter().enumerate() {
        fs::write(folder.join(format!("{index:02}-{fault}")), "").expect("a fault");
    }
}

/// Removes the faults of an order that have not happened yet.
pub fn remove_faults(order: Uuid) {
    fs::remove_dir_all(faults_folder().join(order.to_string())).expect("an order's faults");
}

/// The number of an order's faults that have not happened yet.
pub fn faults_left(order: Uuid) -> usize {
    let folders = fs::read_dir(faults_folder().join(order.to_string())).into_iter().flatten().flatten();
    folders.map(|folder| fs::read_dir(folder.path()).map_or(0, Iterator::count)).sum()
}

/// The number of tests that use fault injection, and the steps' environments without it.
static INJECTING: Mutex<(usize, Environments)> = Mutex::const_new((0, Vec::new()));

/// Turns fault injection on in the steps of the saga while `test` runs. Several tests may do so at once.
pub async fn with_faults<T>(system: &System, test: impl AsyncFnOnce() -> T) -> T {
    let mut injecting = INJECTING.lock().await;
    if injecting.0 == 0 {
        let folder = faults_folder();
        fs::create_dir_all(&folder).expect("a folder for faults");
        let folder = folder.canonicalize().expect("its path").to_str().expect("a path of UTF-8").to_owned();
        let steps = [&STEPS[..], &COMPENSATIONS, &["orders-park"]].concat();
        let variables = HashMap::from([("FAULTS".to_owned(), folder)]);
        injecting.1 = change_variables(system, &steps, &variables).await;
    }
    injecting.0 += 1;
    drop(injecting);
    let restore = async {
        let mut injecting = INJECTING.lock().await;
        injecting.0 -= 1;
        if injecting.0 == 0 {
            restore_variables(system, std::mem::take(&mut injecting.1)).await;
            drop(fs::remove_dir_all(faults_folder()));
        }
    };
    finally(Box::pin(test()), Box::pin(restore)).await
}

/// Waits until these orders are settled and their latest executions have succeeded.
pub async fn wait_until_settled(system: &System, orders: &[Uuid]) {
    for order in orders {
        eventually(&format!("order {order} is settled"), async || {
            let stored = system.item("orders", &format!("order#{order}"), "order").await.unwrap();
            let name = match stored["attempt"].as_u64().unwrap() {
                1 => order.to_string(),
                attempt => format!("{order}-{attempt}"),
            };
            let status = system.execution_status(&name).await;
            (stored["status"] != "PENDING" && status == Some(ExecutionStatus::Succeeded)).then_some(())
        })
        .await;
    }
}
