/* vidprism_edge.runtimes._native: arguments, buffers, the GIL, errors. What it does is in ../src. */
#include "args.h"

#include <stdlib.h>
#include <string.h>

/* ---- the sampler ---------------------------------------------------------------------------------------------------- */

typedef struct Sampler {
    PyObject_HEAD
    vpe_sampler *sampler;
    vpe_event *events;
    Py_buffer *rings;
    Py_ssize_t ring_count;
    int32_t *sizes;
    char in_use; /* guarded by the GIL: events is shared, so one call at a time */
} Sampler;

static int enter(Sampler *self) {
    if (!self->sampler) {
        PyErr_SetString(PyExc_ValueError, "the sampler was not initialised");
        return -1;
    }
    if (self->in_use) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is inside a call on this sampler; expected one thread at a "
                                            "time for one sampler");
        return -1;
    }
    self->in_use = 1;
    return 0;
}

static void sampler_clear(Sampler *self) {
    vpe_sampler_destroy(self->sampler);
    for (Py_ssize_t i = 0; i < self->ring_count; i++)
        PyBuffer_Release(&self->rings[i]);
    PyMem_Free(self->rings);
    PyMem_Free(self->events);
    PyMem_Free(self->sizes);
    self->sampler = NULL;
    self->rings = NULL;
    self->events = NULL;
    self->sizes = NULL;
    self->ring_count = 0;
}

static void sampler_dealloc(Sampler *self) {
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    sampler_clear(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static int stream_of(PyObject *object, vpe_stream_config *c) {
    static const char expected[] = "(size_px, rate_mhz, regions, rows, mean3, std3, letterbox[, resample])";
    PyObject *mean, *std, *resample = NULL;
    int letterbox;
    PyObject *tuple = PySequence_Tuple(object);
    if (!tuple || !PyArg_ParseTuple(tuple, "iiiiOOp|O", &c->fit.size, &c->rate_mhz, &c->regions, &c->rows, &mean,
                                    &std, &letterbox, &resample)) {
        Py_XDECREF(tuple);
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "streams: given %R; expected %s", object, expected);
        return -1;
    }
    int status = fit_of(mean, std, letterbox, c->fit.size, &c->fit);
    if (status == 0)
        status = resample_of(resample, &c->fit.resample);
    Py_DECREF(tuple);
    if (status == 0 && (c->fit.size < 1 || c->fit.size > VPE_MAX_SIDE || c->rate_mhz < 1 ||
                        c->rate_mhz > VPE_MAX_RATE_MHZ || c->regions < 1 || c->regions > VPE_MAX_REGIONS ||
                        c->rows < 1)) {
        PyErr_Format(PyExc_ValueError,
                     "streams: given %R; expected %s with size 1 to %d, rate 1 to %d mHz, regions 1 to %d, rows of at "
                     "least 1",
                     object, expected, VPE_MAX_SIDE, VPE_MAX_RATE_MHZ, VPE_MAX_REGIONS);
        status = -1;
    }
    return status;
}

static int take_streams(Sampler *self, PyObject *streams, PyObject *rings, vpe_stream_config *configs, Py_ssize_t n) {
    for (Py_ssize_t i = 0; i < n; i++) {
        if (stream_of(PyList_GetItem(streams, i), &configs[i]) < 0)
            return -1;
        const vpe_stream_config *c = &configs[i];
        const Py_ssize_t shape[5] = {2 * (Py_ssize_t)c->rows, c->regions, 3, c->fit.size, c->fit.size};
        if (array_of(PyList_GetItem(rings, i), "rings", &self->rings[i], 1, 'f', 5, shape) < 0)
            return -1;
        self->ring_count = i + 1;
        configs[i].ring = self->rings[i].buf;
        self->sizes[i] = c->fit.size;
    }
    return 0;
}

static int make(Sampler *self, PyObject *streams, PyObject *rings, vpe_sampler_config *config) {
    const Py_ssize_t n = PyList_Size(streams);
    if (n > VPE_MAX_STREAMS || PyList_Size(rings) != n) {
        PyErr_Format(PyExc_ValueError, "given %zd streams and %zd rings; expected as many of both, at most %d", n,
                     PyList_Size(rings), VPE_MAX_STREAMS);
        return -1;
    }
    vpe_stream_config configs[VPE_MAX_STREAMS];
    self->rings = PyMem_Calloc((size_t)n + 1, sizeof *self->rings);
    self->sizes = PyMem_Calloc((size_t)n + 1, sizeof *self->sizes);
    if (!self->rings || !self->sizes) {
        PyErr_NoMemory();
        return -1;
    }
    if (take_streams(self, streams, rings, configs, n) < 0)
        return -1;
    config->streams = configs;
    config->stream_count = (int32_t)n;
    const vpe_status status = vpe_sampler_create(config, &self->sampler);
    if (status == VPE_ERR_ARGUMENT) {
        PyErr_Format(PyExc_ValueError,
                     "given small_px=%d, small_rate_mhz=%d, small_rows=%d, repeat_ns=%lld, period_ns=%lld; expected "
                     "small_px 0 to %d, small_rate_mhz 1 to %d, small_rows of at least 1, repeat_ns 1 to 60 s, "
                     "period_ns 0 to 10 s, and no more than 100000 grid points in that time",
                     config->small_px, config->small_rate_mhz, config->small_rows, (long long)config->repeat_ns,
                     (long long)config->period_ns, VPE_MAX_SIDE, VPE_MAX_RATE_MHZ);
        return -1;
    }
    if (status != VPE_OK) {
        raise_status(status);
        return -1;
    }
    self->events = PyMem_Calloc(vpe_sampler_max_events(self->sampler), sizeof *self->events);
    if (!self->events) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static int sampler_init(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"streams",   "rings",     "small_px", "small_rate_mhz", "small_rows",
                            "repeat_ns", "period_ns", "motion", NULL};
    PyObject *streams, *rings, *motion = NULL;
    long long repeat_ns = 500000000, period_ns = 0;
    vpe_sampler_config config = {.small_px = 320, .small_rate_mhz = 15000, .small_rows = 31};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$iiiLLO:Sampler", names, &streams, &rings, &config.small_px,
                                     &config.small_rate_mhz, &config.small_rows, &repeat_ns, &period_ns, &motion) ||
        motion_of(motion, &config.motion) < 0)
        return -1;
    if (self->sampler) {
        PyErr_SetString(PyExc_RuntimeError, "a sampler is made once");
        return -1;
    }
    config.repeat_ns = repeat_ns;
    config.period_ns = period_ns;
    streams = PySequence_List(streams);
    rings = streams ? PySequence_List(rings) : NULL;
    const int status = rings ? make(self, streams, rings, &config) : -1;
    Py_XDECREF(streams);
    Py_XDECREF(rings);
    if (status < 0)
        sampler_clear(self);
    return status;
}

