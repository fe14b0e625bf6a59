//! Webhooks: ends of jobs and late schedules, signed as the Standard Webhooks have it
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).
//!
//! ```text
//! POST URL
//! webhook-id: the same in every attempt
//! webhook-timestamp: seconds since 1970
//! webhook-signature: v1,BASE64(HMAC-SHA256(secret, "ID.TIMESTAMP.BODY"))
//! ```
//!
//! A receiver that answers 2xx has heard it. Everything else is tried again, later each time, for a day.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::{self, clock};
use crate::http::{Client, Login, Method, Outgoing, Url};
use crate::job::Notice;
use crate::progress::Cancel;
use crate::vocab::Secret;

/// The longest secret file.
const MOST_SECRET: u64 = 4096;

/// Where webhooks go, and what signs them.
pub(super) struct Receiver {
    url: Url,
    key: Secret<Vec<u8>>,
}

impl Receiver {
    /// The receiver that is configured, if one is.
    pub(super) fn of(config: &Config) -> Result<Option<Self>> {
        let notify = &config.notify;
        let Some(address) = &notify.url else { return Ok(None) };
        let url = Url::parse(address).map_err(|what| Error::new(Kind::Usage, format!("`notify.url`: {what}")))?;
        let file = notify.secret_file.as_ref().ok_or_else(|| {
            Error::new(Kind::Usage, "`notify.url` is set, and `notify.secret_file` is not").hint(
                "webhooks are signed: `(umask 077; echo \"whsec_$(openssl rand -base64 32)\" > FILE)` makes a secret",
            )
        })?;
        host::fs::require_private(file)?;
        let text = host::fs::read_at_most(file, MOST_SECRET)?;
        let text = text.trim_ascii();
        let wrong = || {
            Error::new(Kind::Usage, format!("`{}` holds no secret of webhooks", file.display()))
                .hint("it is one line, `whsec_` and at least 24 bytes in base64")
        };
        let key = STANDARD.decode(text.strip_prefix(b"whsec_").unwrap_or(text)).map_err(|_| wrong())?;
        if key.len() < 24 {
            return Err(wrong());
        }
        Ok(Some(Self { url, key: Secret::new(key) }))
    }

    /// Tells it; an error says why it was not heard.
    pub(super) fn send(&self, notice: &Notice, cancel: &Cancel) -> Result<()> {
        let at = clock::now().as_secs();
        let signed = format!("{}.{at}.{}", notice.id, notice.body);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.reveal());
        let signature = format!("v1,{}", STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes())));
        let at = at.to_string();
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", notice.id.as_str()),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let place = self.url.to_string();
        let client = Client::new(&self.url.server, &Login::default(), &place, cancel)?;
        let body = Arc::<[u8]>::from(notice.body.as_bytes());
        let to = body.len() as u64;
        let read = move |buffer: &mut [u8], offset: u64| {
            let rest = body.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        };
        let outgoing = Outgoing::Part { read: Box::new(read), from: 0, to };
        let answer = client.ask(&Method::POST, &self.url.path, &headers, outgoing, &mut |_| Ok(()))?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(Error::new(Kind::Unavailable, format!("`{place}` answered {}", answer.status)))
    }
}
