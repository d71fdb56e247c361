//! Where the other services are.
//!
//! | | source | a change takes effect |
//! |---|---|---|
//! | [`Static`] | the environment: `USERS_URL`, `USERS_LOOKUP` | with a deployment of the caller |
//! | [`Dynamic`] | AWS Cloud Map: the namespace's healthy instances | within [`TIME_TO_LIVE`], for every caller |
//!
//! The template's parameter `Discovery` chooses one. Both return all instances; the caller chooses among them
//! ([`calls`](super::calls)).
//!
//! # The cache
//!
//! An answer of Cloud Map is used for [`TIME_TO_LIVE`]. If it is older than [`REFRESH_AFTER`], it is still used while a new one is
//! fetched in the background, so that frequent callers never wait. An expired answer is replaced before it is used. If Cloud Map
//! does not respond, the last good answer stays in use, with a retry every [`RETRY_AFTER`] in the background; each failed retry
//! keeps it for another [`TIME_TO_LIVE`]. If a caller reports that an instance does not work, a new answer is fetched at once,
//! but at most once a second. There is one request at a time for each service: who needs the answer meanwhile waits for it.
//!
//! No library does this. moka drops a value when it expires, but here an expired value is still needed if Cloud Map does not respond,
//! and a value is refreshed shortly before it expires. A refresh ends with its invocation, because Lambda freezes a function then. So a
//! map and three points in time are enough.

use std::{
    collections::HashMap,
    env, fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use thiserror::Error as ThisError;
use tokio::sync::OnceCell;

pub use crate::aws::cloud_map::Instance;
use crate::{
    Error,
    aws::cloud_map::{self, CloudMap},
    background, environment,
    error::chain,
};

/// How long an answer of Cloud Map is used.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(30);
/// The age at which a new answer is fetched while the old one is still used.
pub const REFRESH_AFTER: Duration = Duration::from_secs(20);
/// The pause after a request that Cloud Map did not answer.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The minimum age of an answer before a caller's report invalidates it, so that a service that is down for long does not
/// cause a lookup at every attempt.
const MIN_AGE: Duration = Duration::from_secs(1);

/// The instances of one service; at least one.
pub type Instances = Arc<[Instance]>;

/// Finds services.
pub trait Directory: fmt::Debug + Send + Sync {
    /// The instances of a service that can be called.
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, ResolveError>>;

    /// Reports that an instance did not work, so that the next call fetches a new answer.
    fn invalidate(&self, service: &str);
}

/// Why a service was not found.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum ResolveError {
    /// It has no instance that can be called; the text says where it was looked up.
    #[error("{0}")]
    NotFound(String),
    /// The directory itself does not work, and no earlier answer is cached.
    #[error("{0}")]
    Unavailable(String),
}

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
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, ResolveError>> {
        let prefix = service.to_uppercase().replace('-', "_");
        let (url, lookup) = (format!("{prefix}_URL"), format!("{prefix}_LOOKUP"));
        let value = |name: &str| (self.variable)(name).filter(|value| !value.is_empty());
        let instance =
            Instance { id: "environment".to_owned(), url: value(&url), function_arn: value(&lookup) };
        let found = if instance.url.is_none() && instance.function_arn.is_none() {
            Err(ResolveError::NotFound(format!(
                "neither {url} nor {lookup} is in the function's environment"
            )))
        } else {
            Ok(Arc::from([instance]))
        };
        async { found }.boxed()
    }

    fn invalidate(&self, _: &str) {}
}

/// A request to Cloud Map that is under way, for all who wait for its answer.
type Question = BoxFuture<'static, Result<Instances, ResolveError>>;

/// Addresses from Cloud Map.
#[derive(Clone, Debug)]
pub struct Dynamic {
    cloud_map: CloudMap,
    cache: Arc<Mutex<Cache>>,
    questions: Arc<Mutex<HashMap<String, WeakShared<Question>>>>,
}

impl Dynamic {
    /// The services of a namespace.
    pub fn of(cloud_map: CloudMap) -> Self {
        Self { cloud_map, cache: Arc::default(), questions: Arc::default() }
    }

