//! One answer of the node, read whole.

use super::runtime;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub question: String,
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Sends a request and reads the answer. Not for use on the runtime: it waits.
    #[track_caller]
    pub fn of(method: &str, path: &str, request: reqwest::RequestBuilder) -> Self {
        let question = format!("{method} {path}");
        runtime()
            .block_on(Self::get(question.clone(), request))
            .unwrap_or_else(|e| panic!("{question}: {e:?}"))
    }

    /// The same where one may not wait.
    ///
    /// # Errors
    /// No answer.
    pub async fn get(question: String, request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { question, status, headers, body: response.bytes().await?.to_vec() })
    }

    /// Demands this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}\n{:?}", self.question, self.text(), self.headers);
        self
    }

    /// Demands a refusal as the contract has it: this status, a problem document with this code.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let this = self.expect(status);
        assert_eq!(this.header("content-type"), Some("application/problem+json"), "{}", this.question);
        let problem = this.json();
        assert_eq!(problem["code"], code, "{}: {problem:#}", this.question);
        assert_eq!(problem["status"], status, "{}: {problem:#}", this.question);
        this
    }

    /// Demands a `Retry-After` in whole seconds, at least one.
    #[track_caller]
    pub fn retry_after_s(&self) -> u64 {
        let value = self.header("retry-after").unwrap_or_else(|| panic!("{}: no Retry-After", self.question));
        let seconds: u64 = value.parse().unwrap_or_else(|_| panic!("Retry-After: {value}"));
        assert!(seconds >= 1, "Retry-After: {value}");
        seconds
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{}: {e}: {}", self.question, self.text()))
    }
}
