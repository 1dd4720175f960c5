/* processor_image.c - a picture to pixel_values, as the image processors of Hugging Face do it:
 * resize, centre crop, rescale, normalise, channels first.
 *
 * Main idea: one plan of those steps; the classes of transformers differ in their defaults only
 * (one table row each), and ConvNext in how it comes to its size.  Rescaling is a product in
 * float64 rounded to float32, normalising is done in float32, as numpy does them there; both depend
 * on the 8-bit value and the channel only, so a table of 256 values per channel holds them.
 *
 * Pictures are made RGB always: "do_convert_rgb": false differs from that only for pictures that
 * are not RGB, which the models could not take. */
#include "base/num.h"
#include "media/image.h"
#include "media/processor_internal.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "preprocessor_config.json"
#define CONVNEXT_WARP_FROM 384 /* from this size on ConvNext stretches and does not crop */

enum size_rule {
    SIZE_NONE,     /* no resizing */
    SIZE_EXACT,    /* height x width */
    SIZE_SHORTEST, /* the shorter side becomes `shortest` */
    SIZE_CONVNEXT  /* shortest / crop_pct, then a crop of shortest x shortest */
};

struct side_pair {
    enum size_rule rule;
    uint32_t height, width, shortest;
};

struct image_processor {
    struct side_pair size;
    double crop_pct;
    enum image_filter filter;
    bool crop, rescale, normalize;
    uint32_t crop_height, crop_width;
    double factor;
    float values[3][256]; /* channel, 8-bit value -> float; unused when the output is uint8 */
};

struct image_class {
    const char *name;
    struct side_pair size;
    enum image_filter filter;
    bool crop;
    uint32_t crop_side;
    double mean[3], std[3];
    bool square; /* a number as size: both sides, else the shorter one */
};

#define MEAN_CLIP                                                                                  \
    {                                                                                              \
        0.48145466, 0.4578275, 0.40821073                                                          \
    }
#define STD_CLIP                                                                                   \
    {                                                                                              \
        0.26862954, 0.26130258, 0.27577711                                                         \
    }
#define HALVES                                                                                     \
    {                                                                                              \
        0.5, 0.5, 0.5                                                                              \
    }
#define EXACT(n)                                                                                   \
    {                                                                                              \
        SIZE_EXACT, n, n, 0                                                                        \
    }
#define SHORTEST(n)                                                                                \
    {                                                                                              \
        SIZE_SHORTEST, 0, 0, n                                                                     \
    }

/* Defaults of the classes, from their documentation. */
static const struct image_class classes[] = {
    {"CLIP", SHORTEST(224), IMAGE_BICUBIC, true, 224, MEAN_CLIP, STD_CLIP, false},
    {"ChineseCLIP", SHORTEST(224), IMAGE_BICUBIC, true, 224, MEAN_CLIP, STD_CLIP, false},
    {"Bit", SHORTEST(224), IMAGE_BICUBIC, true, 224, MEAN_CLIP, STD_CLIP, false},
    {"ViT", EXACT(224), IMAGE_BILINEAR, false, 0, HALVES, HALVES, true},
    {"Siglip", EXACT(224), IMAGE_BICUBIC, false, 0, HALVES, HALVES, true},
    {"Blip", EXACT(384), IMAGE_BICUBIC, false, 0, MEAN_CLIP, STD_CLIP, true},
    {"DeiT", EXACT(256), IMAGE_BICUBIC, true, 224, HALVES, HALVES, true},
    {"Beit", EXACT(256), IMAGE_BICUBIC, true, 224, HALVES, HALVES, true},
    {"ConvNext", {SIZE_CONVNEXT, 0, 0, 384}, IMAGE_BILINEAR, false, 0, HALVES, HALVES, false},
};

/* Switches of other classes that would change the numbers. */
static const char *const refused[] = {
    "do_pad",          "do_thumbnail",   "do_align_long_axis", "do_flip_channel_order",
    "do_grayscale",    "do_crop_margin", "do_image_splitting", "do_pan_and_scan",
    "rescale_offset",  "offset",         "ensure_multiple_of", "keep_aspect_ratio",
    "use_square_size", "pad_size",       "do_random_crop",     "do_color_quantize",
};

static const struct image_class *class_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (strcmp(classes[i].name, name) == 0)
            return &classes[i];
    return NULL;
}

bool image_type_known(const char *name)
{
    return class_of(name) != NULL;
}