static PyObject *event_list(const vpe_event *events, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        const vpe_event *e = &events[i];
        PyObject *item = Py_BuildValue("(iLLiL)", (int)e->stream, (long long)e->k, (long long)e->t_ns, (int)e->kind,
                                       (long long)e->row);
        if (!item) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)i, item);
    }
    return list;
}

/* stats is None or float32 [3, ceil(H / 16), ceil(W / 16)] */
static int stats_of(PyObject *object, const vpe_frame *frame, Py_buffer *view) {
    const Py_ssize_t shape[3] = {3, (frame->height + VPE_BLOCK - 1) / VPE_BLOCK,
                                 (frame->width + VPE_BLOCK - 1) / VPE_BLOCK};
    memset(view, 0, sizeof *view);
    return object == Py_None ? 0 : array_of(object, "stats", view, 1, 'f', 3, shape);
}

static PyObject *push_frame(Sampler *self, const vpe_frame *frame, long long t_ns, float *stats) {
    size_t n = 0;
    int32_t result = 0;
    vpe_status status;
    Py_BEGIN_ALLOW_THREADS
    status = vpe_sampler_push(self->sampler, frame, t_ns, stats, &result, self->events, &n);
    Py_END_ALLOW_THREADS
    if (status == VPE_ERR_TIME)
        return PyErr_Format(PyExc_ValueError, "t_ns: given %lld; expected nanoseconds within +-2**60", t_ns);
    if (status == VPE_ERR_BOX || status == VPE_ERR_SCALE)
        return PyErr_Format(PyExc_ValueError, "frame: given %d x %d pixels: %s", frame->width, frame->height,
                            vpe_status_text(status));
    if (status != VPE_OK)
        return raise_status(status);
    PyObject *list = event_list(self->events, n);
    return list ? Py_BuildValue("(iN)", (int)result, list) : NULL;
}

