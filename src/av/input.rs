//! Opening a source: our own AVIO, a list of real media demuxers, limits, packets.
//!
//! Input is hostile. Nothing but the one file is ever opened (`io_open` refuses), only the demuxers
//! in `DEMUXERS` run, so that a playlist or a concat script named `.mkv` reads nothing else, and
//! probing, streams and dimensions are bounded.

use super::error::{AvError, Received};
use super::log::RunLog;
use super::options::Dictionary;
use super::packet::{Packet, known};
use super::params::Parameters;
use super::reader::ReadAhead;
use super::sys;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, ErrorKind, Result, Stage};
use crate::base::time::Rational;
use std::ffi::{CStr, c_int, c_void};
use std::io::ErrorKind as IoKind;
use std::path::Path;
use std::ptr;
use std::time::Duration;

/// The demuxers that may run, by libav's names.
const DEMUXERS: &[&str] = &[
    "aac",
    "ac3",
    "aiff",
    "amr",
    "ape",
    "asf",
    "au",
    "avi",
    "caf",
    "dts",
    "dv",
    "eac3",
    "flac",
    "flv",
    "gxf",
    "h264",
    "hevc",
    "ivf",
    "m4v",
    "matroska",
    "mov",
    "mp3",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nut",
    "obu",
    "ogg",
    "rm",
    "swf",
    "tta",
    "vc1",
    "w64",
    "wav",
    "webm",
    "wtv",
    "wv",
    "yuv4mpegpipe",
];

/// Bytes that probing may read before it settles for what it knows.
const PROBE_BYTES: u32 = 1 << 20;
const ANALYZE_BYTES: i64 = 8 << 20;
/// Streams beyond this are refused: no film has them, fuzzers do.
const MAX_STREAMS: usize = 256;
/// Pictures above this many luma samples are refused (16384 x 8704 fits).
pub const MAX_PIXELS: i64 = 16_384 * 8_704;
const AVIO_BUFFER_BYTES: usize = 64 * 1024;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Moving pictures.
    Video,
    /// A still that goes with the title (cover art): flagged as attached picture.
    Cover,
    /// Sound.
    Audio,
    /// Subtitles.
    Subtitle,
    /// Attachments and data.
    Other,
}

/// One stream of the source.
#[derive(Debug)]
pub struct Stream {
    /// Index in the container.
    pub index: usize,
    /// The container's own number for it: the track ID of an MP4.
    pub id: i32,
    /// What it carries.
    pub kind: StreamKind,
    /// Codec parameters.
    pub params: Parameters,
    /// Seconds each tick.
    pub time_base: Rational,
    /// First presentation time, ticks; `None` when unknown.
    pub start_ticks: Option<i64>,
    /// Length, ticks; `None` when unknown.
    pub duration_ticks: Option<i64>,
    /// Average frame rate as the container or a probe tells.
    pub average_rate: Option<Rational>,
    /// The lowest rate at which every timestamp is exact, as libav guesses it.
    pub real_rate: Option<Rational>,
    /// Frames as the container tells.
    pub frame_count: Option<u64>,
    /// Language tag.
    pub language: Option<String>,
    /// Clockwise rotation that a player should apply, in degrees.
    pub rotation_degrees: i32,
    /// Marked as the default of its kind.
    pub is_default: bool,
}

/// An entry of a container's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Decode time in ticks of the stream (in Matroska, the time of presentation).
    pub dts: i64,
    /// Decoding can start here.
    pub key: bool,
    /// Where it lies in the file.
    pub offset: u64,
    /// Its size; 0 if unknown.
    pub bytes: u64,
}

/// An open source.
#[derive(Debug)]
pub struct Input {
    context: *mut sys::AVFormatContext,
    avio: *mut sys::AVIOContext,
    /// What the AVIO callbacks see; boxed, since they hold its address.
    io: *mut Io,
    streams: Vec<Stream>,
    format: String,
    size_bytes: u64,
    /// Nothing was read and nothing sought: the first packet to come is the file's first.
    untouched: bool,
}

#[derive(Debug)]
struct Io {
    reader: ReadAhead,
    cancel: Cancel,
    /// The last read failure that was not a cancel, to be told instead of "end of file".
    failure: Option<std::io::Error>,
}

// SAFETY: the context is used by one thread at a time (`&mut self`); its callbacks touch only `Io`,
// which nothing else does.
unsafe impl Send for Input {}

