use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::model::resource::Kind;
use crate::provider::Page;
use crate::provider::listing::token_pages;

/// Lists one instance per page and fails as told: `faults` are the errors of the next calls.
struct Shaky {
    scope: Scope,
    faults: parking_lot::Mutex<Vec<Error>>,
    calls: AtomicUsize,
    hangs: bool,
}

impl Shaky {
    fn client(faults: Vec<Error>, hangs: bool) -> (Client, Arc<Self>) {
        let scope = Scope { provider: "shaky", account: "a".into() };
        let shaky = Arc::new(Self {
            scope,
            faults: parking_lot::Mutex::new(faults),
            calls: AtomicUsize::new(0),
            hangs,
        });
        (Client::new(shaky.clone(), Arc::default(), Policy::default()), shaky)
    }

    async fn answer<T>(&self, answer: T) -> Result<T> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        match self.faults.lock().pop() {
            Some(fault) => Err(fault),
            None => Ok(answer),
        }
    }
}

#[async_trait]
impl Inventory for Shaky {
    fn regions(&self) -> Pages<'_, Region> {
        token_pages(move |token: Option<String>| async move {
            let id = self.scope.id("", Kind::Region, token.as_deref().unwrap_or("1"));
            let next = token.is_none().then(|| "2".to_owned());
            self.answer((Page::from(vec![Region { id, name: None, enabled: None }]), next)).await
        })
    }

    fn instances<'a>(&'a self, _: &'a str) -> Pages<'a, Instance> {
        token_pages(|_| async { self.answer((Page::from(vec![]), None)).await })
    }

    async fn instance(&self, id: &ResourceId) -> Result<Instance> {
        let gone = Error::new(ErrorKind::NotFound, "read", "it is gone").with_resource(id.to_string());
        self.answer(()).await.and(Err(gone))
    }
}

#[async_trait]
impl Provider for Shaky {
    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { instances: true, make_networks: true, ..Capabilities::default() }
    }

    fn inventory(&self) -> &dyn Inventory {
        self
    }
}

fn busy() -> Error {
    Error::unavailable("list", "busy")
}

#[tokio::test(start_paused = true)]
async fn a_page_that_fails_is_asked_for_again_and_the_list_is_whole() {
    let (client, shaky) = Shaky::client(vec![busy(), busy()], false);
    let listing = client.regions().await;
    assert_eq!((listing.items.len(), listing.complete), (2, true));
    assert_eq!(shaky.calls.load(Ordering::Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_stands_when_the_rest_fails() {
    let faults = vec![Error::new(ErrorKind::Denied, "list", "not for you")];
    let (client, shaky) = Shaky::client(faults, false);
    let listing = client.list::<Instance>("here", &|_| ()).await;
    assert!(!listing.complete);
    assert_eq!(listing.errors[0].provider(), Some("shaky"));
    assert_eq!(shaky.calls.load(Ordering::Relaxed), 1, "a denied call is not repeated");
    let (client, _) = Shaky::client(vec![], false);
    let listing = client.list::<Volume>("here", &|_| ()).await;
    assert_eq!(listing.errors[0].kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends_at_its_deadline() {
    let (client, shaky) = Shaky::client(vec![], true);
    let id = client.scope().id("here", Kind::Instance, "i");
    let error = client.instance(&id).await.unwrap_err();
    assert_eq!((error.kind(), shaky.calls.load(Ordering::Relaxed)), (ErrorKind::Unavailable, 1));
    assert!(error.to_string().contains("no answer within 30s"), "{error}");
    assert!(!client.regions().await.complete);
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_cannot_do_is_refused_without_a_call() {
    let (client, shaky) = Shaky::client(vec![], false);
    let start = Action::Start { instance: client.scope().id("here", Kind::Instance, "i").into() };
    for error in [
        client.perform(&start, Token::random()).await.unwrap_err(),
        client.plan(&start, None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("start instance i"), "{error}");
    }
    assert_eq!(shaky.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_throttle_slows_the_next_call_down() {
    let throttled = || {
        let pause = crate::Retry::After(Duration::from_secs(9));
        Error::new(ErrorKind::Throttled, "list", "slow down").with_retry(pause)
    };
    let (client, _) = Shaky::client(vec![throttled()], false);
    let began = tokio::time::Instant::now();
    assert!(client.regions().await.complete);
    assert!(began.elapsed() >= Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn what_is_made_spends_the_budget_of_the_place_that_it_is_made_in() {
    let (client, _) = Shaky::client(vec![], false);
    let pause = crate::Retry::After(Duration::from_secs(9));
    client.budgets.throttled(client.scope(), "there", Class::Read, pause);
    let make = |location: &str| {
        let spec = crate::provider::NetworkSpec { location: Some(location.into()), ..Default::default() };
        Action::CreateNetwork { spec }
    };
    let began = tokio::time::Instant::now();
    client.plan(&make("here"), None).await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    client.plan(&make("there"), None).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
}