static PyObject *sampler_push(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"frame", "t_ns", "stats", "format", "matrix", "full_range", NULL};
    PyObject *image, *stats_object;
    frame_words words = {NULL, NULL, 0};
    long long t_ns;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OLO|$OOp:push", names, &image, &t_ns, &stats_object, &words.format,
                                     &words.matrix, &words.full_range))
        return NULL;
    frame_view f;
    if (frame_of(image, "frame", &words, &f) < 0)
        return NULL;
    Py_buffer stats;
    PyObject *answer = NULL;
    if (stats_of(stats_object, &f.frame, &stats) == 0) {
        if (enter(self) == 0) {
            answer = push_frame(self, &f.frame, t_ns, stats.buf);
            self->in_use = 0;
        }
        PyBuffer_Release(&stats);
    }
    frame_release(&f);
    return answer;
}

static PyObject *sampler_reset(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"t_ns", NULL};
    long long t_ns = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|L:reset", names, &t_ns) || enter(self) < 0)
        return NULL;
    size_t n = 0;
    const vpe_status status = vpe_sampler_reset(self->sampler, t_ns != -1, t_ns, self->events, &n);
    PyObject *answer = status == VPE_OK ? event_list(self->events, n) : raise_status(status);
    self->in_use = 0;
    return answer;
}

static int check_stream(Sampler *self, int stream, int least) {
    if (stream >= least && stream < self->ring_count)
        return 0;
    PyErr_Format(PyExc_ValueError, "stream: given %d; expected %d to %zd", stream, least, self->ring_count - 1);
    return -1;
}

static PyObject *set_boxes(Sampler *self, int stream, PyObject *list) {
    vpe_box boxes[VPE_MAX_REGIONS];
    const Py_ssize_t n = PyList_Size(list);
    for (Py_ssize_t i = 0; i < n && i < VPE_MAX_REGIONS; i++)
        if (box_of(PyList_GetItem(list, i), "boxes", &boxes[i]) < 0)
            return NULL;
    const vpe_status status = n > VPE_MAX_REGIONS
                                  ? VPE_ERR_ARGUMENT
                                  : vpe_sampler_set_boxes(self->sampler, stream, boxes, (int32_t)n);
    if (status == VPE_ERR_ARGUMENT)
        return PyErr_Format(PyExc_ValueError, "boxes: given %zd boxes; expected 1 to %zd, the regions of stream %d", n,
                            self->rings[stream].shape[1], stream);
    if (status == VPE_ERR_BOX || status == VPE_ERR_SCALE) {
        int32_t width, height;
        vpe_sampler_frame_size(self->sampler, &width, &height);
        if (!width)
            width = height = VPE_MAX_SIDE;
        Py_ssize_t bad = 0;
        while (bad < n - 1 && boxes[bad].x >= 0 && boxes[bad].y >= 0 && boxes[bad].w > 0 && boxes[bad].h > 0 &&
               boxes[bad].x <= width - boxes[bad].w && boxes[bad].y <= height - boxes[bad].h)
            bad++;
        return raise_box(status, &boxes[bad], width, height, self->sizes[stream]);
    }
    return status == VPE_OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *sampler_set_boxes(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"stream", "boxes", NULL};
    int stream;
    PyObject *boxes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iO:set_boxes", names, &stream, &boxes) || enter(self) < 0)
        return NULL;
    PyObject *answer = NULL, *list = check_stream(self, stream, 0) < 0 ? NULL : PySequence_List(boxes);
    if (list)
        answer = set_boxes(self, stream, list);
    Py_XDECREF(list);
    self->in_use = 0;
    return answer;
}

static PyObject *sampler_set_interval(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"stream", "n", NULL};
    int stream;
    long long n;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iL:set_interval", names, &stream, &n) || enter(self) < 0)
        return NULL;
    PyObject *answer = NULL;
    if (check_stream(self, stream, 0) == 0) {
        if (n < 0)
            PyErr_Format(PyExc_ValueError, "n: given %lld; expected 0 (closed) or a number of grid points", n);
        else if (vpe_sampler_set_interval(self->sampler, stream, n) == VPE_OK)
            answer = Py_NewRef(Py_None);
        else
            raise_status(VPE_ERR_BUSY);
    }
    self->in_use = 0;
    return answer;
}