impl Input {
    /// Opens `path` and looks at its streams, reading a bounded amount.
    pub fn open(path: &Path, cancel: &Cancel, log: &RunLog, limit: Duration) -> Result<Self> {
        let reader = ReadAhead::open(path, cancel, limit)?;
        let size_bytes = reader.size();
        if size_bytes == 0 {
            let message = format!("{} is empty", path.display());
            return Err(Error::new(ErrorKind::BadSource, "empty_file", Stage::Open, message)
                .hint("the copy may have failed: compare it with the original"));
        }
        let io = Box::into_raw(Box::new(Io { reader, cancel: cancel.clone(), failure: None }));
        let mut input = Self {
            context: ptr::null_mut(),
            avio: ptr::null_mut(),
            io,
            streams: Vec::new(),
            format: String::new(),
            size_bytes,
            untouched: true,
        };
        input.open_context(path, log)?;
        input.find_streams(path)?;
        Ok(input)
    }

    /// Makes this input, which an earlier run has used, one of another run: from now on that run's abort
    /// flag ends its waiting, and libav's lines about it go to that run's log.
    pub fn rebind(&mut self, cancel: &Cancel, log: &RunLog) {
        let io = self.io_mut();
        io.cancel = cancel.clone();
        io.reader.rebind(cancel);
        io.failure = None;
        // SAFETY: open context and AVIO. What ended the earlier run's last read, its cancel included, says
        // nothing about the next one's.
        unsafe {
            (*self.context).opaque = log.opaque();
            (*self.avio).error = 0;
            (*self.avio).eof_reached = 0;
        }
    }

    /// Whether nothing was read or sought yet, so that the next packet is the first of the file.
    pub fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// The streams, in container order.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// The demuxer's name.
    pub fn format(&self) -> &str {
        &self.format
    }

    /// Size of the file.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Duration in seconds as the container tells or libav estimates.
    pub fn duration(&self) -> Option<Rational> {
        let ticks = known(self.get().duration).filter(|d| *d > 0)?;
        Some(Rational::new(ticks, i64::from(sys::AV_TIME_BASE)))
    }

    /// Average bit rate of the whole file, where known.
    pub fn bitrate_bps(&self) -> Option<u64> {
        u64::try_from(self.get().bit_rate).ok().filter(|b| *b > 0)
    }

    /// Reads only these streams from now on; the demuxer skips the others cheaply.
    pub fn keep_only(&mut self, keep: &[usize]) {
        for stream in &self.streams {
            let discard = if keep.contains(&stream.index) {
                sys::AVDiscard::AVDISCARD_DEFAULT
            } else {
                sys::AVDiscard::AVDISCARD_ALL
            };
            // SAFETY: the index is one of the context's streams.
            unsafe { (*self.stream_ptr(stream.index)).discard = discard }
        }
    }

    /// How much of the file is in memory from where the demuxer reads.
    pub fn bytes_at_hand(&self) -> usize {
        self.io().reader.bytes_at_hand()
    }

    /// Whether the disk did not answer when the run that read here was stopped: the next one has to open the file.
    pub fn hangs(&self) -> bool {
        self.io().reader.hangs()
    }

    /// The next packet. Damage is skipped by libav; a failing disk and a cancel are errors.
    pub fn read(&mut self, packet: &mut Packet) -> Result<Received> {
        packet.clear();
        self.untouched = false;
        // SAFETY: open context, valid packet.
        let code = unsafe { sys::av_read_frame(self.context, packet.as_mut_ptr()) };
        if let Some(failure) = self.io_mut().failure.take() {
            return Err(read_failure(&failure));
        }
        match AvError::received(code) {
            Ok(Received::NeedsInput) => Ok(Received::NeedsInput),
            Ok(got) => Ok(got),
            Err(AvError::EXIT) => Err(Error::cancelled(Stage::Demux)),
            Err(e) if e.is_bad_data() => Ok(Received::NeedsInput),
            Err(e) => Err(e.at(Stage::Demux, "cannot read the source")),
        }
    }

    /// Goes to the last key frame of `stream` at or before `ticks`, or as near as the container can.
    pub fn seek(&mut self, stream: usize, ticks: i64) -> Result<()> {
        self.seek_with(stream, ticks, sys::AVSEEK_FLAG_BACKWARD)
    }

    /// The same for any packet, not only key frames: for looking at times, not for decoding.
    pub fn seek_any(&mut self, stream: usize, ticks: i64) -> Result<()> {
        self.seek_with(stream, ticks, sys::AVSEEK_FLAG_BACKWARD | sys::AVSEEK_FLAG_ANY)
    }