static bool refuse_switches(const json_t *o, struct err *e)
{
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        const json_t *v = json_object_get(o, refused[i]);
        if (v && !json_is_false(v) && !json_is_null(v))
            return err_set(e, ERR_UNSUPPORTED, WHAT ": '%s' is set, which is not known here",
                           refused[i]);
    }
    const char *format = "channels_first";
    if (!json_opt_str(o, WHAT, "data_format", &format, e))
        return false;
    if (strcmp(format, "channels_first") != 0 && strcmp(format, "FIRST") != 0)
        return err_set(e, ERR_UNSUPPORTED,
                       WHAT ": 'data_format' is '%.32s', only channels_first is known", format);
    return true;
}

static bool read_side(const json_t *v, const char *key, uint32_t *ret, struct err *e)
{
    if (!json_is_integer(v))
        return err_set(e, ERR_INVALID, WHAT ": a side in '%s' should be a whole number", key);
    json_int_t n = json_integer_value(v);
    if (n < 1 || n > PROCESSOR_SIDE_MAX)
        return err_set(e, ERR_INVALID, WHAT ": a side in '%s' is %lld, should be from 1 to %d", key,
                       (long long)n, PROCESSOR_SIDE_MAX);
    *ret = (uint32_t)n;
    return true;
}

/* {"height", "width"}, {"shortest_edge"}, [height, width] or a number. */
static bool read_sides(const json_t *v, const char *key, bool square, struct side_pair *ret,
                       struct err *e)
{
    struct side_pair s = {SIZE_EXACT, 0, 0, 0};
    bool ok;
    if (json_is_object(v) && json_object_get(v, "height") && json_object_get(v, "width") &&
        json_object_size(v) == 2) {
        ok = read_side(json_object_get(v, "height"), key, &s.height, e) &&
             read_side(json_object_get(v, "width"), key, &s.width, e);
    } else if (json_is_object(v) && json_object_get(v, "shortest_edge") &&
               json_object_size(v) == 1) {
        s.rule = SIZE_SHORTEST;
        ok = read_side(json_object_get(v, "shortest_edge"), key, &s.shortest, e);
    } else if (json_array_size(v) == 2) {
        ok = read_side(json_array_get(v, 0), key, &s.height, e) &&
             read_side(json_array_get(v, 1), key, &s.width, e);
    } else if (json_is_integer(v)) {
        ok = read_side(v, key, &s.shortest, e);
        s.height = s.width = s.shortest;
        s.rule = square ? SIZE_EXACT : SIZE_SHORTEST;
    } else {
        return err_set(
            e, ERR_UNSUPPORTED,
            WHAT ": '%s' is neither {height, width}, {shortest_edge}, a pair nor a number", key);
    }
    if (ok)
        *ret = s;
    return ok;
}

static const json_t *value_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

/* Absent without a class: no resizing. */
static bool read_size(const json_t *o, const struct image_class *c, struct image_processor *p,
                      struct err *e)
{
    const json_t *v = value_of(o, "size");
    bool resize = c || v;
    bool convnext = c && c->size.rule == SIZE_CONVNEXT;
    if (c)
        p->size = c->size;
    if (!json_opt_bool(o, WHAT, "do_resize", &resize, e))
        return false;
    if (!resize) {
        p->size.rule = SIZE_NONE;
        return true;
    }
    if (!v && !c)
        return err_set(e, ERR_INVALID, WHAT ": 'do_resize' without 'size'");
    if (!c && json_is_integer(v))
        return err_set(e, ERR_UNSUPPORTED,
                       WHAT ": 'size' is a number, which means different things "
                            "without an 'image_processor_type'");
    if (v && !read_sides(v, "size", c && c->square, &p->size, e))
        return false;
    p->crop_pct = 224.0 / 256.0;
    if (!convnext)
        return true;
    if (p->size.rule != SIZE_SHORTEST && p->size.rule != SIZE_CONVNEXT)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": 'size' of ConvNext should be {shortest_edge}");
    p->size.rule = SIZE_CONVNEXT;
    return json_opt_num(o, WHAT, "crop_pct", 0.1, 1.0, &p->crop_pct, e);
}

static bool read_filter(const json_t *o, const struct image_class *c, struct image_processor *p,
                        struct err *e)
{
    uint64_t filter = c ? c->filter : IMAGE_BILINEAR;
    if (!json_opt_u64(o, WHAT, "resample", 1000, &filter, e))
        return false;
    if (filter >= IMAGE_FILTER_COUNT)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": 'resample' is %d, known are 0 to %d",
                       (int)filter, IMAGE_FILTER_COUNT - 1);
    p->filter = (enum image_filter)filter;
    return true;
}