static PyObject *sampler_counts(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"stream", NULL};
    int stream;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:counts", names, &stream) || enter(self) < 0)
        return NULL;
    vpe_counts c = {0};
    PyObject *answer = NULL;
    if (check_stream(self, stream, VPE_SMALL_STREAM) == 0) {
        vpe_sampler_counts(self->sampler, stream, &c);
        answer = Py_BuildValue("{sLsLsLsLsL}", "points", (long long)c.points, "sampled", (long long)c.sampled,
                               "repeated", (long long)c.repeated, "held", (long long)c.held, "reset",
                               (long long)c.reset);
    }
    self->in_use = 0;
    return answer;
}

/* out [3, S, S] and scratch memory for frames of width x height */
static int out_of(PyObject *object, Py_buffer *view, int32_t width, int32_t height, void **scratch) {
    const Py_ssize_t any[3] = {3, -1, -1};
    if (array_of(object, "out", view, 1, 'f', 3, any) < 0)
        return -1;
    const Py_ssize_t size = view->shape[1];
    if (size != view->shape[2] || size < 1 || size > VPE_MAX_SIDE) {
        wrong(view, "out", "float32 [3, S, S] with S of 1 to 16384");
        PyBuffer_Release(view);
        return -1;
    }
    *scratch = PyMem_Malloc(vpe_resize_scratch(width, height, (int32_t)size, (int32_t)size));
    if (*scratch)
        return 0;
    PyBuffer_Release(view);
    PyErr_NoMemory();
    return -1;
}

static PyObject *crop_small(Sampler *self, long long k, const vpe_box *box, PyObject *out_object, PyObject *mean,
                            PyObject *std, int letterbox) {
    int32_t width, height;
    vpe_sampler_small_size(self->sampler, &width, &height);
    if (!width)
        return PyErr_Format(PyExc_KeyError, "small frame %lld: no frame was pushed, or no small frames are kept", k);
    Py_buffer out;
    void *scratch;
    vpe_fit fit = {.resample = VPE_AREA};
    if (out_of(out_object, &out, width, height, &scratch) < 0)
        return NULL;
    PyObject *answer = NULL;
    if (fit_of(mean, std, letterbox, out.shape[1], &fit) == 0) {
        vpe_status status;
        Py_BEGIN_ALLOW_THREADS
        status = vpe_sampler_crop_small(self->sampler, k, box, &fit, out.buf, scratch);
        Py_END_ALLOW_THREADS
        if (status == VPE_ERR_GONE)
            PyErr_Format(PyExc_KeyError, "small frame %lld is not in the ring", k);
        else if (status == VPE_OK)
            answer = Py_NewRef(Py_None);
        else
            raise_box(status, box, width, height, fit.size);
    }
    PyMem_Free(scratch);
    PyBuffer_Release(&out);
    return answer;
}

static PyObject *sampler_crop_small(Sampler *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"k", "box", "out", "mean3", "std3", "letterbox", NULL};
    long long k;
    PyObject *box_object, *out, *mean, *std;
    int letterbox;
    vpe_box box;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "LOOOOp:crop_small", names, &k, &box_object, &out, &mean, &std,
                                     &letterbox) ||
        box_of(box_object, "box", &box) < 0 || enter(self) < 0)
        return NULL;
    PyObject *answer = crop_small(self, k, &box, out, mean, std, letterbox);
    self->in_use = 0;
    return answer;
}

static PyObject *pair(int32_t height, int32_t width) {
    return width ? Py_BuildValue("(ii)", (int)height, (int)width) : Py_NewRef(Py_None);
}

static PyObject *get_small_shape(Sampler *self, void *unused) {
    (void)unused;
    int32_t width = 0, height = 0;
    if (self->sampler)
        vpe_sampler_small_size(self->sampler, &width, &height);
    return pair(height, width);
}

static PyObject *get_frame_shape(Sampler *self, void *unused) {
    (void)unused;
    int32_t width = 0, height = 0;
    if (self->sampler)
        vpe_sampler_frame_size(self->sampler, &width, &height);
    return pair(height, width);
}

static PyObject *get_period_ns(Sampler *self, void *unused) {
    (void)unused;
    return PyLong_FromLongLong(self->sampler ? vpe_sampler_period_ns(self->sampler) : 0);
}

