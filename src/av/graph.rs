//! A filter graph with one source and one sink.

use super::device::Device;
use super::error::{AvError, Received};
use super::frame::{Frame, Shape};
use super::sys;
use crate::base::time::Rational;
use std::ffi::{CStr, CString};
use std::ptr;

/// A configured graph. It is made for frames of one [`Shape`]; a frame of another shape needs a new
/// graph.
#[derive(Debug)]
pub struct Graph {
    graph: *mut sys::AVFilterGraph,
    source: *mut sys::AVFilterContext,
    sink: *mut sys::AVFilterContext,
    shape: Shape,
}

// SAFETY: used by one thread at a time (`&mut self`).
unsafe impl Send for Graph {}

impl Graph {
    /// A graph for pictures like `like`: `description` in libav's filter language, from one input to
    /// one output.
    pub fn video(
        like: &Frame,
        time_base: Rational,
        sar: Rational,
        description: &str,
        threads: u32,
    ) -> Result<Self, AvError> {
        Self::video_on(None, like, (time_base, sar), description, threads)
    }

    /// The same with a device for filters that bring pictures to one (`hwupload`). Pictures that lie on a
    /// device already bring theirs with them.
    pub fn video_on(
        device: Option<&Device>,
        like: &Frame,
        (time_base, sar): (Rational, Rational),
        description: &str,
        threads: u32,
    ) -> Result<Self, AvError> {
        let f = like.get();
        let mut arguments = format!(
            "video_size={}x{}:pix_fmt={}:time_base={time_base}:pixel_aspect={}/{}",
            f.width,
            f.height,
            f.format,
            sar.num(),
            sar.den()
        );
        // Since 7.1 the source wants to know, and says so loudly when a frame differs.
        if sys::LIBAVFILTER_VERSION_MAJOR >= 10 {
            arguments += &format!(":colorspace={}:range={}", f.colorspace as u32, f.color_range as u32);
        }
        let ends =
            Ends { source: (c"buffer", &arguments), sink: c"buffersink", surfaces: f.hw_frames_ctx, device };
        Self::build(like.shape(), &ends, description, threads)
    }

    /// A graph for sound like `like`.
    pub fn audio(like: &Frame, description: &str) -> Result<Self, AvError> {
        let f = like.get();
        let rate = f.sample_rate;
        let layout = layout_name(&f.ch_layout)?;
        // SAFETY: a name look-up by number; null for unknown numbers.
        let format = unsafe {
            let name = sys::av_get_sample_fmt_name(std::mem::transmute::<i32, sys::AVSampleFormat>(f.format));
            if name.is_null() {
                return Err(AvError(sys::AVERROR(libc::EINVAL)));
            }
            CStr::from_ptr(name).to_string_lossy()
        };
        let arguments =
            format!("time_base=1/{rate}:sample_rate={rate}:sample_fmt={format}:channel_layout={layout}");
        let ends = Ends {
            source: (c"abuffer", &arguments),
            sink: c"abuffersink",
            surfaces: ptr::null_mut(),
            device: None,
        };
        Self::build(like.shape(), &ends, description, 1)
    }

    fn build(shape: Shape, ends: &Ends<'_>, description: &str, threads: u32) -> Result<Self, AvError> {
        // Owned by self from here on, so every early return frees it.
        let mut this = Self {
            // SAFETY: plain allocation; null is handled below.
            graph: unsafe { sys::avfilter_graph_alloc() },
            source: ptr::null_mut(),
            sink: ptr::null_mut(),
            shape,
        };
        if this.graph.is_null() {
            return Err(AvError::NO_MEMORY);
        }
        // SAFETY: the graph is valid; filters are made before they are linked.
        unsafe {
            (*this.graph).nb_threads = i32::try_from(threads).unwrap_or(1);
            let (source, arguments) = ends.source;
            this.source = create(this.graph, source, c"in", arguments, ends.surfaces)?;
            this.sink = create(this.graph, ends.sink, c"out", "", ptr::null_mut())?;
            this.link(description)?;
            if let Some(device) = ends.device {
                this.give_device(device)?;
            }
            AvError::check(sys::avfilter_graph_config(this.graph, ptr::null_mut()))?;
        }
        Ok(this)
    }

    /// # Safety
    /// Graph, source and sink have to be valid.
    unsafe fn link(&mut self, description: &str) -> Result<(), AvError> {
        let description = CString::new(description).map_err(|_| AvError(sys::AVERROR(libc::EINVAL)))?;
        // SAFETY: the in/out lists are allocated by libav and freed by us whatever the parser leaves.
        unsafe {
            let mut outputs = sys::avfilter_inout_alloc();
            let mut inputs = sys::avfilter_inout_alloc();
            if outputs.is_null() || inputs.is_null() {
                sys::avfilter_inout_free(&mut outputs);
                sys::avfilter_inout_free(&mut inputs);
                return Err(AvError::NO_MEMORY);
            }
            (*outputs).name = sys::av_strdup(c"in".as_ptr());
            (*outputs).filter_ctx = self.source;
            (*inputs).name = sys::av_strdup(c"out".as_ptr());
            (*inputs).filter_ctx = self.sink;
            let code = sys::avfilter_graph_parse_ptr(
                self.graph,
                description.as_ptr(),
                &mut inputs,
                &mut outputs,
                ptr::null_mut(),
            );
            sys::avfilter_inout_free(&mut outputs);
            sys::avfilter_inout_free(&mut inputs);
            AvError::check(code).map(|_| ())
        }
    }