static bool read_crop(const json_t *o, const struct image_class *c, struct image_processor *p,
                      struct err *e)
{
    const json_t *v = value_of(o, "crop_size");
    struct side_pair s = {SIZE_EXACT, c ? c->crop_side : 0, c ? c->crop_side : 0, 0};
    p->crop = c ? c->crop : v != NULL;
    /* Classes without a crop have no such switch: it has no effect there. */
    if ((!c || c->crop) && !json_opt_bool(o, WHAT, "do_center_crop", &p->crop, e))
        return false;
    if (!p->crop)
        return true;
    if (!v && !c)
        return err_set(e, ERR_INVALID, WHAT ": 'do_center_crop' without 'crop_size'");
    if (v && !read_sides(v, "crop_size", true, &s, e))
        return false;
    if (s.rule != SIZE_EXACT)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": 'crop_size' should be {height, width}");
    p->crop_height = s.height;
    p->crop_width = s.width;
    return true;
}

/* A number for all channels, or three. */
static bool read_channels(const json_t *o, const char *key, double min, double ret[3],
                          struct err *e)
{
    const json_t *v = value_of(o, key);
    if (!v)
        return true;
    if (json_is_array(v) && json_array_size(v) != 3)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": '%s' has %zu values, should be 3", key,
                       json_array_size(v));
    for (size_t c = 0; c < 3; c++) {
        const json_t *n = json_is_array(v) ? json_array_get(v, c) : v;
        double x = json_number_value(n);
        if (!json_is_number(n) || !(x >= min && x <= 1e6))
            return err_set(e, ERR_INVALID,
                           WHAT ": '%s' should be one or three numbers from %g to 1e6", key, min);
        ret[c] = x;
    }
    return true;
}

static bool read_values(const json_t *o, const struct image_class *c, struct image_processor *p,
                        struct err *e)
{
    double mean[3] = {0}, std[3] = {1, 1, 1};
    p->rescale = true;
    p->factor = 1.0 / 255.0;
    p->normalize = c || value_of(o, "image_mean");
    if (c) {
        memcpy(mean, c->mean, sizeof(mean));
        memcpy(std, c->std, sizeof(std));
    }
    if (!json_opt_bool(o, WHAT, "do_rescale", &p->rescale, e) ||
        !json_opt_num(o, WHAT, "rescale_factor", -1e6, 1e6, &p->factor, e) ||
        !json_opt_bool(o, WHAT, "do_normalize", &p->normalize, e))
        return false;
    if (p->normalize && !c && (!value_of(o, "image_mean") || !value_of(o, "image_std")))
        return err_set(e, ERR_INVALID,
                       WHAT ": 'do_normalize' without 'image_mean' and 'image_std'");
    if (!read_channels(o, "image_mean", -1e6, mean, e) ||
        !read_channels(o, "image_std", FLT_MIN, std, e))
        return false;
    for (size_t ch = 0; ch < 3; ch++)
        for (int v = 0; v < 256; v++) {
            float x = p->rescale ? (float)(v * p->factor) : (float)v;
            p->values[ch][v] = p->normalize ? (x - (float)mean[ch]) / (float)std[ch] : x;
        }
    return true;
}

bool image_processor_new(const json_t *o, struct image_processor **ret, struct err *e)
{
    char name[64];
    processor_type_name(o, "image_processor_type", name, sizeof(name));
    if (!name[0]) { /* the older name, unless it stands for the sound part of the same file */
        processor_type_name(o, "feature_extractor_type", name, sizeof(name));
        if (audio_type_known(name))
            name[0] = 0;
    }
    const struct image_class *c = class_of(name);
    if (name[0] && !c)
        return err_set(e, ERR_UNSUPPORTED, WHAT ": image processor '%s' is not known", name);
    struct image_processor *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(e, ERR_MEMORY, WHAT ": no memory");
    if (!refuse_switches(o, e) || !read_size(o, c, p, e) || !read_filter(o, c, p, e) ||
        !read_crop(o, c, p, e) || !read_values(o, c, p, e)) {
        free(p);
        return false;
    }
    *ret = p;
    return true;
}

void image_processor_free(struct image_processor *p)
{
    free(p);
}

static enum dtype output_type(const struct image_processor *p)
{
    return p->rescale || p->normalize ? DT_F32 : DT_U8;
}

