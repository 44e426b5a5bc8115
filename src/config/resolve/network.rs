//! The sections `http` and `orchestrator`: addresses, tokens, origins.

use super::Desk;
use crate::config::fault::KeyPath;
use crate::config::files;
use crate::config::settings::{Http, Orchestrator, Secret};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const LISTEN: &str = "must be an address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080";
const ORIGIN: &str =
    "must be an origin such as https://tv.example or http://10.0.0.2:3000, without a path, or * alone";
const URL: &str = "must be an http:// or https:// address such as http://orchestrator:9000, without query, \
                   fragment, user name and password";
const TOKEN: &str = "must be printable ASCII without spaces: it travels in an HTTP header";

impl Desk<'_> {
    pub(super) fn http(&mut self) -> Http {
        let http = &self.raw.http;
        let listen = http.listen.parse().unwrap_or_else(|_| {
            self.complain(KeyPath::dotted("http.listen"), LISTEN);
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        });
        let faults_before = self.complaints.len();
        let control_token = self.token("http.control_token", &http.control_token, &http.control_token_file);
        // A token that was given and is wrong has been complained about already.
        if control_token.is_none() && self.complaints.len() == faults_before {
            self.needs_token(listen);
        }
        let stream_token = self.token("http.stream_token", &http.stream_token, &http.stream_token_file);
        self.origins();
        Http { listen, control_token, stream_token, cors_origins: http.cors_origins.clone() }
    }

    /// Whoever reaches the port could start jobs and delete outputs.
    fn needs_token(&mut self, listen: SocketAddr) {
        if !listen.ip().to_canonical().is_loopback() {
            let expected = format!(
                "must be set, since http.listen ({listen}) is reachable from other machines: set \
                 http.control_token, http.control_token_file or SPROCKET_HTTP__CONTROL_TOKEN to a secret, \
                 or let http.listen be 127.0.0.1:{}",
                listen.port()
            );
            self.complain(KeyPath::dotted("http.control_token"), expected);
        }
    }

    /// The token, written in place or in a file of its own.
    fn token(&mut self, key: &str, written: &Secret, file: &str) -> Option<Secret> {
        let file_key = KeyPath::dotted(&format!("{key}_file"));
        if file.is_empty() {
            return self.checked_token(KeyPath::dotted(key), written.clone());
        }
        if !written.is_empty() {
            self.complain(file_key, format!("must be left out when {key} is set: which of them would hold?"));
            return None;
        }
        match files::read(Path::new(file)) {
            Ok(_) if !Path::new(file).is_absolute() => {
                self.complain(file_key, "must be an absolute path");
                None
            }
            Ok(text) if text.trim().is_empty() => {
                self.complain(file_key, "must be a file with the token in it: this one is empty");
                None
            }
            Ok(text) => self.checked_token(file_key, Secret::new(text.trim())),
            Err(why) => {
                self.complain(file_key, format!("must be a file with the token in it: this one {why}"));
                None
            }
        }
    }

    fn checked_token(&mut self, key: KeyPath, token: Secret) -> Option<Secret> {
        if !token.expose().bytes().all(|b| b.is_ascii_graphic()) {
            self.complain(key, TOKEN);
            return None;
        }
        (!token.is_empty()).then_some(token)
    }

    fn origins(&mut self) {
        let origins = &self.raw.http.cors_origins;
        for (place, origin) in origins.iter().enumerate() {
            let fine = if origin == "*" { origins.len() == 1 } else { is_origin(origin) };
            if !fine {
                self.complain(KeyPath::dotted("http.cors_origins").index(place), ORIGIN);
            }
        }
    }

    pub(super) fn orchestrator(&mut self) -> Orchestrator {
        let raw = &self.raw.orchestrator;
        let url = (!raw.url.is_empty()).then(|| raw.url.trim_end_matches('/').to_owned());
        if url.as_deref().is_some_and(|url| !is_base_url(url)) {
            self.complain(KeyPath::dotted("orchestrator.url"), URL);
        }
        let token = self.token("orchestrator.token", &raw.token, &raw.token_file);
        if url.is_none() && token.is_some() {
            self.warnings.push(
                "orchestrator.token is set, but orchestrator.url is not: the node is stand-alone".into(),
            );
        }
        let heartbeat_interval =
            self.time("orchestrator.heartbeat_interval", &raw.heartbeat_interval, "1s", "1h");
        Orchestrator { url, token, heartbeat_interval }
    }
}

/// `scheme://host[:port]`, as browsers send it.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
    scheme_fits && is_authority(authority)
}

fn is_base_url(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let rest = lower.strip_prefix("http://").or_else(|| lower.strip_prefix("https://"));
    let Some(rest) = rest else { return false };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path_fits = path.chars().all(|c| c.is_ascii_graphic() && !"?#\\\"<>".contains(c));
    is_authority(authority) && path_fits
}

/// `host`, `host:port` or `[v6]:port`: no user, no path.
fn is_authority(text: &str) -> bool {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_fits && address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let host_fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !host.is_empty() && host.chars().all(host_fits) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}
