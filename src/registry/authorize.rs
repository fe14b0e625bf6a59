//! From a challenge to the header that answers it: a password, or a token of the server that the registry names.

use base64::Engine as _;
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::retry::Trouble;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::http::{Head, Method, Outgoing, StatusCode, Url, header};
use crate::vocab::Secret;

/// The longest token that is taken, in the longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;

/// The header that answers what `head` asks for.
pub(super) fn proof(session: &Session<'_>, head: &Head) -> Result<Secret<String>, Trouble> {
    let challenges = challenge::parse(&head.all(&header::WWW_AUTHENTICATE));
    let credentials = session.credentials()?;
    if credentials.is_some() && !session.may_hear_secrets(&session.endpoint.url.server) {
        return Err(unsafe_place(&session.endpoint.account));
    }
    if let Some(Credentials::Token(token)) = credentials {
        return Ok(bearer(token)?);
    }
    let bearer_challenge = challenges.iter().find_map(|challenge| match challenge {
        Challenge::Bearer { realm, service, scope } => Some((realm, service.as_deref(), scope.as_deref())),
        Challenge::Basic => None,
    });
    if let Some((realm, service, scope)) = bearer_challenge {
        return token(session, realm, service, scope, credentials);
    }
    if !challenges.contains(&Challenge::Basic) {
        return Err(refused(session, "wants to know who we are in a way that castoff does not know"));
    }
    match credentials {
        Some(Credentials::Password { user, password }) => Ok(basic(user, password)),
        Some(_) => Err(refused(session, "wants a password, and a token is known")),
        None => Err(refused(session, "wants a password")),
    }
}

fn refused(session: &Session<'_>, what: &str) -> Trouble {
    let account = &session.endpoint.account;
    Trouble::Fatal(
        Error::new(Kind::Refused, format!("`{account}` {what}"))
            .hint(format!("`skopeo login {account}` or `docker login {account}` says it to castoff as well")),
    )
}

fn unsafe_place(place: &str) -> Trouble {
    Trouble::Fatal(
        Error::new(Kind::Refused, format!("credentials are not sent to `{place}` without TLS"))
            .hint("if everybody on the way may read them, list the host in `registries.insecure`"),
    )
}

fn basic(user: &str, password: &Secret<String>) -> Secret<String> {
    let pair = Secret::new(format!("{user}:{}", password.reveal()));
    Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair.reveal())))
}

/// A token must be something a header can hold.
fn bearer(token: &Secret<String>) -> Result<Secret<String>> {
    let text = token.reveal();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(Kind::Corrupt, "a token is no token: it is empty or holds odd characters"));
    }
    Ok(Secret::new(format!("Bearer {text}")))
}

/// A token of the server that the registry names, for what is wanted of the repository.
fn token(
    session: &Session<'_>,
    realm: &str,
    service: Option<&str>,
    scope: Option<&str>,
    credentials: Option<&Credentials>,
) -> Result<Secret<String>, Trouble> {
    let account = &session.endpoint.account;
    let url = Url::parse(realm).map_err(|why| {
        Error::new(Kind::Corrupt, format!("`{account}` sends us to another server for a token: {why}"))
    })?;
    if session.endpoint.url.server.tls && !url.server.tls {
        return Err(Trouble::Fatal(Error::new(
            Kind::Refused,
            format!("`{account}` sends us to {url} for a token, without TLS"),
        )));
    }
    if credentials.is_some() && !session.may_hear_secrets(&url.server) {
        return Err(unsafe_place(&url.to_string()));
    }
    let mut scopes: Vec<&str> = session.scopes.iter().map(String::as_str).collect();
    // What the registry says it wants may be more than what it was asked for, such as a plugin's class.
    scopes.extend(
        scope
            .into_iter()
            .flat_map(|scope| scope.split(' '))
            .filter(|scope| !session.scopes.iter().any(|own| own == scope)),
    );
    scopes.truncate(8);
    let mut fields: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
    fields.extend(scopes.iter().map(|scope| ("scope", *scope)));
    let (head, body) = match credentials {
        Some(Credentials::Identity(identity)) => {
            let all = scopes.join(" ");
            fields.retain(|(name, _)| *name != "scope");
            fields.extend([
                ("scope", all.as_str()),
                ("grant_type", "refresh_token"),
                ("client_id", "castoff"),
                ("refresh_token", identity.reveal()),
            ]);
            post(session, &url, &form(&fields))?
        }
        Some(Credentials::Password { user, password }) => {
            fields.push(("account", user));
            get(session, &url, &fields, Some(&basic(user, password)))?
        }
        Some(Credentials::Token(_)) | None => get(session, &url, &fields, None)?,
    };
    let kind = match head.status {
        StatusCode::OK => return Ok(bearer(&of_answer(&body, account)?)?),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
        StatusCode::TOO_MANY_REQUESTS => Kind::Unavailable,
        status if status.is_server_error() => Kind::Unavailable,
        _ => Kind::Failed,
    };
    let error = Error::new(kind, format!("{url} gives no token for `{account}`: it answers `{}`", head.status));
    Err(match (kind, credentials) {
        (Kind::Unavailable, _) => Trouble::Temporary(error, super::retry::after(&head, crate::host::clock::now())),
        (Kind::Refused, Some(Credentials::Password { user, .. })) => Trouble::Fatal(
            error.hint(format!("the password of `{user}` may be wrong: `skopeo login {account}` stores a new one")),
        ),
        _ => Trouble::Fatal(error),
    })
}