    /// # Safety
    /// The graph has to be valid and not configured yet.
    unsafe fn give_device(&mut self, device: &Device) -> Result<(), AvError> {
        // SAFETY: the caller's promise; each filter frees its reference with itself.
        unsafe {
            let graph = &*self.graph;
            for n in 0..usize::try_from(graph.nb_filters).unwrap_or(0) {
                (**graph.filters.add(n)).hw_device_ctx = device.give()?;
            }
        }
        Ok(())
    }

    /// Whether the graph was made for frames like this one.
    pub fn fits(&self, frame: &Frame) -> bool {
        self.shape == frame.shape()
    }

    /// Gives a frame to the graph, which takes a reference of its own; `None` is the end.
    pub fn push(&mut self, frame: Option<&Frame>) -> Result<(), AvError> {
        let flags = sys::AV_BUFFERSRC_FLAG_KEEP_REF as i32;
        let frame = frame.map_or(ptr::null_mut(), |f| f.as_ptr().cast_mut());
        // SAFETY: configured graph; KEEP_REF means that the frame is only referred to, not changed.
        AvError::check(unsafe { sys::av_buffersrc_add_frame_flags(self.source, frame, flags) }).map(|_| ())
    }

    /// Takes a frame.
    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, AvError> {
        // SAFETY: configured graph, valid frame.
        AvError::received(unsafe {
            sys::av_frame_unref(frame.as_mut_ptr());
            sys::av_buffersink_get_frame(self.sink, frame.as_mut_ptr())
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: ours, freed once, with all filters in it.
        unsafe { sys::avfilter_graph_free(&mut self.graph) }
    }
}

/// Where a graph begins and ends.
struct Ends<'a> {
    /// The filter that takes frames in, and its arguments.
    source: (&'a CStr, &'a str),
    sink: &'a CStr,
    /// Where the pictures lie that come in; null for memory.
    surfaces: *mut sys::AVBufferRef,
    /// For filters that bring pictures to it.
    device: Option<&'a Device>,
}

/// # Safety
/// `graph` has to be valid, and `surfaces` null or valid and for a source of pictures.
unsafe fn create(
    graph: *mut sys::AVFilterGraph,
    filter: &CStr,
    name: &CStr,
    arguments: &str,
    surfaces: *mut sys::AVBufferRef,
) -> Result<*mut sys::AVFilterContext, AvError> {
    let arguments = CString::new(arguments).map_err(|_| AvError(sys::AVERROR(libc::EINVAL)))?;
    // SAFETY: the caller's promise; the filter is static, null is handled, and the graph frees the context.
    unsafe {
        let filter = sys::avfilter_get_by_name(filter.as_ptr());
        if filter.is_null() {
            return Err(AvError(sys::AVERROR_FILTER_NOT_FOUND));
        }
        let context = sys::avfilter_graph_alloc_filter(graph, filter, name.as_ptr());
        if context.is_null() {
            return Err(AvError::NO_MEMORY);
        }
        if !surfaces.is_null() {
            set_surfaces(context, surfaces)?;
        }
        AvError::check(sys::avfilter_init_str(context, arguments.as_ptr()))?;
        Ok(context)
    }
}

/// A source whose pictures lie on a device has to know in which room, before it is initialised.
///
/// # Safety
/// Both have to be valid.
unsafe fn set_surfaces(
    source: *mut sys::AVFilterContext,
    surfaces: *mut sys::AVBufferRef,
) -> Result<(), AvError> {
    // SAFETY: the caller's promise; libav takes a reference of its own, and the parameters are freed here.
    unsafe {
        let parameters = sys::av_buffersrc_parameters_alloc();
        if parameters.is_null() {
            return Err(AvError::NO_MEMORY);
        }
        (*parameters).hw_frames_ctx = surfaces;
        let code = sys::av_buffersrc_parameters_set(source, parameters);
        sys::av_free(parameters.cast());
        AvError::check(code).map(|_| ())
    }
}

/// The name of the usual layout for so many channels.
pub fn layout_for(channels: u32) -> String {
    // SAFETY: a zeroed layout is a valid empty one; the call fills it in.
    let layout = unsafe {
        let mut usual = std::mem::zeroed::<sys::AVChannelLayout>();
        sys::av_channel_layout_default(&mut usual, i32::try_from(channels).unwrap_or(2));
        usual
    };
    layout_name(&layout).unwrap_or_else(|_| "stereo".into())
}

/// The layout's name; sources that only know a number of channels get the usual layout for it.
fn layout_name(layout: &sys::AVChannelLayout) -> Result<String, AvError> {
    let mut text = [0 as libc::c_char; 128];
    // SAFETY: the buffer's true size is told; libav terminates what it writes.
    unsafe {
        let mut usual = std::mem::zeroed::<sys::AVChannelLayout>();
        let layout = if layout.order == sys::AVChannelOrder::AV_CHANNEL_ORDER_UNSPEC {
            sys::av_channel_layout_default(&mut usual, layout.nb_channels);
            &usual
        } else {
            layout
        };
        AvError::check(sys::av_channel_layout_describe(layout, text.as_mut_ptr(), text.len()))?;
        Ok(CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
    }
}