size_t image_processor_outputs(const struct image_processor *p, struct port *ret)
{
    int64_t dims[4] = {1, 3, -1, -1};
    if (p->crop) {
        dims[2] = p->crop_height;
        dims[3] = p->crop_width;
    } else if (p->size.rule == SIZE_EXACT) {
        dims[2] = p->size.height;
        dims[3] = p->size.width;
    } else if (p->size.rule == SIZE_CONVNEXT) {
        dims[2] = dims[3] = p->size.shortest;
    }
    ret[0] = processor_port("pixel_values", output_type(p), 4, dims);
    return 1;
}

/* The longer side follows in whole numbers, rounded down. */
static bool shortest_resized(const struct image *src, uint32_t shortest, enum image_filter filter,
                             struct image *ret, struct err *e)
{
    uint64_t shorter = num_min(src->width, src->height), longer = num_max(src->width, src->height);
    uint64_t other = (uint64_t)((double)(shortest * longer) / (double)shorter);
    if (other > IMAGE_SIDE_MAX)
        return err_set(e, ERR_TOO_LARGE,
                       "image: resizing %u x %u makes a side over the limit of %u", src->width,
                       src->height, IMAGE_SIDE_MAX);
    return src->width <= src->height ? image_resize(src, shortest, (uint32_t)other, filter, ret, e)
                                     : image_resize(src, (uint32_t)other, shortest, filter, ret, e);
}

/* Puts the result of a step in the place of its source. */
static bool replace(struct image *i, const struct image *by, bool ok)
{
    if (!ok)
        return false;
    image_clear(i);
    *i = *by;
    return true;
}

static bool resized(const struct image_processor *p, struct image *i, struct err *e)
{
    struct image out = {0};
    const struct side_pair *s = &p->size;
    switch (s->rule) {
    case SIZE_NONE:
        return true;
    case SIZE_EXACT:
        return replace(i, &out, image_resize(i, s->width, s->height, p->filter, &out, e));
    case SIZE_SHORTEST:
        return replace(i, &out, shortest_resized(i, s->shortest, p->filter, &out, e));
    case SIZE_CONVNEXT:
        break;
    }
    if (s->shortest >= CONVNEXT_WARP_FROM)
        return replace(i, &out, image_resize(i, s->shortest, s->shortest, p->filter, &out, e));
    uint32_t before = (uint32_t)(s->shortest / p->crop_pct);
    return replace(i, &out, shortest_resized(i, before, p->filter, &out, e)) &&
           replace(i, &out, image_center_crop(i, s->shortest, s->shortest, &out, e));
}

static void fill(const struct image_processor *p, const struct image *i, struct tensor *t)
{
    size_t count = (size_t)i->width * i->height;
    for (size_t ch = 0; ch < 3; ch++) {
        const uint8_t *from = i->pixels + ch;
        if (t->dtype == DT_U8) {
            uint8_t *to = (uint8_t *)t->data + ch * count;
            for (size_t k = 0; k < count; k++)
                to[k] = from[3 * k];
        } else {
            float *to = (float *)t->data + ch * count;
            for (size_t k = 0; k < count; k++)
                to[k] = p->values[ch][from[3 * k]];
        }
    }
}

static bool to_tensor(const struct image_processor *p, const struct image *i,
                      struct named_tensor *ret, struct err *e)
{
    if (i->width > PROCESSOR_SIDE_MAX || i->height > PROCESSOR_SIDE_MAX)
        return err_set(e, ERR_TOO_LARGE, "image: %u x %u after resizing, the limit is %d a side",
                       i->width, i->height, PROCESSOR_SIDE_MAX);
    struct tensor t;
    struct shape s = {4, {1, 3, i->height, i->width}};
    if (!tensor_new(output_type(p), &s, &t, e))
        return false;
    fill(p, i, &t);
    *ret = (struct named_tensor){.name = "pixel_values", .tensor = t};
    return true;
}

bool image_processor_run(const struct image_processor *p, const void *data, size_t size,
                         struct named_tensor *ret_out, struct err *e)
{
    struct image i, cropped = {0};
    if (!image_decode(data, size, &i, e))
        return false;
    bool ok = resized(p, &i, e);
    if (ok && p->crop)
        ok = replace(&i, &cropped,
                     image_center_crop(&i, p->crop_width, p->crop_height, &cropped, e));
    if (ok)
        ok = to_tensor(p, &i, ret_out, e);
    image_clear(&i);
    return ok;
}
