//! The colours that Salt's outputters use.

/// Escape sequences, all empty when colour is off.
#[derive(Clone, Copy)]
pub(super) struct Colors {
    pub(super) red: &'static str,
    pub(super) light_red: &'static str,
    pub(super) green: &'static str,
    pub(super) light_yellow: &'static str,
    pub(super) cyan: &'static str,
    pub(super) end: &'static str,
}

impl Colors {
    pub(super) const fn new(on: bool) -> Self {
        if on {
            Self {
                red: "\x1b[0;31m",
                light_red: "\x1b[0;1;31m",
                green: "\x1b[0;32m",
                light_yellow: "\x1b[0;1;33m",
                cyan: "\x1b[0;36m",
                end: "\x1b[0;0m",
            }
        } else {
            Self { red: "", light_red: "", green: "", light_yellow: "", cyan: "", end: "" }
        }
    }
}

/// Text that cannot steer a terminal.
pub(super) fn defused(text: &str) -> String {
    text.replace('\x1b', "?")
}
