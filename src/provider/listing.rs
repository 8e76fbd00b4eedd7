//! What a list brings: pages while it goes on, and at its end what was found, what failed, and whether that is all.

use futures::stream::{self, BoxStream, StreamExt};

use crate::{Error, Result};

/// A part of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// Found.
    pub items: Vec<T>,
    /// What could not be read beside them: one bad item never costs the others.
    pub errors: Vec<Error>,
}

/// A list in parts. An error does not end it: who reads on asks for the same part again, so that retries are the
/// reader's choice and not the provider's.
pub type Pages<'a, T> = BoxStream<'a, Result<Page<T>>>;

/// The answer of one place.
#[derive(Debug)]
pub struct Listing<T> {
    /// Found.
    pub items: Vec<T>,
    /// What failed.
    pub errors: Vec<Error>,
    /// Whether the provider went through all it has. An item that is missing from a list that is not complete may be
    /// there all the same.
    pub complete: bool,
    /// Places that answered in full, however little they have.
    pub answered: usize,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), errors: Vec::new(), complete: true, answered: 0 }
    }
}

impl<T> Listing<T> {
    /// Takes over a page.
    pub fn add(&mut self, page: Page<T>) {
        self.items.extend(page.items);
        self.fail(page.errors);
    }

    /// Takes over what failed.
    pub fn fail(&mut self, errors: impl IntoIterator<Item = Error>) {
        self.errors.extend(errors);
        self.complete = self.errors.is_empty();
    }

    /// Takes over another listing.
    pub fn join(&mut self, other: Self) {
        self.items.extend(other.items);
        self.errors.extend(other.errors);
        self.complete &= other.complete;
        self.answered += other.answered;
    }
}

/// The pages of a list that a provider reads in one call.
pub fn one_page<'a, T, F, R>(read: F) -> Pages<'a, T>
where
    T: Send + 'a,
    F: Fn() -> R + Send + Sync + 'a,
    R: Future<Output = Result<Page<T>>> + Send + 'a,
{
    token_pages(move |_| {
        let page = read();
        async move { Ok((page.await?, None)) }
    })
}

/// The pages of a list that a provider does not have.
pub fn no_pages<'a, T: Send + 'a>(error: Error) -> Pages<'a, T> {
    stream::once(async move { Err(error) }).boxed()
}

/// The pages of a list that is read with a token: `read` gets the token of the page before, and gives back the page and
/// the next token. An empty token ends the list as a missing one does.
pub fn token_pages<'a, T, F, R>(read: F) -> Pages<'a, T>
where
    T: Send + 'a,
    F: Fn(Option<String>) -> R + Send + Sync + 'a,
    R: Future<Output = Result<(Page<T>, Option<String>)>> + Send + 'a,
{
    // The token of the next page; the outer `None` after the last one.
    stream::unfold((Some(None::<String>), read), |(next, read)| async move {
        let token = next?;
        match read(token.clone()).await {
            Ok((page, next)) => {
                let next = next.filter(|next| !next.is_empty()).map(Some);
                Some((Ok(page), (next, read)))
            }
            Err(error) => Some((Err(error), (Some(token), read))),
        }
    })
    .boxed()
}

impl<T> From<Vec<T>> for Page<T> {
    fn from(items: Vec<T>) -> Self {
        Self { items, errors: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_list_with_tokens_ends_with_an_empty_one_and_asks_again_after_an_error() {
        let asked = Mutex::new(Vec::new());
        let mut pages = token_pages(|token: Option<String>| {
            let tries = asked.lock().iter().filter(|other| **other == token).count();
            asked.lock().push(token.clone());
            async move {
                match (token.as_deref(), tries) {
                    (None, _) => Ok((vec![1, 2].into(), Some("b".to_owned()))),
                    (Some("b"), 0) => Err(Error::unavailable("list", "busy")),
                    (Some("b"), _) => Ok((vec![3].into(), Some(String::new()))),
                    _ => Ok((vec![99].into(), None)),
                }
            }
        });
        let mut listing = Listing::default();
        let mut errors = 0;
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => listing.add(page),
                Err(_) => errors += 1,
            }
        }
        assert_eq!((listing.items, listing.complete, errors), (vec![1, 2, 3], true, 1));
        drop(pages);
        assert_eq!(asked.into_inner().len(), 3);
    }

    #[tokio::test]
    async fn a_list_in_one_call_is_one_page() {
        let mut pages =
            one_page(|| async { Ok(Page { items: vec![1], errors: vec![Error::invalid("read", "no")] }) });
        let mut listing = Listing::default();
        listing.add(pages.next().await.unwrap().unwrap());
        assert!(pages.next().await.is_none());
        assert_eq!((listing.items, listing.complete), (vec![1], false));
    }
}
