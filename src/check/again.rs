//! What can only be seen by asking again, over HTTP: rows P8, P9, F2, J1, and all ways to ask (H rows).
//!
//! What enters: a walk that has read every segment, and what it read at first. What leaves: findings. By
//! now a stream that is made on demand has been made: what it said before must still be true.

use super::fragment;
use super::http::{self, Kind, Subject};
use super::m3u8::Playlist;
use super::media::{Media, Unit};
use super::playlists;
use super::program;
use super::report::Row;
use super::source::{Answer, Url};
use super::ts::{self, Counters};
use super::walk::{List, MAX_PLAYLIST, MAX_SEGMENT, Walk, fingerprint, get};
use crate::base::error::Result;

const CHANGED: &str = "its bytes have changed since it was first read";

/// Asks for everything that is worth it: playlists, the init segment, three segments of each playlist.
pub(super) fn ask(walk: &mut Walk<'_>, master: Option<(&Url, &str, &Answer)>, lists: &[List]) -> Result<()> {
    if let Some((url, uri, whole)) = master {
        let kind = Kind::Playlist { growing: false };
        http::probe(walk, &Subject { kind, url, uri, whole })?;
        if let Some(again) = walk.ask(&get(url, MAX_PLAYLIST), Row::P8, uri)? {
            walk.findings.check(Row::P8, again.body == whole.body, uri, || CHANGED.into());
        }
    }
    for list in lists {
        playlist(walk, list)?;
        init(walk, list)?;
        segments(walk, list)?;
        http::missing(walk, &list.url)?;
    }
    Ok(())
}

fn playlist(walk: &mut Walk<'_>, list: &List) -> Result<()> {
    let (url, uri) = (&list.url, list.uri.as_str());
    let growing = list.is_growing();
    let row = if growing { Row::P9 } else { Row::P8 };
    let Some(again) = walk.ask(&get(url, MAX_PLAYLIST), row, uri)? else { return Ok(()) };
    if growing {
        let later = Playlist::parse(&String::from_utf8_lossy(&again.body));
        playlists::grown(&list.playlist, &later, uri, &mut walk.findings);
    } else {
        walk.findings.check(row, fingerprint(&again.body) == list.print, uri, || CHANGED.into());
    }
    http::probe(walk, &Subject { kind: Kind::Playlist { growing }, url, uri, whole: &again })
}

fn init(walk: &mut Walk<'_>, list: &List) -> Result<()> {
    let Some(map) = list.playlist.maps.first().filter(|map| map.slice.is_none()) else { return Ok(()) };
    let Some(url) = walk.resolve(&list.url, &map.uri, &list.uri) else { return Ok(()) };
    let uri = walk.label(&url);
    let Some(whole) = walk.ask(&get(&url, MAX_SEGMENT), Row::F2, &uri)? else { return Ok(()) };
    let same = list.init_print.is_none_or(|print| print == fingerprint(&whole.body));
    walk.findings.check(Row::F2, same, &uri, || CHANGED.into());
    http::probe(walk, &Subject { kind: Kind::Init, url: &url, uri: &uri, whole: &whole })
}

/// The last, a middle and the first segment, in this order.
fn segments(walk: &mut Walk<'_>, list: &List) -> Result<()> {
    let count = list.playlist.segments.len();
    let mut indices = vec![count.saturating_sub(1), count / 2, 0];
    indices.dedup();
    for index in indices {
        let line = list.playlist.segments.get(index).filter(|line| line.slice.is_none());
        let Some(line) = line else { continue };
        let Some(url) = walk.resolve(&list.url, &line.uri, &list.uri) else { continue };
        let uri = walk.label(&url);
        let Some(whole) = walk.ask(&get(&url, MAX_SEGMENT), Row::J1, &uri)? else { continue };
        let Some(again) = walk.ask(&get(&url, MAX_SEGMENT), Row::J1, &uri)? else { continue };
        let same_media = || facts(list, line.map, &whole.body) == facts(list, line.map, &again.body);
        if whole.body == again.body {
            walk.findings.judged(Row::J1);
        } else if same_media() {
            walk.findings.advice(
                Row::J1,
                &uri,
                "other bytes when it is asked for again, with the same pictures and sound",
            );
        } else {
            walk.findings.broken(Row::J1, &uri, "other pictures or sound when it is asked for again");
        }
        http::probe(walk, &Subject { kind: Kind::Segment, url: &url, uri: &uri, whole: &again })?;
    }
    Ok(())
}

/// Which tracks, how many frames, and when: what has to be the same whenever a segment is made.
fn facts(list: &List, map: Option<usize>, body: &[u8]) -> Vec<(u32, u64, Vec<Unit>)> {
    let media = match map {
        Some(at) => list.inits.get(at).and_then(Option::as_ref).map(|init| fragment::read(body, init)),
        None => Some(program::media(ts::read(body, &mut Counters::default()), None)),
    };
    let lanes = media.map_or(Vec::new(), |media: Media| media.lanes);
    lanes.into_iter().map(|lane| (lane.id, lane.frames, lane.units)).collect()
}