    fn cached<T>(&self, work: impl FnOnce(&mut Cache, Instant) -> T) -> T {
        // No code panics while it holds the lock.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut cache, Instant::now())
    }

    /// The request that is under way for a service, or a new one. It ends when nobody waits for it any more.
    fn ask(&self, service: &str) -> Shared<Question> {
        let mut questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = questions.get(service).and_then(WeakShared::upgrade);
        under_way.unwrap_or_else(|| {
            let (directory, name) = (self.clone(), service.to_owned());
            let question = async move { directory.fetch(&name).await }.boxed().shared();
            questions.extend(question.downgrade().map(|question| (service.to_owned(), question)));
            question
        })
    }

    async fn fetch(&self, service: &str) -> Result<Instances, ResolveError> {
        match self.cloud_map.discover(service).await {
            Ok(found) if !found.is_empty() => {
                let found = Instances::from(found);
                self.cached(|cache, now| cache.put(service, Arc::clone(&found), now));
                Ok(found)
            }
            Ok(_) => {
                self.cached(|cache, _| cache.remove(service));
                Err(ResolveError::NotFound(format!("Cloud Map has no healthy instance of {service}")))
            }
            Err(cloud_map::Error::UnknownService) => {
                self.cached(|cache, _| cache.remove(service));
                Err(ResolveError::NotFound(format!("Cloud Map has no service {service}")))
            }
            Err(error) => {
                let cause = chain(&error);
                match self.cached(|cache, now| cache.keep(service, now)) {
                    Some(last) => {
                        tracing::warn!(service, cause, "Cloud Map does not answer; its last answer is kept");
                        Ok(last)
                    }
                    None => Err(ResolveError::Unavailable(cause)),
                }
            }
        }
    }
}

impl Directory for Dynamic {
    fn resolve<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Instances, ResolveError>> {
        async move {
            match self.cached(|cache, now| cache.get(service, now)) {
                Cached::Fresh(instances) => Ok(instances),
                Cached::Stale(instances) => {
                    background::spawn(self.ask(service).map(drop));
                    Ok(instances)
                }
                Cached::Missing => self.ask(service).await,
            }
        }
        .boxed()
    }

    fn invalidate(&self, service: &str) {
        self.cached(|cache, now| cache.invalidate(service, now));
    }
}

/// The known addresses of services, and how old they are. Pure: the time is a parameter.
#[derive(Debug, Default)]
struct Cache(HashMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    instances: Instances,
    /// When Cloud Map was last called, whether or not it answered.
    asked_at: Instant,
    /// From then on a new answer is fetched in the background.
    refresh_at: Instant,
    /// From then on callers wait for a new answer.
    expires_at: Instant,
}

#[derive(Debug, PartialEq, Eq)]
enum Cached {
    /// It can be used.
    Fresh(Instances),
    /// It can be used, but a new answer should be fetched.
    Stale(Instances),
    /// There is none that can be used.
    Missing,
}

impl Cache {
    fn get(&mut self, service: &str, now: Instant) -> Cached {
        match self.0.get_mut(service) {
            Some(entry) if now < entry.refresh_at => Cached::Fresh(Arc::clone(&entry.instances)),
            Some(entry) if now < entry.expires_at => {
                // One request at a time: the next caller assumes that this one will be answered.
                entry.refresh_at = now + RETRY_AFTER;
                Cached::Stale(Arc::clone(&entry.instances))
            }
            _ => Cached::Missing,
        }
    }

    fn put(&mut self, service: &str, instances: Instances, now: Instant) {
        let entry = Entry {
            instances,
            asked_at: now,
            refresh_at: now + REFRESH_AFTER,
            expires_at: now + TIME_TO_LIVE,
        };
        self.0.insert(service.to_owned(), entry);
    }

    /// The last answer, if there was one, in place of a new one.
    fn keep(&mut self, service: &str, now: Instant) -> Option<Instances> {
        let entry = self.0.get_mut(service)?;
        (entry.asked_at, entry.refresh_at, entry.expires_at) = (now, now + RETRY_AFTER, now + TIME_TO_LIVE);
        Some(Arc::clone(&entry.instances))
    }