#define WITH_NAMES METH_VARARGS | METH_KEYWORDS
#define METHOD(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef sampler_methods[] = {
    {"push", METHOD(sampler_push), WITH_NAMES, "push(frame, t_ns, stats) -> (status, events)"},
    {"set_boxes", METHOD(sampler_set_boxes), WITH_NAMES, "set_boxes(stream, boxes): used from the next push on"},
    {"set_interval", METHOD(sampler_set_interval), WITH_NAMES, "set_interval(stream, n): every n-th point; 0 closes"},
    {"reset", METHOD(sampler_reset), WITH_NAMES, "reset(t_ns=-1) -> events: the next frame starts a new grid"},
    {"counts", METHOD(sampler_counts), WITH_NAMES, "counts(stream) -> points, sampled, repeated, held, reset"},
    {"crop_small", METHOD(sampler_crop_small), WITH_NAMES,
     "crop_small(k, box, out, mean3, std3, letterbox): from the ring of small whole frames"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sampler_attributes[] = {
    {"small_shape", (getter)get_small_shape, NULL, "(h, w) of the small whole frames, None before the first", NULL},
    {"frame_shape", (getter)get_frame_shape, NULL, "(h, w) of the frames, None before the first", NULL},
    {"period_ns", (getter)get_period_ns, NULL, "the source's period in use, ns", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sampler_slots[] = {
    {Py_tp_doc, "Samples one camera's frames for several streams on a timestamp grid."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, sampler_init},
    {Py_tp_dealloc, sampler_dealloc},
    {Py_tp_methods, sampler_methods},
    {Py_tp_getset, sampler_attributes},
    {0, NULL},
};

static PyType_Spec sampler_spec = {
    .name = "vidprism_edge.runtimes._native.Sampler",
    .basicsize = sizeof(Sampler),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sampler_slots,
};

/* ---- functions --------------------------------------------------------------------------------------------------------- */

static PyObject *resize_to(PyObject *image, PyObject *box_object, PyObject *out_object, PyObject *mean, PyObject *std,
                           int letterbox, PyObject *resample, const frame_words *words) {
    PyObject *answer = NULL;
    vpe_box box;
    vpe_fit fit;
    frame_view f;
    Py_buffer out;
    void *scratch;
    if (box_of(box_object, "box", &box) < 0 || resample_of(resample, &fit.resample) < 0 ||
        frame_of(image, "frame", words, &f) < 0)
        return NULL;
    if (out_of(out_object, &out, f.frame.width, f.frame.height, &scratch) == 0) {
        if (fit_of(mean, std, letterbox, out.shape[1], &fit) == 0) {
            vpe_status status;
            Py_BEGIN_ALLOW_THREADS
            status = vpe_resize(&f.frame, &box, &fit, out.buf, scratch);
            Py_END_ALLOW_THREADS
            answer = status == VPE_OK ? Py_NewRef(Py_None)
                                      : raise_box(status, &box, f.frame.width, f.frame.height, fit.size);
        }
        PyMem_Free(scratch);
        PyBuffer_Release(&out);
    }
    frame_release(&f);
    return answer;
}

static PyObject *resize_area(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"frame", "box", "out", "mean3", "std3", "letterbox", "format", "matrix", "full_range", NULL};
    PyObject *image, *box, *out, *mean, *std;
    frame_words words = {NULL, NULL, 0};
    int letterbox;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOp|$OOp:resize_area", names, &image, &box, &out, &mean, &std,
                                     &letterbox, &words.format, &words.matrix, &words.full_range))
        return NULL;
    return resize_to(image, box, out, mean, std, letterbox, NULL, &words);
}

static PyObject *resize_bicubic(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"frame", "box", "out", "mean3", "std3", "letterbox", "format", "matrix", "full_range", NULL};
    PyObject *image, *box, *out, *mean, *std;
    frame_words words = {NULL, NULL, 0};
    int letterbox;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOOOp|$OOp:resize_bicubic", names, &image, &box, &out, &mean, &std,
                                     &letterbox, &words.format, &words.matrix, &words.full_range))
        return NULL;
    PyObject *resample = PyUnicode_FromString("bicubic");
    PyObject *answer = resample ? resize_to(image, box, out, mean, std, letterbox, resample, &words) : NULL;
    Py_XDECREF(resample);
    return answer;
}

