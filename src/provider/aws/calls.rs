//! What all calls to EC2 have in common: the time after a creation in which EC2 does not know yet what it made, and waiting
//! for a resource that the next call needs in another state.

use std::time::Duration;

use aws_sdk_ec2::primitives::DateTime;

use super::AwsProvider;
use super::error::failed;
use crate::model::Timestamp;
use crate::model::resource::ResourceId;
use crate::provider::Token;
use crate::{Error, ErrorKind, Result};

/// How long the mark of what was made may be unseen, where it has to be known whether it was made.
const SHOWN: Duration = Duration::from_secs(30);
/// Longest wait of a creation for what it made; what takes longer goes on by itself.
const READY: Duration = Duration::from_secs(60);
/// Bounds of the pauses between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

impl AwsProvider {
    /// Remembers that a resource was made just now.
    pub(super) fn made(&self, id: &ResourceId) {
        self.young.add(id.native_id.clone(), Duration::ZERO);
    }

    /// Forgets one that was deleted: that it is not found is a clear word now.
    pub(super) fn deleted(&self, id: &ResourceId) {
        self.young.remove(&id.native_id);
    }

    /// Makes a call about a resource, and again while EC2 does not know yet what it has just made.
    ///
    /// # Errors
    /// The call's.
    pub(super) async fn patient<T, F: Future<Output = Result<T>>>(
        &self,
        id: &ResourceId,
        call: impl Fn() -> F,
    ) -> Result<T> {
        let mut pause = PAUSES.0;
        loop {
            match call().await {
                Err(error)
                    if error.kind() == ErrorKind::NotFound && self.young.ago(&id.native_id).is_some() =>
                {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                answer => return answer,
            }
        }
    }

    /// Makes what EC2 has no token for, once for the token of its step: what was made before is found by its mark. Where an
    /// earlier call may have been heard, the mark is looked for until EC2 would show it.
    ///
    /// # Errors
    /// Those of `look` and `make`.
    pub(super) async fn once<L, M>(
        &self,
        token: Token,
        look: impl Fn() -> L,
        make: impl FnOnce() -> M,
    ) -> Result<String>
    where
        L: Future<Output = Result<Option<String>>>,
        M: Future<Output = Result<String>>,
    {
        let mut pause = PAUSES.0;
        loop {
            if let Some(made) = look().await? {
                return Ok(made);
            }
            if self.begun.ago(&token).is_none_or(|ago| ago >= SHOWN) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        // Before the call: nobody may wait for its answer any more.
        self.begun.add(token, Duration::ZERO);
        let made = make().await;
        if !made.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.begun.remove(&token);
        }
        made
    }

    /// Where something is made: the place that was named, else the only one that the file names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if that leaves the choice open, or the source does not look there.
    pub(super) fn place(&self, operation: &str, name: &str, location: Option<&str>) -> Result<String> {
        let wrong = |reason: String| Err(failed(ErrorKind::Invalid, operation, name, reason));
        let only = self.session.only_region();
        let Some(place) = location.filter(|place| !place.is_empty()).or(only) else {
            return wrong("say in which region; only where the source names exactly one is it that".into());
        };
        if self.session.excludes(place) {
            return wrong(format!("the source excludes the region {place}; choose another"));
        }
        match self.session.named_regions() {
            // What is made elsewhere would never be listed.
            Some(named) if !named.iter().any(|named| named == place) => wrong(format!(
                "the source has the regions {}, and {place} is none of them; choose one, or add it to the file",
                named.join(", ")
            )),
            _ => Ok(place.to_owned()),
        }
    }
}

/// Looks until `look` finds what is wanted. Who waits for the call waits for this: its deadline ends it.
///
/// # Errors
/// Those of `look`.
pub(super) async fn until<T, F: Future<Output = Result<Option<T>>>>(look: impl Fn() -> F) -> Result<T> {
    let mut pause = PAUSES.0;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// What follows after something was made, for a while. It is there whatever comes of this, so what goes wrong here is no
/// error but a remark.
pub(super) async fn ready<T>(rest: impl Future<Output = Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(READY, rest).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("it is made, but not all that follows could be done: {error}")),
        Err(_) => Err("it is made, and EC2 is still at it; look at it again before it is used".into()),
    }
}

/// A call's answer, or nothing where EC2 says clearly that the resource is not there.
///
/// # Errors
/// All others.
pub(super) fn absent<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What EC2 described, of which there has to be one.
///
/// # Errors
/// [`ErrorKind::NotFound`].
pub(super) fn first<T>(operation: &str, resource: &str, found: Option<Vec<T>>) -> Result<T> {
    found.unwrap_or_default().into_iter().next().ok_or_else(|| not_there(operation, resource))
}

/// EC2 says clearly that something is not there.
pub(super) fn not_there(operation: &str, resource: &str) -> Error {
    failed(ErrorKind::NotFound, operation, resource, "it is not there")
}

/// EC2's time as ours.
pub(super) fn at(time: Option<&DateTime>) -> Option<Timestamp> {
    time.and_then(|time| i64::try_from(time.as_nanos()).ok()).map(Timestamp)
}

/// EC2 counts disks in GiB.
pub(super) fn bytes(gib: Option<i32>) -> Option<u64> {
    gib.and_then(|gib| u64::try_from(gib).ok()).map(|gib| gib << 30)
}

/// Bytes as EC2's GiB.
///
/// # Errors
/// [`ErrorKind::Invalid`] for what is not a whole number of them.
pub(super) fn gib(operation: &str, resource: &str, bytes: u64) -> Result<i32> {
    let whole =
        (bytes > 0 && bytes.is_multiple_of(1 << 30)).then(|| i32::try_from(bytes >> 30).ok()).flatten();
    whole.ok_or_else(|| {
        let reason = format!(
            "EC2's disks are whole GiB, and {} is not; write for example {}GiB",
            crate::model::Size(bytes),
            bytes.div_ceil(1 << 30).max(1)
        );
        failed(ErrorKind::Invalid, operation, resource, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_gib_or_refused() {
        assert_eq!(gib("create", "v", 3 << 30).unwrap(), 3);
        assert_eq!(bytes(Some(3)), Some(3 << 30));
        assert_eq!(bytes(None), None);
        for wrong in [0, 1, (3 << 30) + 1] {
            let error = gib("create", "v", wrong).unwrap_err();
            assert!(error.to_string().contains("GiB"), "{error}");
        }
    }

    #[test]
    fn only_a_clear_word_is_absent() {
        let error = |kind| failed(kind, "look", "x", "no");
        assert_eq!(absent::<()>(Err(error(ErrorKind::NotFound))).unwrap(), None);
        assert_eq!(absent::<()>(Err(error(ErrorKind::Denied))).unwrap_err().kind(), ErrorKind::Denied);
    }
}
