//! Detached signatures: who wrote these bytes, and were they allowed to.
//!
//! [`ssh`] makes and verifies what `ssh-keygen -Y sign` and `-Y verify` do (PROTOCOL.sshsig of OpenSSH), under a namespace of
//! castoff's own, so that a signature made for anything else says nothing here. [`minisign`] is a second form, for
//! hosts without OpenSSH. Verification needs no other program. No key, passphrase or password is in any error.
//! Knows no manifests: it takes bytes.

pub mod minisign;
pub mod ssh;
