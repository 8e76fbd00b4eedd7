//! The one error of the library: what was tried, on what, why it failed, and whether trying again can help.
//!
//! `Display` prints one line and never repeats the source; walk [`std::error::Error::source`] for the causes
//! ([`Error::chain`] prints them on one line).

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// What sort of trouble this is; decides what a person should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The credentials are missing, wrong or expired.
    Auth,
    /// The credentials are good but do not allow this.
    Denied,
    /// The thing is not there.
    NotFound,
    /// A limit set for the account or by configuration is reached.
    Quota,
    /// The other side has no room, now, for anybody.
    Capacity,
    /// Asked too often.
    Throttled,
    /// Somebody else holds it or changed it first.
    Conflict,
    /// A guard forbids it until it is lifted on purpose.
    Protected,
    /// The input is wrong.
    Invalid,
    /// This provider, format or build cannot do it.
    Unsupported,
    /// The other side, the disk or the network did not answer.
    Unavailable,
}

impl ErrorKind {
    /// The kind as a lowercase word, for logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::Throttled => "throttled",
            Self::Conflict => "conflict",
            Self::Protected => "protected",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the same call may succeed later with nothing changed by the caller.
    fn default_retry(self) -> Retry {
        match self {
            Self::Capacity | Self::Throttled | Self::Unavailable => Retry::Later,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether and when the same call is worth repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Repeating gives the same answer.
    Never,
    /// Worth repeating with the caller's own backoff.
    Later,
    /// The other side named the time to wait.
    After(Duration),
}

/// The error of every public function: see the module documentation.
pub struct Error(Box<Inner>);

/// What a change that failed left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Left {
    /// As the kind suggests.
    #[default]
    ByKind,
    Nothing,
    Part,
}

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    provider: Option<String>,
    operation: String,
    resource: Option<String>,
    reason: String,
    left: Left,
    source: Option<BoxError>,
}

impl Error {
    /// `operation` is what was tried ("open store"), `reason` why it failed and what to do about it.
    pub fn new(kind: ErrorKind, operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            provider: None,
            operation: operation.into(),
            resource: None,
            reason: reason.into(),
            left: Left::default(),
            source: None,
        }))
    }

    /// Wrong input.
    pub fn invalid(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, operation, reason)
    }

    /// The other side did not answer; worth another try.
    pub fn unavailable(operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, operation, reason)
    }

    /// A file system error on `path`, with the kind taken from the operating system's code.
    pub fn io(
        operation: impl Into<String>,
        path: impl AsRef<std::path::Path>,
        source: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, hint) = match source.kind() {
            Io::NotFound => (ErrorKind::NotFound, "no such file or folder"),
            Io::PermissionDenied => (ErrorKind::Denied, "permission denied; check the owner and mode"),
            Io::StorageFull | Io::QuotaExceeded => (ErrorKind::Capacity, "the disk is full; free some space"),
            Io::AlreadyExists => (ErrorKind::Conflict, "already exists"),
            Io::NotADirectory => {
                (ErrorKind::NotFound, "a part of the path is a file, not a folder; choose another path")
            }
            Io::ReadOnlyFilesystem => (
                ErrorKind::Denied,
                "the file system can only be read; choose another path or mount it writable",
            ),
            _ => (ErrorKind::Unavailable, "input/output error"),
        };
        Self::new(kind, operation, hint)
            .with_resource(path.as_ref().display().to_string())
            .with_source(source)
    }

    /// Names the provider, sink or store that was asked.
    #[must_use]
    pub fn with_provider(mut self, provider: impl Into<String>) -> Self {
        self.0.provider = Some(provider.into());
        self
    }

    /// Names the thing that was acted on.
    #[must_use]
    pub fn with_resource(mut self, resource: impl Into<String>) -> Self {
        self.0.resource = Some(resource.into());
        self
    }

    /// Overrides what the kind says about trying again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says of a change that a part of it was done before it failed, or may have been, and stayed: whoever asked for it
    /// has something to take back, whatever the kind says.
    #[must_use]
    pub fn partly_done(mut self) -> Self {
        self.0.left = Left::Part;
        self
    }

    /// Says of a change that nothing of it was done, where the kind leaves that open: nobody heard of it, or whoever did
    /// tried and could not.
    #[must_use]
    pub fn nothing_done(mut self) -> Self {
        self.0.left = Left::Nothing;
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What sort of trouble this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether trying again can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// Whether a part of a change was done, or may have been, before it failed.
    pub fn is_partly_done(&self) -> bool {
        self.0.left == Left::Part
    }

    /// Whether it is sure that nothing of a change was done, whatever the kind says.
    pub fn is_nothing_done(&self) -> bool {
        self.0.left == Left::Nothing
    }

    /// The provider, sink or store that was asked, if one was.
    pub fn provider(&self) -> Option<&str> {
        self.0.provider.as_deref()
    }

    /// What was tried.
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// The thing that was acted on, if there is one.
    pub fn resource(&self) -> Option<&str> {
        self.0.resource.as_deref()
    }

    /// Why it failed, without the operation and the resource.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// This error and all its causes on one line.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(provider) = self.provider() {
            write!(f, "{provider}: ")?;
        }
        write!(f, "cannot {}", self.0.operation)?;
        if let Some(resource) = self.resource() {
            write!(f, " {resource}")?;
        }
        write!(f, ": {}", self.0.reason)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("message", &format_args!("{self}"))
            .field("left", &self.0.left)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_says_what_on_what_and_why_and_leaves_the_source_to_the_chain() {
        let io = std::io::Error::new(std::io::ErrorKind::NotFound, "os error 2");
        let error = Error::io("open store", "/data", io).with_provider("store");
        assert_eq!(error.to_string(), "store: cannot open store /data: no such file or folder");
        assert_eq!(error.chain(), "store: cannot open store /data: no such file or folder: os error 2");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.retry(), Retry::Never);
    }

    #[test]
    fn a_path_that_cannot_be_used_says_what_is_wrong_with_it() {
        for (kind, words) in [
            (std::io::ErrorKind::NotADirectory, "a file, not a folder"),
            (std::io::ErrorKind::ReadOnlyFilesystem, "can only be read"),
        ] {
            let error = Error::io("open store", "/data/x", kind.into());
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(error.retry(), Retry::Never);
        }
    }

    #[test]
    fn kinds_that_pass_by_themselves_are_worth_a_retry() {
        assert_eq!(Error::unavailable("poll", "timed out").retry(), Retry::Later);
        assert_eq!(Error::invalid("poll", "bad").retry(), Retry::Never);
    }

    #[test]
    fn a_failure_after_a_part_says_so_whatever_its_kind() {
        let error = Error::new(ErrorKind::Conflict, "delete", "it is in use");
        assert!(!error.is_partly_done());
        let error = error.partly_done().with_resource("i");
        assert!(error.is_partly_done());
        assert!(!error.is_nothing_done() && Error::invalid("do", "no").nothing_done().is_nothing_done());
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}