static PyObject *resize_u8(const vpe_frame *frame, const vpe_box *box, int32_t resample, const Py_buffer *out) {
    const Py_ssize_t h = out->shape[0], w = out->shape[1];
    if (h < 1 || w < 1 || h > VPE_MAX_SIDE || w > VPE_MAX_SIDE) {
        wrong(out, "out", "uint8 [h, w, 3] with sides of 1 to 16384");
        return NULL;
    }
    void *scratch = PyMem_Malloc(vpe_resize_scratch(frame->width, frame->height, (int32_t)w, (int32_t)h));
    if (!scratch)
        return PyErr_NoMemory();
    vpe_status status;
    Py_BEGIN_ALLOW_THREADS
    status = vpe_resize_u8(frame, box, resample, (int32_t)w, (int32_t)h, out->buf, scratch);
    Py_END_ALLOW_THREADS
    PyMem_Free(scratch);
    return status == VPE_OK ? Py_NewRef(Py_None)
                            : raise_box(status, box, frame->width, frame->height, (int32_t)(w < h ? w : h));
}

/* resize_area_u8 and resize_bicubic_u8: the whole frame, or a box of it */
static PyObject *resize_bytes(PyObject *args, PyObject *kwargs, int32_t resample) {
    static char *names[] = {"frame", "out", "box", "format", "matrix", "full_range", NULL};
    const Py_ssize_t shape[3] = {-1, -1, 3};
    PyObject *image, *out_object, *box_object = Py_None, *answer = NULL;
    frame_words words = {NULL, NULL, 0};
    Py_buffer out;
    frame_view f;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$OOOp:resize_u8", names, &image, &out_object, &box_object,
                                     &words.format, &words.matrix, &words.full_range) ||
        frame_of(image, "frame", &words, &f) < 0)
        return NULL;
    vpe_box box = {0, 0, f.frame.width, f.frame.height};
    if ((box_object == Py_None || box_of(box_object, "box", &box) == 0) &&
        array_of(out_object, "out", &out, 1, 'B', 3, shape) == 0) {
        answer = resize_u8(&f.frame, &box, resample, &out);
        PyBuffer_Release(&out);
    }
    frame_release(&f);
    return answer;
}

static PyObject *resize_area_u8(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    return resize_bytes(args, kwargs, VPE_AREA);
}

static PyObject *resize_bicubic_u8(PyObject *module, PyObject *args, PyObject *kwargs) {
    (void)module;
    return resize_bytes(args, kwargs, VPE_BICUBIC);
}

static PyObject *stats_with(const vpe_frame *frame, int32_t motion, const uint8_t *previous, uint8_t *luma, PyObject *stats_object) {
    Py_buffer stats;
    if (stats_object == Py_None)
        return PyErr_Format(PyExc_ValueError, "stats: given None; expected a writable float32 array");
    if (stats_of(stats_object, frame, &stats) < 0)
        return NULL;
    void *scratch = PyMem_Malloc(vpe_stats_scratch(frame->width, frame->height));
    vpe_status status = VPE_ERR_MEMORY;
    if (scratch) {
        Py_BEGIN_ALLOW_THREADS
        status = vpe_block_stats(frame, motion, previous, luma, stats.buf, scratch);
        Py_END_ALLOW_THREADS
    }
    PyMem_Free(scratch);
    PyBuffer_Release(&stats);
    return status == VPE_OK ? Py_NewRef(Py_None) : raise_status(status);
}

static PyObject *block_stats(PyObject *module, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"frame", "previous_luma", "luma_out", "stats", "motion", "format", NULL};
    PyObject *image, *previous_object, *luma_object, *stats_object, *motion_object = NULL, *answer = NULL;
    frame_words words = {NULL, NULL, 0};
    Py_buffer previous, luma;
    frame_view f;
    int32_t motion;
    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|$OO:block_stats", names, &image, &previous_object, &luma_object,
                                     &stats_object, &motion_object, &words.format) ||
        motion_of(motion_object, &motion) < 0 || frame_of(image, "frame", &words, &f) < 0)
        return NULL;
    const Py_ssize_t rows = motion == VPE_MOTION_AVERAGED ? (f.frame.height + 3) / 4 : f.frame.height;
    const Py_ssize_t shape[2] = {rows, f.frame.width};
    memset(&previous, 0, sizeof previous);
    if (previous_object == Py_None || array_of(previous_object, "previous_luma", &previous, 0, 'B', 2, shape) == 0) {
        if (array_of(luma_object, "luma_out", &luma, 1, 'B', 2, shape) == 0) {
            answer = stats_with(&f.frame, motion, previous.buf, luma.buf, stats_object);
            PyBuffer_Release(&luma);
        }
        PyBuffer_Release(&previous);
    }
    frame_release(&f);
    return answer;
}

