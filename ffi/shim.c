#include "shim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>

static sprocket_log_sink log_sink;
static int log_max_level;

/* Which run a context belongs to: the program stores it in `opaque`, which libav also copies to the
 * contexts of its frame threads. Only these two classes have that field at a known place. */
static void *owner_of(void *avcl)
{
    const AVClass *cls = avcl ? *(const AVClass **)avcl : NULL;
    if (!cls)
        return NULL;
    if (cls == avcodec_get_class())
        return ((AVCodecContext *)avcl)->opaque;
    if (cls == avformat_get_class())
        return ((AVFormatContext *)avcl)->opaque;
    return NULL;
}

static const char *component_of(void *avcl)
{
    const AVClass *cls = avcl ? *(const AVClass **)avcl : NULL;
    if (!cls)
        return "libav";
    return cls->item_name ? cls->item_name(avcl) : cls->class_name;
}

static void on_log(void *avcl, int level, const char *format, va_list args)
{
    char line[1024];
    size_t length;

    level &= 0xff;
    if (level > log_max_level || !log_sink)
        return;
    vsnprintf(line, sizeof(line), format, args);
    length = strlen(line);
    while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r'))
        line[--length] = 0;
    if (length > 0)
        log_sink(owner_of(avcl), level, component_of(avcl), line);
}

void sprocket_log_install(sprocket_log_sink sink, int max_level)
{
    log_sink = sink;
    log_max_level = max_level;
    av_log_set_level(max_level);
    av_log_set_callback(on_log);
}

int sprocket_frame_is_key(const void *frame)
{
    const AVFrame *f = frame;
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
    return (f->flags & AV_FRAME_FLAG_KEY) != 0;
#else
    return f->key_frame;
#endif
}

int sprocket_frame_is_interlaced(const void *frame)
{
    const AVFrame *f = frame;
#if LIBAVUTIL_VERSION_INT >= AV_VERSION_INT(58, 7, 100)
    return (f->flags & AV_FRAME_FLAG_INTERLACED) != 0;
#else
    return f->interlaced_frame;
#endif
}

int sprocket_frame_is_damaged(const void *frame)
{
    const AVFrame *f = frame;
    return (f->flags & AV_FRAME_FLAG_CORRUPT) != 0 || f->decode_error_flags != 0;
}

static int copy_list(const int *list, int terminator, int *out, int room)
{
    int n = 0;
    if (!list)
        return 0;
    for (; list[n] != terminator; n++)
        if (n < room)
            out[n] = list[n];
    return n;
}

#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
static int config_list(const void *codec, enum AVCodecConfig config, int *out, int room)
{
    const void *list = NULL;
    int count = 0, i;
    if (avcodec_get_supported_config(NULL, codec, config, 0, &list, &count) < 0 || !list)
        return 0;
    for (i = 0; i < count && i < room; i++)
        out[i] = ((const int *)list)[i];
    return count;
}
#endif

int sprocket_encoder_pixel_formats(const void *codec, int *out, int room)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
    return config_list(codec, AV_CODEC_CONFIG_PIX_FORMAT, out, room);
#else
    return copy_list((const int *)((const AVCodec *)codec)->pix_fmts, AV_PIX_FMT_NONE, out, room);
#endif
}

int sprocket_encoder_sample_formats(const void *codec, int *out, int room)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
    return config_list(codec, AV_CODEC_CONFIG_SAMPLE_FORMAT, out, room);
#else
    return copy_list((const int *)((const AVCodec *)codec)->sample_fmts, AV_SAMPLE_FMT_NONE, out, room);
#endif
}

int sprocket_encoder_sample_rates(const void *codec, int *out, int room)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
    return config_list(codec, AV_CODEC_CONFIG_SAMPLE_RATE, out, room);
#else
    return copy_list(((const AVCodec *)codec)->supported_samplerates, 0, out, room);
#endif
}

const uint8_t *sprocket_stream_side_data(const void *stream, int type, size_t *size)
{
    const AVStream *st = stream;
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 100)
    const AVPacketSideData *sd = av_packet_side_data_get(
        st->codecpar->coded_side_data, st->codecpar->nb_coded_side_data, type);
    *size = sd ? sd->size : 0;
    return sd ? sd->data : NULL;
#else
    return av_stream_get_side_data(st, type, size);
#endif
}
