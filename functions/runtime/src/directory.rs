//! Where the other services are.
//!
//! | | source | a change takes effect |
//! |---|---|---|
//! | [`Static`] | the environment: `USERS_URL`, `USERS_LOOKUP` | with a deployment of the caller |
//! | [`Dynamic`] | AWS Cloud Map: the namespace's healthy instances | within [`LIFE`], for every caller |
//!
//! The template's parameter `Discovery` chooses one. Both return all instances; the caller chooses among them
//! ([`calls`](crate::calls)).
//!
//! # The cache
//!
//! An answer of Cloud Map is used for [`LIFE`]. If it is older than [`AGING`], it is still used while a new one is fetched in
//! the background, so that frequent callers never wait. An expired answer is replaced before it is used. If Cloud Map does not
//! respond, the last good answer is used for another [`LIFE`], with a retry in the background every [`PAUSE`]. If a caller
//! reports that an instance does not work, a new answer is fetched at once.
//!
//! No library does this. moka, the obvious one, drops a value when it expires, but here a value must be able to outlive its
//! time, and be refreshed shortly before. Nothing runs between calls, because Lambda freezes a function then. So a map and
//! three points in time are enough.

use std::{
    collections::HashMap,
    env, error, fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::OnceCell;

pub use crate::cloud_map::Instance;
use crate::{
    Error,
    cloud_map::{self, CloudMap},
    environment,
    http::error_chain,
    telemetry,
};

/// How long an answer of Cloud Map is used.
pub const LIFE: Duration = Duration::from_secs(30);
/// The age at which a new answer is fetched while the old one is still used.
pub const AGING: Duration = Duration::from_secs(20);
/// The pause after a request that Cloud Map did not answer.
pub const PAUSE: Duration = Duration::from_secs(5);
/// The minimum age of an answer before a caller's report invalidates it, so that a service that is down for long does not
/// cause a lookup at every attempt.
const BEYOND_DOUBT: Duration = Duration::from_secs(1);

/// The instances of one service; at least one.
pub type Instances = Arc<[Instance]>;

/// Finds services.
pub trait Directory: fmt::Debug + Send + Sync {
    /// The instances of a service that can be called.
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, Unresolved>>;

    /// Reports that an instance did not work: the next answer should be a new one.
    fn doubt(&self, service: &str);
}

/// Why a service was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It has no instance that can be called; the text says where it was looked up.
    Nowhere(String),
    /// The directory itself does not work, and has never answered before.
    NoAnswer(String),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere(reason) | Self::NoAnswer(reason) => formatter.write_str(reason),
        }
    }
}

impl error::Error for Unresolved {}

/// The directory that the environment variable `DISCOVERY` chooses: one for all clients of a function.
pub async fn connect() -> Result<Arc<dyn Directory>, Error> {
    static DIRECTORY: OnceCell<Arc<dyn Directory>> = OnceCell::const_new();
    let directory = DIRECTORY.get_or_try_init(async || {
        Ok::<Arc<dyn Directory>, Error>(match environment::required("DISCOVERY")?.as_str() {
            "static" => Arc::new(Static::from_environment()),
            "cloudmap" => Arc::new(Dynamic::of(CloudMap::connect().await?)),
            other => return Err(format!("DISCOVERY is {other}: neither static nor cloudmap").into()),
        })
    });
    Ok(Arc::clone(directory.await?))
}

/// The value of a variable, by its name.
type Variable = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Addresses from the function's environment: `<SERVICE>_URL` and `<SERVICE>_LOOKUP`.
pub struct Static {
    variable: Box<Variable>,
}

impl fmt::Debug for Static {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Static")
    }
}

impl Static {
    /// The environment of this process.
    pub fn from_environment() -> Self {
        Self::new(|name| env::var(name).ok())
    }

    fn new(variable: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { variable: Box::new(variable) }
    }
}

impl Directory for Static {
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, Unresolved>> {
        let prefix = service.to_uppercase().replace('-', "_");
        let (url, lookup) = (format!("{prefix}_URL"), format!("{prefix}_LOOKUP"));
        let value = |name: &str| (self.variable)(name).filter(|value| !value.is_empty());
        let instance =
            Instance { id: "environment".to_owned(), url: value(&url), function_arn: value(&lookup) };
        let found = if instance.url.is_none() && instance.function_arn.is_none() {
            Err(Unresolved::Nowhere(format!("neither {url} nor {lookup} is in the function's environment")))
        } else {
            Ok(Arc::from([instance]))
        };
        async { found }.boxed()
    }

