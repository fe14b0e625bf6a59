//! A value that no message, log or debug output may show.

use std::fmt;

/// A secret: printed as `***`, reached only by [`Secret::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// The value as a secret.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, to be handed to what needs it and to nothing else.
    pub fn reveal(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("canary");
        assert_eq!((format!("{secret:?}"), format!("{secret}")), ("***".to_owned(), "***".to_owned()));
        assert_eq!(*secret.reveal(), "canary");
    }
}