    fn seek_with(&mut self, stream: usize, ticks: i64, flags: c_int) -> Result<()> {
        let index = c_int::try_from(stream).unwrap_or(-1);
        self.untouched = false;
        // SAFETY: open context; libav checks the index.
        let code = unsafe { sys::av_seek_frame(self.context, index, ticks, flags) };
        if let Some(failure) = self.io_mut().failure.take() {
            return Err(read_failure(&failure));
        }
        AvError::check(code).map(|_| ()).map_err(|e| e.at(Stage::Demux, "cannot seek in the source"))
    }

    /// Goes to a byte offset: for finding the end of containers without an index.
    pub fn seek_bytes(&mut self, offset: u64) -> Result<()> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.untouched = false;
        // SAFETY: open context.
        let code = unsafe { sys::av_seek_frame(self.context, -1, offset, sys::AVSEEK_FLAG_BYTE) };
        AvError::check(code).map(|_| ()).map_err(|e| e.at(Stage::Demux, "cannot seek in the source"))
    }

    /// How many entries [`Input::index`] has.
    pub fn index_len(&self, stream: usize) -> usize {
        if stream >= self.streams.len() {
            return 0;
        }
        // SAFETY: the index is one of the context's streams.
        let count = unsafe { sys::avformat_index_get_entries_count(self.stream_ptr(stream)) };
        usize::try_from(count).unwrap_or(0)
    }

    /// The container's index of a stream, as the demuxer has it now: some learn it at the first seek, and
    /// some add to it while they read. Empty where there is none.
    pub fn index(&self, stream: usize) -> Vec<IndexEntry> {
        (0..self.index_len(stream)).filter_map(|i| self.index_entry(stream, i)).collect()
    }

    /// One entry of it.
    pub fn index_entry(&self, stream: usize, i: usize) -> Option<IndexEntry> {
        if stream >= self.streams.len() {
            return None;
        }
        // SAFETY: the index is one of the context's streams; libav checks the number of the entry, which
        // is read at once.
        let entry = unsafe {
            sys::avformat_index_get_entry(self.stream_ptr(stream), c_int::try_from(i).ok()?).as_ref()?
        };
        Some(IndexEntry {
            dts: entry.timestamp,
            key: entry.flags() & sys::AVINDEX_KEYFRAME as c_int != 0,
            offset: u64::try_from(entry.pos).unwrap_or(u64::MAX),
            bytes: u64::try_from(entry.size()).unwrap_or(0),
        })
    }

    fn open_context(&mut self, path: &Path, log: &RunLog) -> Result<()> {
        // SAFETY: each allocation is checked; what is made is owned by self and freed in `drop`.
        // `pb` is ours, so libav marks the context as having custom I/O and never frees it.
        unsafe {
            let buffer = sys::av_malloc(AVIO_BUFFER_BYTES).cast::<u8>();
            self.context = sys::avformat_alloc_context();
            if buffer.is_null() || self.context.is_null() {
                sys::av_free(buffer.cast());
                return Err(AvError::NO_MEMORY.at(Stage::Open, "cannot open the source"));
            }
            let size = AVIO_BUFFER_BYTES as c_int;
            self.avio =
                sys::avio_alloc_context(buffer, size, 0, self.io.cast(), Some(read_packet), None, Some(seek));
            if self.avio.is_null() {
                sys::av_free(buffer.cast());
                return Err(AvError::NO_MEMORY.at(Stage::Open, "cannot open the source"));
            }
            let context = &mut *self.context;
            context.pb = self.avio;
            // Before the open sets it too: a context that is never opened must not close our AVIO.
            context.flags |= sys::AVFMT_FLAG_CUSTOM_IO as c_int;
            context.opaque = log.opaque();
            context.io_open = Some(refuse_open);
            context.interrupt_callback =
                sys::AVIOInterruptCB { callback: Some(interrupted), opaque: self.io.cast() };
            context.probesize = ANALYZE_BYTES;
            context.max_analyze_duration = i64::from(sys::AV_TIME_BASE) * 5;
            context.max_streams = MAX_STREAMS as c_int;
        }
        let demuxer = self.probe(path)?;
        let mut options = Dictionary::new();
        options.set("protocol_whitelist", "none");
        // SAFETY: on failure libav frees the context and nulls our pointer; the AVIO stays ours.
        let code = unsafe {
            sys::avformat_open_input(&mut self.context, ptr::null(), demuxer, options.as_mut_ptr())
        };
        self.told_failure()?;
        AvError::check(code).map(|_| ()).map_err(|e| self.unreadable(path, e))
    }

    /// Finds the demuxer by content alone and looks it up in the list.
    fn probe(&mut self, path: &Path) -> Result<*const sys::AVInputFormat> {
        let mut demuxer: *const sys::AVInputFormat = ptr::null();
        // SAFETY: valid AVIO; the name is empty so that only the content counts.
        let code = unsafe {
            sys::av_probe_input_buffer2(
                self.avio,
                &mut demuxer,
                c"".as_ptr(),
                ptr::null_mut(),
                0,
                PROBE_BYTES,
            )
        };
        self.told_failure()?;
        if code < 0 || demuxer.is_null() {
            return Err(self.not_media(path, None));
        }
        // SAFETY: demuxers and their names are static.
        let name = unsafe { CStr::from_ptr((*demuxer).name) }.to_string_lossy().into_owned();
        if !name.split(',').any(|n| DEMUXERS.contains(&n)) {
            return Err(self.not_media(path, Some(&name)));
        }
        self.format = name;
        Ok(demuxer)
    }

    fn find_streams(&mut self, path: &Path) -> Result<()> {
        // SAFETY: open context.
        let code = unsafe { sys::avformat_find_stream_info(self.context, ptr::null_mut()) };
        self.told_failure()?;
        AvError::check(code).map_err(|e| self.unreadable(path, e))?;
        let count = usize::try_from(self.get().nb_streams).unwrap_or(0);
        for index in 0..count.min(MAX_STREAMS) {
            // SAFETY: index < nb_streams.
            let stream = unsafe { describe(index, self.stream_ptr(index)) };
            self.streams.push(stream.map_err(|e| e.at(Stage::Open, "cannot describe a stream"))?);
        }
        Ok(())
    }

    fn told_failure(&mut self) -> Result<()> {
        if self.io_mut().cancel.is_cancelled() {
            return Err(Error::cancelled(Stage::Open));
        }
        self.io_mut().failure.take().map_or(Ok(()), |f| Err(read_failure(&f)))
    }

    fn not_media(&self, path: &Path, found: Option<&str>) -> Error {
        let what = found.map_or(String::new(), |f| format!(" (its content looks like '{f}')"));
        let message = format!("{} is not a media file that sprocket reads{what}", path.display());
        Error::new(ErrorKind::BadSource, "not_media", Stage::Open, message)
            .hint("films in MP4, MOV, Matroska, WebM, MPEG-TS, MPEG-PS, AVI, ASF, FLV and the common sound files are read")
    }

    fn unreadable(&self, path: &Path, err: AvError) -> Error {
        let message = format!("{} ({}) cannot be opened: {err}", path.display(), self.format);
        Error::new(ErrorKind::BadSource, "damaged_container", Stage::Open, message).hint(
            "the file looks cut off or damaged: an MP4 whose copy or recording did not finish lacks its index (moov)",
        )
    }

    fn get(&self) -> &sys::AVFormatContext {
        // SAFETY: `open` returns a value only with an open context.
        unsafe { &*self.context }
    }

    fn io(&self) -> &Io {
        // SAFETY: as in `io_mut`.
        unsafe { &*self.io }
    }

    fn io_mut(&mut self) -> &mut Io {
        // SAFETY: made in `open`, freed in `drop`; the callbacks run only inside calls on `&mut self`.
        unsafe { &mut *self.io }
    }

    /// # Safety
    /// `index` has to be below `nb_streams`.
    unsafe fn stream_ptr(&self, index: usize) -> *mut sys::AVStream {
        // SAFETY: the caller's promise.
        unsafe { *self.get().streams.add(index) }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: each is ours, freed once; the AVIO's buffer may have been replaced by libav, so it
        // is taken from the context. The callbacks' `Io` goes last.
        unsafe {
            if !self.context.is_null() {
                sys::avformat_close_input(&mut self.context);
            }
            if !self.avio.is_null() {
                sys::av_freep((&raw mut (*self.avio).buffer).cast());
                sys::avio_context_free(&mut self.avio);
            }
            drop(Box::from_raw(self.io));
        }
    }
}

