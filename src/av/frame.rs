//! An owned decoded picture or piece of sound.

use super::error::AvError;
use super::packet::known;
use super::sys;

/// A frame. Its planes are reference-counted by libav: [`Frame::share`] copies nothing.
#[derive(Debug)]
pub struct Frame(*mut sys::AVFrame);

// SAFETY: a frame has no tie to a thread; its buffers' counts are atomic.
unsafe impl Send for Frame {}
// SAFETY: shared references only read fields and take further references.
unsafe impl Sync for Frame {}

impl Frame {
    /// An empty frame.
    pub fn new() -> Result<Self, AvError> {
        // SAFETY: plain allocation; null is handled.
        let frame = unsafe { sys::av_frame_alloc() };
        if frame.is_null() { Err(AvError::NO_MEMORY) } else { Ok(Self(frame)) }
    }

    /// A second frame on the same planes.
    pub fn share(&self) -> Result<Self, AvError> {
        let other = Self::new()?;
        // SAFETY: both frames are valid; the source may have no buffers, which is an error, not UB.
        AvError::check(unsafe { sys::av_frame_ref(other.0, self.0) })?;
        Ok(other)
    }

    pub(super) fn as_ptr(&self) -> *const sys::AVFrame {
        self.0
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut sys::AVFrame {
        self.0
    }

    pub(super) fn get(&self) -> &sys::AVFrame {
        // SAFETY: never null, and owned by self.
        unsafe { &*self.0 }
    }

    pub(super) fn get_mut(&mut self) -> &mut sys::AVFrame {
        // SAFETY: never null, and owned by self alone.
        unsafe { &mut *self.0 }
    }

    /// Presentation time as set by whoever made the frame: a decoder's best guess in stream ticks.
    pub fn pts(&self) -> Option<i64> {
        known(self.get().pts)
    }

    /// The decoder's best guess at the presentation time in stream ticks.
    pub fn best_effort_pts(&self) -> Option<i64> {
        known(self.get().best_effort_timestamp).or_else(|| self.pts())
    }

    /// Sets the presentation time.
    pub fn set_pts(&mut self, pts: i64) {
        self.get_mut().pts = pts;
    }

    /// Whether the encoder has to make (or the decoder found) a key picture here.
    pub fn set_key_wanted(&mut self, wanted: bool) {
        let kind = if wanted {
            sys::AVPictureType::AV_PICTURE_TYPE_I
        } else {
            sys::AVPictureType::AV_PICTURE_TYPE_NONE
        };
        self.get_mut().pict_type = kind;
    }

    /// Whether this is libav's name of its pixel format.
    pub fn has_format(&self, name: &str) -> bool {
        let Ok(name) = std::ffi::CString::new(name) else { return false };
        // SAFETY: a look-up by a terminated string.
        let format = unsafe { sys::av_get_pix_fmt(name.as_ptr()) };
        format as i32 == self.get().format
    }

    /// Whether its samples use the whole range, as in JPEG, rather than the range of television.
    pub fn is_full_range(&self) -> bool {
        self.get().color_range == sys::AVColorRange::AVCOL_RANGE_JPEG
    }

    /// Whether it is flagged as interlaced.
    pub fn is_interlaced(&self) -> bool {
        // SAFETY: valid frame, read only.
        unsafe { sys::shim::sprocket_frame_is_interlaced(self.0.cast()) != 0 }
    }

    /// Whether the decoder concealed or missed something.
    pub fn is_damaged(&self) -> bool {
        // SAFETY: valid frame, read only.
        unsafe { sys::shim::sprocket_frame_is_damaged(self.0.cast()) != 0 }
    }

    /// Width in luma samples; 0 for sound.
    pub fn width(&self) -> u32 {
        u32::try_from(self.get().width).unwrap_or(0)
    }

    /// Height in luma samples; 0 for sound.
    pub fn height(&self) -> u32 {
        u32::try_from(self.get().height).unwrap_or(0)
    }

    /// Number of audio samples (for each channel).
    pub fn samples(&self) -> usize {
        usize::try_from(self.get().nb_samples).unwrap_or(0)
    }

    /// Samples each second; 0 for pictures.
    pub fn sample_rate(&self) -> u32 {
        u32::try_from(self.get().sample_rate).unwrap_or(0)
    }

    /// The pixel or sample format's number.
    pub fn format(&self) -> i32 {
        self.get().format
    }

    /// What makes a filter graph need rebuilding when it changes.
    pub fn shape(&self) -> Shape {
        let f = self.get();
        Shape {
            width: f.width,
            height: f.height,
            format: f.format,
            sample_rate: f.sample_rate,
            channels: f.ch_layout.nb_channels,
            surfaces: self.surfaces_id(),
        }
    }

    /// A frame of planar float sound with room for `samples` of `channels`, zeroed.
    pub fn planar_float(sample_rate: u32, channels: u32, samples: usize) -> Result<Self, AvError> {
        let mut frame = Self::new()?;
        let f = frame.get_mut();
        f.format = sys::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32;
        f.nb_samples = i32::try_from(samples).map_err(|_| AvError::NO_MEMORY)?;
        f.sample_rate = i32::try_from(sample_rate).map_err(|_| AvError::NO_MEMORY)?;
        // SAFETY: valid frame; the layout is initialised by the call, the buffers are allocated for
        // exactly the fields set above.
        unsafe {
            sys::av_channel_layout_default(&mut f.ch_layout, i32::try_from(channels).unwrap_or(2));
            AvError::check(sys::av_frame_get_buffer(frame.0, 0))?;
        }
        for channel in 0..channels as usize {
            frame.plane_f32_mut(channel).fill(0.0);
        }
        Ok(frame)
    }

    /// One channel of planar float sound; empty if the frame is something else.
    pub fn plane_f32(&self, channel: usize) -> &[f32] {
        match self.plane_ptr(channel) {
            // SAFETY: FLTP frames hold nb_samples floats for each channel at extended_data.
            Some(data) => unsafe { std::slice::from_raw_parts(data, self.samples()) },
            None => &[],
        }
    }

    /// One channel of planar float sound for writing. The frame must not be shared.
    pub fn plane_f32_mut(&mut self, channel: usize) -> &mut [f32] {
        // SAFETY: asks only for the count of references.
        let writable = unsafe { sys::av_frame_is_writable(self.0) } > 0;
        match self.plane_ptr(channel) {
            // SAFETY: as above, and nobody else holds the buffer.
            Some(data) if writable => unsafe { std::slice::from_raw_parts_mut(data, self.samples()) },
            _ => &mut [],
        }
    }

    fn plane_ptr(&self, channel: usize) -> Option<*mut f32> {
        let f = self.get();
        let fits = f.format == sys::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32
            && channel < usize::try_from(f.ch_layout.nb_channels).unwrap_or(0)
            && !f.extended_data.is_null();
        // SAFETY: extended_data has one pointer for each channel of a planar frame.
        let data = fits.then(|| unsafe { *f.extended_data.add(channel) })?;
        (!data.is_null()).then_some(data.cast())
    }

    /// A picture in memory of 8 bits with chroma of half the size (`yuv420p`), each sample as `sample` says of
    /// plane, column and row.
    pub fn planar_420(
        width: u32,
        height: u32,
        sample: impl Fn(usize, u32, u32) -> u8,
    ) -> Result<Self, AvError> {
        let mut frame = Self::new()?;
        let f = frame.get_mut();
        f.format = sys::AVPixelFormat::AV_PIX_FMT_YUV420P as i32;
        f.width = i32::try_from(width).map_err(|_| AvError::NO_MEMORY)?;
        f.height = i32::try_from(height).map_err(|_| AvError::NO_MEMORY)?;
        // SAFETY: valid frame; the buffers are allocated for exactly the fields set above.
        AvError::check(unsafe { sys::av_frame_get_buffer(frame.0, 0) })?;
        for (plane, (columns, rows)) in
            [(0, (width, height)), (1, half(width, height)), (2, half(width, height))]
        {
            for row in 0..rows {
                for (column, byte) in (0..columns).zip(frame.row_mut(plane, row, columns)) {
                    *byte = sample(plane, column, row);
                }
            }
        }
        Ok(frame)
    }

    /// A row of a picture that has just been made.
    fn row_mut(&mut self, plane: usize, row: u32, columns: u32) -> &mut [u8] {
        let f = self.get_mut();
        let (Some(data), Some(stride)) = (f.data.get(plane), f.linesize.get(plane)) else { return &mut [] };
        let stride = usize::try_from(*stride).unwrap_or(0);
        if data.is_null() || stride < columns as usize {
            return &mut [];
        }
        // SAFETY: called by `planar_420` alone, with rows and columns of the planes that it has allocated.
        unsafe { std::slice::from_raw_parts_mut(data.add(row as usize * stride), columns as usize) }
    }

    /// Its samples use the range of television.
    pub fn set_television_range(&mut self) {
        self.get_mut().color_range = sys::AVColorRange::AVCOL_RANGE_MPEG;
    }

    /// The bytes of an 8-bit picture plane, row by row without padding, as (width, rows of bytes).
    /// For tests and checks; `None` for planes that are not there.
    pub fn plane_rows(&self, plane: usize, width: usize, rows: usize) -> Option<Vec<u8>> {
        let f = self.get();
        let (data, stride) = (*f.data.get(plane)?, *f.linesize.get(plane)?);
        let stride = usize::try_from(stride).ok().filter(|s| *s >= width)?;
        let inside = !data.is_null() && rows <= self.height() as usize && f.sample_rate == 0;
        let mut out = Vec::with_capacity(width * rows);
        for row in (0..rows).take_while(|_| inside) {
            // SAFETY: the plane has at least `rows` lines of `stride` bytes (checked against height
            // by the caller's choice of plane; width is at most the stride).
            out.extend_from_slice(unsafe { std::slice::from_raw_parts(data.add(row * stride), width) });
        }
        inside.then_some(out)
    }
}

/// Of chroma planes.
fn half(width: u32, height: u32) -> (u32, u32) {
    (width.div_ceil(2), height.div_ceil(2))
}

/// The properties that a filter graph is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    width: i32,
    height: i32,
    format: i32,
    sample_rate: i32,
    channels: i32,
    /// Which room on a device.
    surfaces: usize,
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        unsafe { sys::av_frame_free(&mut self.0) }
    }
}