    fn doubt(&self, _: &str) {}
}

/// Addresses from Cloud Map.
#[derive(Clone, Debug)]
pub struct Dynamic {
    cloud_map: CloudMap,
    cache: Arc<Mutex<Cache>>,
}

impl Dynamic {
    /// The services of a namespace.
    pub fn of(cloud_map: CloudMap) -> Self {
        Self { cloud_map, cache: Arc::default() }
    }

    fn cached<T>(&self, work: impl FnOnce(&mut Cache, Instant) -> T) -> T {
        // No code panics while it holds the lock.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut cache, Instant::now())
    }

    async fn ask(&self, service: &str) -> Result<Instances, Unresolved> {
        match self.cloud_map.discover(service).await {
            Ok(found) if !found.is_empty() => {
                let found = Instances::from(found);
                self.cached(|cache, now| cache.put(service, Arc::clone(&found), now));
                Ok(found)
            }
            Ok(_) => {
                self.cached(|cache, _| cache.remove(service));
                Err(Unresolved::Nowhere(format!("Cloud Map has no healthy instance of {service}")))
            }
            Err(cloud_map::Error::UnknownService) => {
                self.cached(|cache, _| cache.remove(service));
                Err(Unresolved::Nowhere(format!("Cloud Map has no service {service}")))
            }
            Err(error) => {
                let cause = error_chain(&error);
                match self.cached(|cache, now| cache.keep(service, now)) {
                    Some(last) => {
                        tracing::warn!(service, cause, "Cloud Map does not answer; its last answer is kept");
                        Ok(last)
                    }
                    None => Err(Unresolved::NoAnswer(cause)),
                }
            }
        }
    }
}

impl Directory for Dynamic {
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, Unresolved>> {
        async move {
            match self.cached(|cache, now| cache.get(service, now)) {
                Cached::Good(instances) => Ok(instances),
                Cached::Aging(instances) => {
                    let (directory, service) = (self.clone(), service.to_owned());
                    // Runs beside the present call. If Lambda freezes it, it goes on during the next one.
                    tokio::spawn(telemetry::beside(async move { drop(directory.ask(&service).await) }));
                    Ok(instances)
                }
                Cached::None => self.ask(service).await,
            }
        }
        .boxed()
    }

    fn doubt(&self, service: &str) {
        self.cached(|cache, now| cache.doubt(service, now));
    }
}