fn of_answer(body: &Secret<Vec<u8>>, account: &str) -> Result<Secret<String>> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        token: Option<String>,
        #[serde(default)]
        access_token: Option<String>,
    }
    // Neither serde's words nor the body go into the error: both may hold the token.
    let odd = || Error::new(Kind::Corrupt, format!("the answer of the token server of `{account}` holds no token"));
    let answer: Answer = serde_json::from_slice(body.reveal()).map_err(|_| odd())?;
    let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
    token.map(Secret::new).ok_or_else(odd)
}

type Answered = (Head, Secret<Vec<u8>>);

fn get(
    session: &Session<'_>,
    url: &Url,
    fields: &[(&str, &str)],
    authorization: Option<&Secret<String>>,
) -> Result<Answered, Trouble> {
    let joint = if url.path.contains('?') { '&' } else { '?' };
    let path = format!("{}{joint}{}", url.path, form(fields).reveal());
    let mut headers = vec![("accept", "application/json")];
    headers.extend(authorization.map(|header| ("authorization", header.reveal().as_str())));
    let mut body = Vec::new();
    let head = session.client(&url.server)?.get(&path, &headers, &mut |_| Ok(true), &mut |bytes| {
        if bytes.len() > LONGEST_ANSWER - body.len() {
            return Err(Error::new(Kind::Limit, format!("{url} answers with more than {LONGEST_ANSWER} bytes")));
        }
        body.extend_from_slice(bytes);
        Ok(true)
    })?;
    Ok((head, Secret::new(body)))
}

fn post(session: &Session<'_>, url: &Url, form: &Secret<String>) -> Result<Answered, Trouble> {
    let bytes = form.reveal().clone().into_bytes();
    let to = bytes.len() as u64;
    let read = move |buffer: &mut [u8], offset: u64| {
        crate::rootfs::ReadAt::read_at(&bytes, buffer, offset)
            .map_err(|error| Error::new(Kind::Failed, "cannot read a request").caused_by(error))
    };
    let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
    let outgoing = Outgoing::Part { read: Box::new(read), from: 0, to };
    let answer = session.client(&url.server)?.ask(&Method::POST, &url.path, &headers, outgoing, &mut |_| Ok(()))?;
    let (head, body) = answer.into_parts();
    Ok((head, Secret::new(body)))
}

/// `a=b&c=d`, with everything but letters, digits and `-._~` escaped.
fn form(fields: &[(&str, &str)]) -> Secret<String> {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (name, value) in fields {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                let _infallible = write!(text, "%{byte:02X}");
            }
        }
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_escapes_what_would_be_taken_for_more_fields() {
        let text = form(&[("service", "a b&c=d"), ("scope", "repository:a/b:pull,push")]);
        assert_eq!(text.reveal(), "service=a%20b%26c%3Dd&scope=repository%3Aa%2Fb%3Apull%2Cpush");
    }

    #[test]
    fn an_answer_holds_a_token_or_is_an_error_that_does_not_show_it() {
        let of = |text: &str| of_answer(&Secret::new(text.as_bytes().to_vec()), "a.example");
        assert_eq!(of(r#"{"token": "a", "access_token": "b"}"#).unwrap().reveal(), "a");
        assert_eq!(of(r#"{"token": "", "access_token": "b"}"#).unwrap().reveal(), "b");
        for odd in ["{}", "\"canary\"", r#"{"token": 1, "x": "canary"}"#] {
            assert!(!of(odd).unwrap_err().render().contains("canary"), "{odd}");
        }
        assert!(bearer(&Secret::new("a\r\nb".to_owned())).is_err());
    }
}
