//! Single files through libav's muxers.

use super::error::AvError;
use super::log::RunLog;
use super::options::Dictionary;
use super::packet::Packet;
use super::params::Parameters;
use super::sys;
use crate::base::cancel::Cancel;
use crate::base::time::Rational;
use std::ffi::{CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Which container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// MP4 with the index in front, composition offsets signed.
    Mp4,
    /// Matroska.
    Mkv,
    /// MPEG-TS with title time 0 at the given 90 kHz tick.
    Ts,
}

/// One stream of the file to be.
#[derive(Debug)]
pub struct OutputStream {
    /// Codec parameters.
    pub params: Parameters,
    /// Seconds each tick of the packets that will come.
    pub time_base: Rational,
    /// Frames each second, for pictures.
    pub frame_rate: Option<Rational>,
}

/// A file being written.
#[derive(Debug)]
pub struct Output {
    context: *mut sys::AVFormatContext,
    time_bases: Vec<Rational>,
    /// What the interrupt callback looks at; freed behind the context.
    cancel: Box<Cancel>,
}

// SAFETY: used by one thread at a time (`&mut self`).
unsafe impl Send for Output {}

impl Output {
    /// Creates `path` and writes the header. `cancel` is looked at with each write, and in moving the
    /// index to the front, which reads and writes the whole file.
    pub fn create(
        path: &Path,
        format: FileFormat,
        streams: Vec<OutputStream>,
        log: &RunLog,
        cancel: &Cancel,
    ) -> Result<Self, AvError> {
        let einval = AvError(sys::AVERROR(libc::EINVAL));
        let name = match format {
            FileFormat::Mp4 => c"mp4",
            FileFormat::Mkv => c"matroska",
            FileFormat::Ts => c"mpegts",
        };
        // The protocol is named, so that no path can be taken for a URL.
        let url = [b"file:", path.as_os_str().as_bytes()].concat();
        let url = CString::new(url).map_err(|_| einval)?;
        let mut this =
            Self { context: ptr::null_mut(), time_bases: Vec::new(), cancel: Box::new(cancel.clone()) };
        // SAFETY: the context is owned by `this` from here on, so every early return frees it.
        unsafe {
            AvError::check(sys::avformat_alloc_output_context2(
                &mut this.context,
                ptr::null(),
                name.as_ptr(),
                url.as_ptr(),
            ))?;
            (*this.context).opaque = log.opaque();
            for stream in streams {
                this.add_stream(stream, format)?;
            }
            let interrupt = sys::AVIOInterruptCB {
                callback: Some(interrupted),
                opaque: ptr::from_ref(this.cancel.as_ref()).cast_mut().cast(),
            };
            (*this.context).interrupt_callback = interrupt;
            AvError::check(sys::avio_open2(
                &mut (*this.context).pb,
                url.as_ptr(),
                sys::AVIO_FLAG_WRITE as i32,
                &interrupt,
                ptr::null_mut(),
            ))?;
            let mut options = muxer_options(format);
            AvError::check(sys::avformat_write_header(this.context, options.as_mut_ptr()))?;
        }
        Ok(this)
    }

    /// # Safety
    /// The context has to be valid and its header not written yet.
    unsafe fn add_stream(&mut self, stream: OutputStream, format: FileFormat) -> Result<(), AvError> {
        // SAFETY: the caller's promise; the new stream belongs to the context.
        unsafe {
            let st = sys::avformat_new_stream(self.context, ptr::null());
            if st.is_null() {
                return Err(AvError::NO_MEMORY);
            }
            let mut params = stream.params;
            params.clear_tag();
            // Apple's players take HEVC only under this tag.
            if format == FileFormat::Mp4 && params.get().codec_id == sys::AVCodecID::AV_CODEC_ID_HEVC {
                params.set_tag(*b"hvc1");
            }
            AvError::check(sys::avcodec_parameters_copy((*st).codecpar, params.as_ptr()))?;
            (*st).time_base = sys::av_rational(stream.time_base);
            if let Some(rate) = stream.frame_rate {
                (*st).avg_frame_rate = sys::av_rational(rate);
                (*st).r_frame_rate = sys::av_rational(rate);
            }
            self.time_bases.push(stream.time_base);
            Ok(())
        }
    }

    /// Writes a packet whose times are in the time base that its stream was created with. Packets
    /// of different streams may come in any order within a few seconds: libav interleaves.
    pub fn write(&mut self, mut packet: Packet, stream: usize) -> Result<(), AvError> {
        let from = self.time_bases.get(stream).copied().ok_or(AvError(sys::AVERROR(libc::EINVAL)))?;
        // SAFETY: the stream exists (same index as its time base); libav takes the packet's data.
        unsafe {
            let st = *(*self.context).streams.add(stream);
            packet.rescale(sys::av_rational(from), (*st).time_base);
            AvError::check(sys::av_interleaved_write_frame(self.context, packet.as_mut_ptr())).map(|_| ())
        }
    }

    /// Writes what is left and the index, and closes the file, telling every write that failed.
    pub fn finish(mut self) -> Result<(), AvError> {
        // SAFETY: open context with a written header; `pb` is closed once and nulled.
        unsafe {
            AvError::check(sys::av_write_trailer(self.context))?;
            AvError::check((*(*self.context).pb).error)?;
            AvError::check(sys::avio_closep(&mut (*self.context).pb)).map(|_| ())?;
        }
        self.time_bases.clear();
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: ours; the file is closed (a second time is a no-op on null) and the context freed.
        unsafe {
            if !self.context.is_null() {
                sys::avio_closep(&mut (*self.context).pb);
                sys::avformat_free_context(self.context);
            }
        }
    }
}

/// Interrupt callback: libav asks it with each read and write of the file.
unsafe extern "C" fn interrupted(opaque: *mut c_void) -> c_int {
    // SAFETY: opaque is the `Cancel` of the output, which outlives the context.
    let cancel = unsafe { &*opaque.cast::<Cancel>() };
    cancel.goes_on();
    c_int::from(cancel.is_cancelled())
}

fn muxer_options(format: FileFormat) -> Dictionary {
    let mut options = Dictionary::new();
    match format {
        FileFormat::Mp4 => options.set("movflags", "+faststart+negative_cts_offsets"),
        // Title time 0 stays 0: the priming of the sound may lie before it.
        FileFormat::Mkv => options.set("avoid_negative_ts", "disabled"),
        FileFormat::Ts => {
            options.set("mpegts_copyts", "1");
            options.set("mpegts_flags", "+pat_pmt_at_frames");
        }
    }
    options
}
