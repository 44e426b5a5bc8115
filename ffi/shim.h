/* What Rust cannot say, or cannot say the same way for every libav from 5.1 to 9.0.
 * Why each symbol is here: ffi/README.md. Bound by bindgen with an allow-list (build.rs). */
#ifndef SPROCKET_SHIM_H
#define SPROCKET_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* Receives one formatted log line. `owner` is the `opaque` of the codec or format context that
 * logged, or NULL; `component` is the name of the part of libav. Both strings live for the call. */
typedef void (*sprocket_log_sink)(void *owner, int level, const char *component, const char *line);

/* Sends every libav log line of `max_level` or graver to `sink`, from any thread, from now on. */
void sprocket_log_install(sprocket_log_sink sink, int max_level);

/* Frame flags: fields until libavutil 58, bits of `flags` after. `frame` is an AVFrame. */
int sprocket_frame_is_key(const void *frame);
int sprocket_frame_is_interlaced(const void *frame);
/* Non-zero when the decoder concealed or missed something in this frame. */
int sprocket_frame_is_damaged(const void *frame);

/* Lists of what an encoder takes (`codec` is an AVCodec): arrays in the AVCodec until 7.0, a call
 * after. The count comes back; up to `room` values are stored. 0 means "any". */
int sprocket_encoder_pixel_formats(const void *codec, int *out, int room);
int sprocket_encoder_sample_formats(const void *codec, int *out, int room);
int sprocket_encoder_sample_rates(const void *codec, int *out, int room);

/* Side data of a stream as the container tells it: on the stream until 6.0, in its codec
 * parameters after. `stream` is an AVStream. NULL when there is none. */
const uint8_t *sprocket_stream_side_data(const void *stream, int type, size_t *size);

#endif