fn read_failure(err: &std::io::Error) -> Error {
    if err.kind() == IoKind::Interrupted {
        return Error::cancelled(Stage::Demux);
    }
    Error::new(ErrorKind::Io, "read_failed", Stage::Demux, format!("reading the source failed: {err}"))
        .hint("check the disk or network mount")
}

/// # Safety
/// `stream` has to be valid.
unsafe fn describe(index: usize, stream: *const sys::AVStream) -> Result<Stream, AvError> {
    use sys::AVMediaType as T;
    // SAFETY: the caller's promise; codecpar is never null in a demuxer's stream.
    unsafe {
        let st = &*stream;
        let params = Parameters::copy_of(st.codecpar)?;
        let cover = st.disposition & sys::AV_DISPOSITION_ATTACHED_PIC as c_int != 0;
        let kind = match (*st.codecpar).codec_type {
            T::AVMEDIA_TYPE_VIDEO if cover => StreamKind::Cover,
            T::AVMEDIA_TYPE_VIDEO => StreamKind::Video,
            T::AVMEDIA_TYPE_AUDIO => StreamKind::Audio,
            T::AVMEDIA_TYPE_SUBTITLE => StreamKind::Subtitle,
            _ => StreamKind::Other,
        };
        Ok(Stream {
            index,
            id: st.id,
            kind,
            params,
            time_base: sys::rational(st.time_base).unwrap_or(Rational::TB_90K),
            start_ticks: known(st.start_time),
            duration_ticks: known(st.duration).filter(|d| *d > 0),
            average_rate: sys::rational(st.avg_frame_rate).filter(|r| r.is_positive()),
            real_rate: sys::rational(st.r_frame_rate).filter(|r| r.is_positive()),
            frame_count: u64::try_from(st.nb_frames).ok().filter(|n| *n > 0),
            language: super::options::get(st.metadata, c"language"),
            rotation_degrees: rotation(stream),
            is_default: st.disposition & sys::AV_DISPOSITION_DEFAULT as c_int != 0,
        })
    }
}

