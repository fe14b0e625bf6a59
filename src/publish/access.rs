//! What is needed to get at a target besides its address.

use std::path::PathBuf;

use crate::ssh::{Files, Wishes};

/// What a configuration says about a target besides its URL.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Key files, known_hosts files and pins for SFTP.
    pub wishes: Wishes,
    /// The ssh configuration that is read.
    pub ssh_configuration: Files,
    /// A file with the password of the URL's user, or with a bearer token if it names none, for HTTP.
    pub secret_file: Option<PathBuf>,
    /// A file with the certificate authorities to trust instead of the machine's, for HTTP.
    pub authorities: Option<PathBuf>,
}

/// What to do where the folder of a target is missing: whose it is and who may write is not ours to choose.
pub(super) const MAKE_FOLDER: &str = "make the folder there, with the owner and mode it is to have";
