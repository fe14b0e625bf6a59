//! What castoff makes of each directive: the rule, and the one table that follows it.
//!
//! The rule: a directive is *honoured*, or it is *passed over* because it cannot change which machine is reached, how
//! that machine proves itself, who we are to it, or how the bytes are protected. Whatever is neither, known or
//! unknown, is an error that names file and line. Passed over are therefore: what concerns a terminal or a shell on
//! the far side, forwarding of other programs' connections, what the client writes to its own disk or screen, the
//! sharing of one connection by several clients, and ways to authenticate that castoff never tries (it has keys and
//! nothing else; a server that wants more refuses, and the refusal is told). That covers the file every Debian ships.

/// What is done with a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Its value is used.
    Honoured(Key),
    /// It cannot change what castoff does.
    PassedOver,
    /// It asks for what castoff does anyway if its value is one of these; any other value is an error.
    AsAlways(&'static [&'static str]),
    /// castoff cannot do what it asks.
    Refused,
}

/// The directives whose values are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    HostName,
    Port,
    User,
    IdentityFile,
    IdentitiesOnly,
    UserKnownHostsFile,
    GlobalKnownHostsFile,
    ProxyJump,
}

/// What is done with the directive of this name in lower case.
pub(super) fn rule(keyword: &str) -> Rule {
    use Rule::{AsAlways, Honoured, PassedOver, Refused};
    match keyword {
        "hostname" => Honoured(Key::HostName),
        "port" => Honoured(Key::Port),
        "user" => Honoured(Key::User),
        "identityfile" => Honoured(Key::IdentityFile),
        "identitiesonly" => Honoured(Key::IdentitiesOnly),
        "userknownhostsfile" => Honoured(Key::UserKnownHostsFile),
        "globalknownhostsfile" => Honoured(Key::GlobalKnownHostsFile),
        "proxyjump" => Honoured(Key::ProxyJump),

        // The far side's shell and environment: castoff asks for sftp, git and one fixed program.
        "sendenv" | "setenv" | "requesttty" | "escapechar" | "enableescapecommandline" | "stdinnull"
        | "forkafterauthentication" | "streamlocalbindmask" | "streamlocalbindunlink"
        // Forwarding for other programs.
        | "forwardagent" | "forwardx11" | "forwardx11timeout" | "forwardx11trusted" | "xauthlocation" | "gatewayports"
        | "localforward" | "remoteforward" | "dynamicforward" | "clearallforwardings" | "exitonforwardfailure"
        | "permitremoteopen"
        // Own disk and screen.
        | "hashknownhosts" | "updatehostkeys" | "addkeystoagent" | "visualhostkey" | "fingerprinthash" | "loglevel"
        | "logverbose" | "syslogfacility" | "batchmode"
        // One connection shared by several clients; speed; signs of life, which castoff always asks for.
        | "controlmaster" | "controlpath" | "controlpersist" | "compression" | "ipqos" | "tcpkeepalive"
        | "serveraliveinterval" | "serveralivecountmax" | "connecttimeout" | "connectionattempts"
        // Ways to authenticate that are never tried.
        | "gssapiauthentication" | "gssapidelegatecredentials" | "gssapikeyexchange" | "gssapitrustdns"
        | "gssapiclientidentity" | "gssapirenewalforcesrekey" | "gssapiserveridentity" | "passwordauthentication"
        | "kbdinteractiveauthentication" | "kbdinteractivedevices" | "challengeresponseauthentication"
        | "hostbasedauthentication" | "enablesshkeysign" | "numberofpasswordprompts" => PassedOver,

        // Host keys are always checked strictly and never by way of DNS; keys are always what is authenticated with.
        "stricthostkeychecking" => AsAlways(&["yes", "true", "ask"]),
        "verifyhostkeydns" | "checkhostip" | "permitlocalcommand" | "canonicalizehostname" | "proxyusefdpass"
        | "nohostauthenticationforlocalhost" => AsAlways(&["no", "false"]),
        "pubkeyauthentication" => AsAlways(&["yes", "true"]),
        "preferredauthentications" => AsAlways(&["publickey"]),
        "addressfamily" => AsAlways(&["any"]),
        "proxycommand" | "tunnel" | "canonicaldomains" | "pkcs11provider" | "securitykeyprovider" => {
            AsAlways(&["none", "no"])
        }
        _ => Refused,
    }
}
