//! Where the bytes come from: one request, one answer, nothing followed.
//!
//! The check asks through this trait and knows neither sockets nor disks. What fetches over HTTP, from
//! a folder or from memory stands outside.

use crate::base::error::Error;
use std::time::Duration;

/// An absolute address: `http`, `https` or `file`.
pub use reqwest::Url;

/// HTTP's words; a folder knows `GET` alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The whole or a range.
    #[default]
    Get,
    /// The header fields alone.
    Head,
    /// What a browser asks before a request across origins.
    Options,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What.
    pub url: Url,
    /// How.
    pub method: Method,
    /// Header fields, beyond what every request has.
    pub headers: Vec<(&'static str, String)>,
    /// Bytes of body after which reading stops.
    pub max_bytes: u64,
}

/// One answer, as it came.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// HTTP's status; 200 and 404 from a folder.
    pub status: u16,
    /// Header fields in their order, names in lower case; none from a folder.
    pub headers: Vec<(String, String)>,
    /// The body, not decompressed.
    pub body: Vec<u8>,
    /// The body is longer than [`Request::max_bytes`].
    pub truncated: bool,
    /// Until the first byte.
    pub first_byte: Duration,
    /// HTTP/1.1 or later.
    pub http_1_1: bool,
}

impl Answer {
    /// A header field, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The check is to end: cancelled, or this machine cannot go on.
    Stop(Error),
    /// This one failed, and why. The check notes it and goes on.
    Failed(String),
}

/// What fetches.
pub trait Source {
    /// Does one request. A redirect is an answer as any other.
    ///
    /// # Errors
    /// [`Trouble`].
    fn fetch(&mut self, request: &Request) -> Result<Answer, Trouble>;

    /// Whether answers have header fields and requests have a meaning beyond `GET`.
    fn is_http(&self) -> bool;
}