static PyObject *simd_available(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    int n = 0;
    while (vpe_simd_available(n))
        n++;
    PyObject *names = PyTuple_New(n);
    for (int i = 0; names && i < n; i++)
        PyTuple_SetItem(names, i, PyUnicode_FromString(vpe_simd_available(i)));
    return names;
}

static PyObject *simd_select(PyObject *module, PyObject *name) {
    PyObject *bytes = PyUnicode_Check(name) ? PyUnicode_AsUTF8String(name) : NULL;
    const char *text = bytes ? PyBytes_AsString(bytes) : NULL;
    const vpe_status status = vpe_simd_select(text);
    Py_XDECREF(bytes);
    if (status == VPE_OK)
        return Py_NewRef(Py_None);
    PyErr_Clear();
    PyObject *known = simd_available(module, NULL);
    if (known)
        PyErr_Format(PyExc_ValueError, "name: given %R; expected one of %R", name, known);
    Py_XDECREF(known);
    return NULL;
}

static PyObject *simd_selected(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    return PyUnicode_FromString(vpe_simd_selected());
}

static PyMethodDef functions[] = {
    {"resize_area", METHOD(resize_area), WITH_NAMES, "resize_area(frame, box, out, mean3, std3, letterbox)"},
    {"resize_area_u8", METHOD(resize_area_u8), WITH_NAMES, "resize_area_u8(frame, out, *, box=None)"},
    {"resize_bicubic", METHOD(resize_bicubic), WITH_NAMES, "resize_bicubic(frame, box, out, mean3, std3, letterbox)"},
    {"resize_bicubic_u8", METHOD(resize_bicubic_u8), WITH_NAMES, "resize_bicubic_u8(frame, out, *, box=None)"},
    {"block_stats", METHOD(block_stats), WITH_NAMES, "block_stats(frame, previous_luma, luma_out, stats, *, motion='exact')"},
    {"simd_available", simd_available, METH_NOARGS, "names of the kernel sets that run here, the best first"},
    {"simd_select", simd_select, METH_O, "pin a kernel set for the process"},
    {"simd_selected", simd_selected, METH_NOARGS, "name of the kernel set in use"},
    {NULL, NULL, 0, NULL},
};

/* A kernel set that was asked for and is not there is an error, not a reason to take another one. */
static int check_environment(PyObject *module) {
    const char *name = getenv("VIDPRISM_EDGE_SIMD");
    if (!name || !*name || strcmp(name, vpe_simd_selected()) == 0)
        return 0;
    PyObject *known = simd_available(module, NULL);
    if (known)
        PyErr_Format(PyExc_ImportError, "VIDPRISM_EDGE_SIMD: given '%s'; expected one of %R", name, known);
    Py_XDECREF(known);
    return -1;
}

static int exec_module(PyObject *module) {
    if (check_environment(module) < 0)
        return -1;
    static const struct {
        const char *name;
        long value;
    } numbers[] = {
        {"SAMPLED", VPE_SAMPLED},
        {"REPEATED", VPE_REPEATED},
        {"HELD", VPE_HELD},
        {"RESET", VPE_RESET},
        {"OK", VPE_PUSH_OK},
        {"RESET_START", VPE_PUSH_RESET_START},
        {"RESET_GAP", VPE_PUSH_RESET_GAP},
        {"RESET_BACKWARD", VPE_PUSH_RESET_BACKWARD},
        {"RESET_SIZE", VPE_PUSH_RESET_SIZE},
        {"DROPPED_TIMESTAMP", VPE_PUSH_DROPPED_TIMESTAMP},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (PyModule_AddIntConstant(module, numbers[i].name, numbers[i].value) < 0)
            return -1;
    PyObject *type = PyType_FromSpec(&sampler_spec);
    if (!type)
        return -1;
    const int status = PyModule_AddObjectRef(module, "Sampler", type);
    Py_DECREF(type);
    return status;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The native frame sampler; see _native.pyi.",
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void) {
    return PyModuleDef_Init(&definition);
}