/// # Safety
/// `stream` has to be valid.
unsafe fn rotation(stream: *const sys::AVStream) -> i32 {
    const MATRIX_BYTES: usize = 9 * 4;
    let mut size = 0usize;
    // SAFETY: the caller's promise; the matrix is nine 32-bit integers, checked by size.
    unsafe {
        let kind = sys::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX as c_int;
        let data = sys::shim::sprocket_stream_side_data(stream.cast(), kind, (&raw mut size).cast());
        if data.is_null() || size < MATRIX_BYTES {
            return 0;
        }
        let counter_clockwise = sys::av_display_rotation_get(data.cast());
        if counter_clockwise.is_nan() { 0 } else { (-counter_clockwise.round() as i32).rem_euclid(360) }
    }
}

/// AVIO read callback. Runs only inside libav calls on the `Input` that owns the `Io`.
unsafe extern "C" fn read_packet(opaque: *mut c_void, buffer: *mut u8, size: c_int) -> c_int {
    // SAFETY: opaque is the `Io` of the input; libav passes `size` writable bytes.
    let (io, out) = unsafe {
        (
            &mut *opaque.cast::<Io>(),
            std::slice::from_raw_parts_mut(buffer, usize::try_from(size).unwrap_or(0)),
        )
    };
    match io.reader.read(out) {
        Ok(0) => sys::AVERROR_EOF,
        Ok(n) => c_int::try_from(n).unwrap_or(0),
        Err(e) if e.kind() == IoKind::Interrupted => sys::AVERROR_EXIT,
        Err(e) => {
            io.failure = Some(e);
            sys::AVERROR(libc::EIO)
        }
    }
}

/// AVIO seek callback.
unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read_packet`.
    let io = unsafe { &mut *opaque.cast::<Io>() };
    let size = i64::try_from(io.reader.size()).unwrap_or(i64::MAX);
    let position = i64::try_from(io.reader.position()).unwrap_or(i64::MAX);
    let target = match whence & !(sys::AVSEEK_FORCE as c_int) {
        w if w == sys::AVSEEK_SIZE as c_int => return size,
        libc::SEEK_SET => offset,
        libc::SEEK_CUR => position.saturating_add(offset),
        libc::SEEK_END => size.saturating_add(offset),
        _ => return i64::from(sys::AVERROR(libc::EINVAL)),
    };
    let Ok(target) = u64::try_from(target) else {
        return i64::from(sys::AVERROR(libc::EINVAL));
    };
    match io.reader.seek(target) {
        Ok(at) => i64::try_from(at).unwrap_or(i64::MAX),
        Err(_) => i64::from(sys::AVERROR_EXIT),
    }
}

/// Interrupt callback: libav asks it in its own loops.
unsafe extern "C" fn interrupted(opaque: *mut c_void) -> c_int {
    // SAFETY: opaque is the `Io` of the input; only the flag is read.
    c_int::from(unsafe { (*opaque.cast::<Io>()).cancel.is_cancelled() })
}

/// Opening anything beyond the one source is refused, whatever the container asks for.
unsafe extern "C" fn refuse_open(
    _: *mut sys::AVFormatContext,
    _: *mut *mut sys::AVIOContext,
    _: *const libc::c_char,
    _: c_int,
    _: *mut *mut sys::AVDictionary,
) -> c_int {
    sys::AVERROR(libc::EACCES)
}
