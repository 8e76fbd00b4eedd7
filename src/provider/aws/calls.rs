//! What all calls to EC2 have in common: the time after a creation in which EC2 does not know yet what it made, and waiting
//! for a resource that the next call needs in another state.

use std::time::Duration;

use aws_sdk_ec2::primitives::DateTime;
use tokio::time::Instant;

use super::AwsProvider;
use super::error::failed;
use crate::model::Timestamp;
use crate::model::resource::ResourceId;
use crate::{Error, ErrorKind, Result};

/// EC2's answers agree with each other some time after a creation; until then "not found" is no clear word.
const GRACE: Duration = Duration::from_secs(60);
/// Resources that are remembered for that time.
const REMEMBERED: usize = 1_024;
/// Longest wait of a call for what it changed; what takes longer goes on by itself.
pub(super) const SETTLES: Duration = Duration::from_secs(90);
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(4));

impl AwsProvider {
    /// Remembers that a resource was made just now.
    pub(super) fn made(&self, id: &ResourceId) {
        let mut young = self.young.lock();
        young.retain(|(_, made)| made.elapsed() < GRACE);
        if young.len() < REMEMBERED {
            young.push_back((id.native_id.clone(), Instant::now()));
        }
    }

    /// Forgets one that was deleted: that it is not found is a clear word now.
    pub(super) fn deleted(&self, id: &ResourceId) {
        self.young.lock().retain(|(young, _)| *young != id.native_id);
    }

    fn is_young(&self, id: &ResourceId) -> bool {
        self.young.lock().iter().any(|(young, made)| *young == id.native_id && made.elapsed() < GRACE)
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
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_young(id) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                answer => return answer,
            }
        }
    }

    /// Where something is made: the place that was named, else the only one that the file names.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if that leaves the choice open.
    pub(super) fn place(&self, operation: &str, name: &str, location: Option<&str>) -> Result<String> {
        let only = self.session.only_region();
        let place = location.filter(|place| !place.is_empty()).or(only).ok_or_else(|| {
            let reason = "say in which region; only where the source names exactly one is it that";
            failed(ErrorKind::Invalid, operation, name, reason)
        })?;
        if self.session.excludes(place) {
            let reason = format!("the source excludes the region {place}; choose another");
            return Err(failed(ErrorKind::Invalid, operation, name, reason));
        }
        Ok(place.to_owned())
    }
}

/// Looks until `look` finds what is wanted.
///
/// # Errors
/// Those of `look`; [`ErrorKind::Unavailable`] when time is over.
pub(super) async fn until<T, F: Future<Output = Result<Option<T>>>>(
    operation: &str,
    resource: &str,
    wanted: &str,
    look: impl Fn() -> F,
) -> Result<T> {
    let over = Instant::now() + SETTLES;
    let mut pause = PAUSES.0;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= over {
            let reason = format!(
                "it was not {wanted} within {}; what was begun goes on, look at it again",
                humantime::format_duration(SETTLES)
            );
            // Asked again by the layers around, the same wait would begin anew.
            let error = failed(ErrorKind::Unavailable, operation, resource, reason);
            return Err(error.with_retry(crate::Retry::Never));
        }
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(PAUSES.1);
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
