//! Reading the crumb. Its form is told in `av::crash`, which writes it.

use super::Death;
use super::policy::signal_name;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// More than the longest crumb.
const MOST_BYTES: u64 = 64 << 10;

/// What a dying process wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crumb {
    signal: i32,
    /// Whether the thread did codec work.
    codec: bool,
    thread: String,
    job: Option<String>,
    running: Vec<String>,
}

impl Crumb {
    /// Says in the log what happened, and what of it concerns the jobs.
    pub(super) fn death(self) -> Death {
        let (signal, thread) = (signal_name(self.signal), &self.thread);
        if !self.codec {
            tracing::error!(thread, "the process before died of {signal}, and not of a job's codec work");
            return Death::None;
        }
        let job = self.job.as_deref().unwrap_or("unknown");
        tracing::error!(thread, job, "the process before died of {signal} in codec work");
        Death::Codec { signal: self.signal, certain: self.job, suspects: self.running }
    }
}

/// The crumb in that file; `None` when there is none, or none that can be read, which is logged.
pub(super) fn read(path: &Path) -> Option<Crumb> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return None,
        Err(e) => {
            tracing::error!("cannot read {}, so no job is held to account: {e}", path.display());
            return None;
        }
    }
    // Zeros where nothing was written.
    if bytes.first().is_none_or(|first| *first == 0) {
        return None;
    }
    let crumb = parse(&bytes);
    if crumb.is_none() {
        tracing::error!("{} makes no sense, so no job is held to account", path.display());
    }
    crumb
}

/// The first line. One without an end was cut off, and its list may lack names.
fn parse(bytes: &[u8]) -> Option<Crumb> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut fields = line.split(' ');
    let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
    let (signal, codec, thread) = (field("signal")?, field("codec")?, field("thread")?);
    let (job, running) = (field("job")?, field("running")?);
    Some(Crumb {
        signal: signal.parse().ok().filter(|number| (1..=128).contains(number))?,
        codec: ["0", "1"].iter().position(|word| *word == codec)? == 1,
        thread: thread.to_owned(),
        job: some(job).map(name).transpose().ok()?,
        running: some(running)
            .into_iter()
            .flat_map(|all| all.split(','))
            .map(name)
            .collect::<Result<_, _>>()
            .ok()?,
    })
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A run's name, or that it cannot be one.
fn name(text: &str) -> Result<String, ()> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._:~-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(known) { Ok(text.to_owned()) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crumb(job: Option<&str>, running: &[&str]) -> Crumb {
        Crumb {
            signal: 11,
            codec: true,
            thread: "av-3-decode".into(),
            job: job.map(str::to_owned),
            running: running.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    /// The lines are those of the tests of `av::crash`.
    #[test]
    fn what_the_handler_writes_is_understood() {
        let known = b"signal=11 codec=1 thread=av-3-decode job=b.B_9 running=movie-42,b.B_9\n\0\0\0";
        assert_eq!(parse(known), Some(crumb(Some("b.B_9"), &["movie-42", "b.B_9"])));
        let more = b"signal=11 codec=1 thread=av-3-decode job= running=movie-42,~\nsignal=6";
        assert_eq!(parse(more), Some(crumb(None, &["movie-42", "~"])));
        let alone = b"signal=8 codec=1 thread= job= running=\n";
        let expected = Crumb { signal: 8, thread: String::new(), ..crumb(None, &[]) };
        assert_eq!(parse(alone), Some(expected));
    }

    #[test]
    fn only_codec_work_is_the_jobs_affair() {
        let suspects = vec!["a".to_owned(), "b".to_owned()];
        let death = Death::Codec { signal: 11, certain: Some("a".into()), suspects };
        assert_eq!(crumb(Some("a"), &["a", "b"]).death(), death);
        assert_eq!(Crumb { codec: false, ..crumb(None, &["a", "b"]) }.death(), Death::None);
    }

    #[test]
    fn what_is_cut_off_or_odd_is_no_crumb() {
        let good = "signal=11 codec=1 thread=av-3-decode job=a running=a,b\n";
        assert!(parse(good.as_bytes()).is_some());
        for end in 0..good.len() {
            assert_eq!(parse(&good.as_bytes()[..end]), None, "{end}");
        }
        for (from, to) in [
            ("signal=11", "signal=0"),
            ("signal=11", "signal=-11"),
            ("signal=11", "signal=99999999999"),
            ("codec=1", "codec=2"),
            ("codec=1 ", ""),
            ("job=a", "job=a,b"),
            ("a,b", "a,,b"),
            ("a,b", "a,b,"),
            ("a,b", "a,\u{e4}"),
            ("signal", " signal"),
        ] {
            let odd = good.replacen(from, to, 1);
            assert_ne!(odd, good);
            assert_eq!(parse(odd.as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn an_empty_crumb_is_none_and_so_is_what_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("crumb");
        assert_eq!(read(&path), None);
        for empty in [&b""[..], &[0; 17_000]] {
            std::fs::write(&path, empty).unwrap();
            assert_eq!(read(&path), None);
        }
        assert_eq!(read(dir.path()), None);
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(read(&path), None);
    }

    proptest! {
        #[test]
        fn no_bytes_bring_the_reader_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_table_of_runs_comes_back(
            running in proptest::collection::vec("[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,63}", 0..20),
            which in any::<proptest::sample::Index>(),
        ) {
            let job = if running.is_empty() { None } else { Some(which.get(&running).clone()) };
            let line = format!(
                "signal=4 codec=1 thread=av-1-x job={} running={}\n",
                job.clone().unwrap_or_default(),
                running.join(",")
            );
            let found = parse(line.as_bytes()).unwrap();
            prop_assert_eq!((found.job, found.running), (job, running));
        }
    }
}