/// The known addresses of services, and how old they are. Without clock and I/O.
#[derive(Debug, Default)]
struct Cache(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    instances: Instances,
    /// When Cloud Map was last called, whether or not it answered.
    asked: Instant,
    /// From then on a new answer is fetched in the background.
    ages: Instant,
    /// From then on callers wait for a new answer.
    expires: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Cached {
    Good(Instances),
    /// Good, but a new one should be fetched.
    Aging(Instances),
    None,
}

impl Cache {
    fn get(&mut self, service: &str, now: Instant) -> Cached {
        match self.0.get_mut(service) {
            Some(entry) if now < entry.ages => Cached::Good(Arc::clone(&entry.instances)),
            Some(entry) if now < entry.expires => {
                // One request at a time: the next caller assumes that this one will be answered.
                entry.ages = now + PAUSE;
                Cached::Aging(Arc::clone(&entry.instances))
            }
            _ => Cached::None,
        }
    }

    fn put(&mut self, service: &str, instances: Instances, now: Instant) {
        let entry = Entry { instances, asked: now, ages: now + AGING, expires: now + LIFE };
        self.0.insert(service.to_owned(), entry);
    }

    /// The last answer, if there was one, in place of a new one.
    fn keep(&mut self, service: &str, now: Instant) -> Option<Instances> {
        let entry = self.0.get_mut(service)?;
        (entry.asked, entry.ages, entry.expires) = (now, now + PAUSE, now + LIFE);
        Some(Arc::clone(&entry.instances))
    }

    fn doubt(&mut self, service: &str, now: Instant) {
        if let Some(entry) = self.0.get_mut(service)
            && now.saturating_duration_since(entry.asked) >= BEYOND_DOUBT
        {
            entry.ages = now;
            entry.expires = now;
        }
    }

    fn remove(&mut self, service: &str) {
        self.0.remove(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(url: &str) -> Instances {
        Arc::from([Instance { id: "a".to_owned(), url: Some(url.to_owned()), function_arn: None }])
    }

    /// A cache with an answer for users that is an hour old, and the present time.
    fn told() -> (Cache, Instant) {
        let (mut cache, now) = (Cache::default(), Instant::now() + Duration::from_hours(1));
        cache.put("users", at("https://one.example"), now);
        (cache, now)
    }

    #[test]
    fn an_answer_is_used_asked_for_anew_while_it_is_used_and_waited_for_once_it_has_expired() {
        let (mut cache, now) = told();
        let one = at("https://one.example");
        assert_eq!(cache.get("users", now), Cached::Good(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + Duration::from_secs(19)), Cached::Good(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + AGING), Cached::Aging(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + AGING + SECOND), Cached::Good(one), "asked for once");
        assert_eq!(cache.get("users", now + LIFE), Cached::None);
        assert_eq!(cache.get("posts", now), Cached::None);
    }

    #[test]
    fn the_last_answer_is_kept_without_anyone_waiting_while_no_new_one_comes() {
        let (mut cache, mut now) = told();
        let one = at("https://one.example");
        now += LIFE;
        assert_eq!(cache.keep("users", now), Some(Arc::clone(&one)));
        for _ in 0..100 {
            assert_eq!(cache.get("users", now), Cached::Good(Arc::clone(&one)));
            now += PAUSE;
            assert_eq!(cache.get("users", now), Cached::Aging(Arc::clone(&one)));
            assert_eq!(cache.keep("users", now), Some(Arc::clone(&one)));
        }
        assert_eq!(cache.keep("posts", now), None);
    }

    #[test]
    fn who_was_not_called_for_long_waits_for_a_new_answer_though_the_last_was_kept() {
        let (mut cache, now) = told();
        cache.keep("users", now);
        assert_eq!(cache.get("users", now + LIFE), Cached::None);
    }

    #[test]
    fn a_doubted_answer_is_asked_for_at_once_and_a_new_one_is_beyond_doubt_for_a_second() {
        let (mut cache, now) = told();
        cache.doubt("users", now + Duration::from_millis(999));
        assert_ne!(cache.get("users", now), Cached::None);
        cache.doubt("users", now + BEYOND_DOUBT);
        assert_eq!(cache.get("users", now + BEYOND_DOUBT), Cached::None);
        // Asked, and not answered.
        cache.keep("users", now + BEYOND_DOUBT);
        cache.doubt("users", now + BEYOND_DOUBT);
        assert_ne!(cache.get("users", now + BEYOND_DOUBT), Cached::None);
    }

    #[test]
    fn a_new_answer_replaces_the_old_one() {
        let (mut cache, now) = told();
        cache.put("users", at("https://two.example"), now + SECOND);
        assert_eq!(cache.get("users", now + LIFE), Cached::Aging(at("https://two.example")));
        cache.remove("users");
        assert_eq!(cache.get("users", now), Cached::None);
        assert_eq!(cache.keep("users", now), None);
    }

    #[tokio::test]
    async fn the_environment_names_an_address_or_the_variables_that_are_missing() {
        let directory = Static::new(|name| match name {
            "USERS_URL" => Some("https://one.example".to_owned()),
            "USERS_LOOKUP" | "STOCK_ROOM_URL" => Some(String::new()),
            "STOCK_ROOM_LOOKUP" => Some("arn".to_owned()),
            _ => None,
        });
        let environment = |url: Option<&str>, function: Option<&str>| -> Result<Instances, Unresolved> {
            let (url, function_arn) = (url.map(str::to_owned), function.map(str::to_owned));
            Ok(Arc::from([Instance { id: "environment".to_owned(), url, function_arn }]))
        };
        assert_eq!(directory.resolve("users").await, environment(Some("https://one.example"), None));
        assert_eq!(directory.resolve("stock-room").await, environment(None, Some("arn")));
        let expected = "neither POSTS_URL nor POSTS_LOOKUP is in the function's environment";
        assert_eq!(directory.resolve("posts").await, Err(Unresolved::Nowhere(expected.to_owned())));
    }
}