    fn invalidate(&mut self, service: &str, now: Instant) {
        if let Some(entry) = self.0.get_mut(service)
            && now.saturating_duration_since(entry.asked_at) >= MIN_AGE
        {
            entry.refresh_at = now;
            entry.expires_at = now;
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

    /// A cache with a fresh answer for users, and the time at which it was stored.
    fn given_an_answer() -> (Cache, Instant) {
        let (mut cache, now) = (Cache::default(), Instant::now() + Duration::from_hours(1));
        cache.put("users", at("https://one.example"), now);
        (cache, now)
    }

    #[test]
    fn an_answer_is_used_then_refreshed_in_the_background_and_awaited_once_it_has_expired() {
        let (mut cache, now) = given_an_answer();
        let one = at("https://one.example");
        assert_eq!(cache.get("users", now), Cached::Fresh(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + Duration::from_secs(19)), Cached::Fresh(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + REFRESH_AFTER), Cached::Stale(Arc::clone(&one)));
        assert_eq!(cache.get("users", now + REFRESH_AFTER + SECOND), Cached::Fresh(one), "asked once");
        assert_eq!(cache.get("users", now + TIME_TO_LIVE), Cached::Missing);
        assert_eq!(cache.get("posts", now), Cached::Missing);
    }

    #[test]
    fn nobody_waits_while_cloud_map_does_not_respond_because_the_last_answer_is_kept() {
        let (mut cache, mut now) = given_an_answer();
        let one = at("https://one.example");
        now += TIME_TO_LIVE;
        assert_eq!(cache.keep("users", now), Some(Arc::clone(&one)));
        for _ in 0..100 {
            assert_eq!(cache.get("users", now), Cached::Fresh(Arc::clone(&one)));
            now += RETRY_AFTER;
            assert_eq!(cache.get("users", now), Cached::Stale(Arc::clone(&one)));
            assert_eq!(cache.keep("users", now), Some(Arc::clone(&one)));
        }
        assert_eq!(cache.keep("posts", now), None);
    }

    #[test]
    fn a_kept_answer_expires_if_it_is_not_used() {
        let (mut cache, now) = given_an_answer();
        cache.keep("users", now);
        assert_eq!(cache.get("users", now + TIME_TO_LIVE), Cached::Missing);
    }

    #[test]
    fn an_invalidated_answer_is_fetched_at_once_but_not_within_a_second_of_the_last_request() {
        let (mut cache, now) = given_an_answer();
        cache.invalidate("users", now + Duration::from_millis(999));
        assert_ne!(cache.get("users", now), Cached::Missing);
        cache.invalidate("users", now + MIN_AGE);
        assert_eq!(cache.get("users", now + MIN_AGE), Cached::Missing);
        // Asked, and not answered.
        cache.keep("users", now + MIN_AGE);
        cache.invalidate("users", now + MIN_AGE);
        assert_ne!(cache.get("users", now + MIN_AGE), Cached::Missing);
    }

    #[test]
    fn a_new_answer_replaces_the_old_one() {
        let (mut cache, now) = given_an_answer();
        cache.put("users", at("https://two.example"), now + SECOND);
        assert_eq!(cache.get("users", now + TIME_TO_LIVE), Cached::Stale(at("https://two.example")));
        cache.remove("users");
        assert_eq!(cache.get("users", now), Cached::Missing);
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
        let environment = |url: Option<&str>, function: Option<&str>| -> Result<Instances, ResolveError> {
            let (url, function_arn) = (url.map(str::to_owned), function.map(str::to_owned));
            Ok(Arc::from([Instance { id: "environment".to_owned(), url, function_arn }]))
        };
        assert_eq!(directory.resolve("users").await, environment(Some("https://one.example"), None));
        assert_eq!(directory.resolve("stock-room").await, environment(None, Some("arn")));
        let expected = "neither POSTS_URL nor POSTS_LOOKUP is in the function's environment";
        assert_eq!(directory.resolve("posts").await, Err(ResolveError::NotFound(expected.to_owned())));
    }
}
