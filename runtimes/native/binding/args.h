/* From Python objects to what vpe.h takes, each with an error that says what was given and what was expected. */
#ifndef VPE_BINDING_ARGS_H
#define VPE_BINDING_ARGS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vpe/vpe.h"

/* What fits, however much there is to say. */
typedef struct text {
    char bytes[320];
    size_t used;
} text;

static void add(text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(t->bytes + t->used, sizeof t->bytes - t->used, format, args);
    va_end(args);
    if (n > 0)
        t->used += (size_t)n < sizeof t->bytes - t->used ? (size_t)n : sizeof t->bytes - t->used - 1;
}

static void add_numbers(text *t, const char *open, const Py_ssize_t *numbers, int n) {
    add(t, "%s", open);
    for (int i = 0; i < n; i++)
        add(t, i ? ", %lld" : "%lld", (long long)numbers[i]);
}

static void describe(const Py_buffer *view, text *t) {
    t->used = 0;
    add(t, "dtype code '%s'", view->format ? view->format : "B");
    add_numbers(t, ", shape (", view->shape, view->ndim);
    add_numbers(t, "), strides (", view->strides, view->ndim);
    add(t, ")%s", view->readonly ? ", read-only" : "");
}

static int wrong(const Py_buffer *view, const char *name, const char *expected) {
    text given;
    describe(view, &given);
    PyErr_Format(PyExc_ValueError, "%s: given %s; expected %s", name, given.bytes, expected);
    return -1;
}

/* A view with its strides; the caller releases it. */
static int view_of(PyObject *object, const char *name, Py_buffer *view, int writable) {
    if (!PyObject_CheckBuffer(object)) {
        PyErr_Format(PyExc_ValueError, "%s: given %R; expected a numpy array", name, (PyObject *)Py_TYPE(object));
        return -1;
    }
    return PyObject_GetBuffer(object, view, writable ? PyBUF_RECORDS : PyBUF_RECORDS_RO);
}

static int has_format(const Py_buffer *view, char code) {
    const char *f = view->format ? view->format : "B";
    if (f[0] == '<' || f[0] == '=' || f[0] == '@')
        f++;
    return f[0] == code && f[1] == 0;
}

static int is_contiguous(const Py_buffer *view) {
    Py_ssize_t step = view->itemsize;
    for (int i = view->ndim - 1; i >= 0; i--) {
        if (view->shape[i] != 1 && view->strides[i] != step)
            return 0;
        step *= view->shape[i];
    }
    return 1;
}

/* The place of a word in a list that ends with NULL; the first where nothing is given. */
static int word_of(PyObject *object, const char *name, const char *const *words, int32_t *out) {
    *out = 0;
    if (!object)
        return 0;
    PyObject *bytes = PyUnicode_Check(object) ? PyUnicode_AsUTF8String(object) : NULL;
    const char *given = bytes ? PyBytes_AsString(bytes) : NULL;
    text known = {.used = 0};
    int32_t i = 0;
    for (; words[i]; i++) {
        if (given && strcmp(given, words[i]) == 0)
            break;
        add(&known, i ? ", '%s'" : "'%s'", words[i]);
    }
    Py_XDECREF(bytes);
    *out = i;
    if (words[i])
        return 0;
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: given %R; expected one of %s", name, object, known.bytes);
    return -1;
}

/* ---- frames ------------------------------------------------------------------------------------------------------- */

typedef struct frame_view {
    vpe_frame frame;
    Py_buffer view[3];
    int count;
} frame_view;

typedef struct format_info {
    const char *name, *expected;
    int planes, channels, step; /* channels of the first plane, bytes from pixel to pixel */
} format_info;

static const format_info formats[] = {
    {"bgr24", "uint8 [H, W, 3] with sides of 1 to 16384, pixels 3 bytes apart and rows at least W * 3 bytes apart", 1, 3, 3},
    {"rgb24", "uint8 [H, W, 3] with sides of 1 to 16384, pixels 3 bytes apart and rows at least W * 3 bytes apart", 1, 3, 3},
    {"gray8", "uint8 [H, W] with sides of 1 to 16384 and rows at least W bytes apart", 1, 1, 1},
    {"nv12", "Y uint8 [H, W] and UV uint8 [ceil(H/2), ceil(W/2) * 2] (or [.., .., 2]), or one [H * 3/2, W] of even sides", 2, 1, 1},
    {"i420", "Y uint8 [H, W], U and V uint8 [ceil(H/2), ceil(W/2)], or one contiguous [H * 3/2, W] of even sides", 3, 1, 1},
    {"yuyv", "uint8 [H, W, 2] with an even W of 2 to 16384 and rows at least W * 2 bytes apart", 1, 2, 2},
};

static void frame_release(frame_view *f) {
    for (int i = 0; i < f->count; i++)
        PyBuffer_Release(&f->view[i]);
    f->count = 0;
}

/* Whether a plane is uint8 [rows, columns] or, with channels above 1, [rows, columns, channels], without gaps in a row. */
static int is_plane(const Py_buffer *v, Py_ssize_t channels) {
    if (!has_format(v, 'B') || v->ndim != (channels > 1 ? 3 : 2) || v->shape[0] < 1 || v->shape[1] < 1)
        return 0;
    if (channels > 1 && (v->shape[2] != channels || v->strides[2] != 1))
        return 0;
    if (v->shape[1] > 1 && v->strides[1] != channels)
        return 0;
    const Py_ssize_t stride = v->strides[0] < 0 ? -v->strides[0] : v->strides[0];
    return v->shape[0] == 1 || stride >= v->shape[1] * channels;
}

static int is_side(Py_ssize_t n) {
    return n >= 1 && n <= VPE_MAX_SIDE;
}

/* The whole frame in one array: Y, then the chroma rows below it. */
static int one_array(frame_view *f) {
    const Py_buffer *v = &f->view[0];
    if (!is_plane(v, 1) || v->shape[0] % 3 || v->shape[1] % 2 || v->shape[0] / 3 * 2 % 2)
        return 0;
    const Py_ssize_t height = v->shape[0] / 3 * 2, width = v->shape[1], stride = v->strides[0];
    if (!is_side(height) || !is_side(width) || (f->frame.format == VPE_I420 && stride != width))
        return 0;
    f->frame.height = (int32_t)height;
    f->frame.width = (int32_t)width;
    f->frame.plane[0] = v->buf;
    f->frame.plane[1] = f->frame.plane[0] + height * stride;
    f->frame.stride[0] = f->frame.stride[1] = stride;
    if (f->frame.format == VPE_I420) {
        f->frame.plane[2] = f->frame.plane[1] + height / 2 * (width / 2);
        f->frame.stride[1] = f->frame.stride[2] = width / 2;
    }
    return 1;
}

static int chroma_fits(const frame_view *f, int p) {
    const Py_buffer *v = &f->view[p];
    const Py_ssize_t rows = (f->frame.height + 1) / 2, columns = (f->frame.width + 1) / 2;
    if (f->frame.format == VPE_NV12)
        return v->ndim == 3 ? is_plane(v, 2) && v->shape[0] == rows && v->shape[1] == columns
                            : is_plane(v, 1) && v->shape[0] == rows && v->shape[1] == 2 * columns;
    return is_plane(v, 1) && v->shape[0] == rows && v->shape[1] == columns;
}

/* The number of the first plane that is not as it should be, -1 where all are. */
static int bad_plane(frame_view *f, const format_info *info) {
    const Py_buffer *v = &f->view[0];
    if (f->count == 1 && info->planes > 1)
        return one_array(f) ? -1 : 0;
    if (!is_plane(v, info->channels) || !is_side(v->shape[0]) || !is_side(v->shape[1]))
        return 0;
    if (f->frame.format == VPE_YUYV && v->shape[1] % 2)
        return 0;
    f->frame.height = (int32_t)v->shape[0];
    f->frame.width = (int32_t)v->shape[1];
    for (int p = 0; p < f->count; p++) {
        if (p && !chroma_fits(f, p))
            return p;
        f->frame.plane[p] = f->view[p].buf;
        f->frame.stride[p] = f->view[p].strides[0];
    }
    return -1;
}

/* What a call says about its frame, beside the pixels. */
typedef struct frame_words {
    PyObject *format, *matrix;
    int full_range;
} frame_words;

/* 0, or -1 with the error set and nothing to release. */
static int frame_of(PyObject *object, const char *name, const frame_words *words, frame_view *f) {
    static const char *const names[] = {"bgr24", "rgb24", "gray8", "nv12", "i420", "yuyv", NULL};
    static const char *const matrices[] = {"bt601", "bt709", NULL};
    memset(f, 0, sizeof *f);
    if (word_of(words->format, "format", names, &f->frame.format) < 0 ||
        word_of(words->matrix, "matrix", matrices, &f->frame.matrix) < 0)
        return -1;
    f->frame.full_range = words->full_range;
    const format_info *info = &formats[f->frame.format];
    const int several = info->planes > 1 && (PyTuple_Check(object) || PyList_Check(object));
    if (several && PySequence_Size(object) != info->planes) {
        PyErr_Format(PyExc_ValueError, "%s: given %zd planes; expected %s", name, PySequence_Size(object), info->expected);
        return -1;
    }
    for (int p = 0; p < (several ? info->planes : 1); p++) {
        PyObject *plane = several ? PySequence_GetItem(object, p) : Py_NewRef(object);
        const int status = plane ? view_of(plane, name, &f->view[p], 0) : -1;
        Py_XDECREF(plane);
        if (status < 0) {
            frame_release(f);
            return -1;
        }
        f->count = p + 1;
    }
    const int bad = bad_plane(f, info);
    if (bad < 0)
        return 0;
    wrong(&f->view[bad], name, info->expected);
    frame_release(f);
    return -1;
}

/* A contiguous array of the shape given (-1: any). */
static int array_of(PyObject *object, const char *name, Py_buffer *view, int writable, char code, int ndim,
                    const Py_ssize_t *shape) {
    if (view_of(object, name, view, writable) < 0)
        return -1;
    int ok = has_format(view, code) && view->ndim == ndim && is_contiguous(view);
    for (int i = 0; ok && i < ndim; i++)
        ok = shape[i] < 0 || view->shape[i] == shape[i];
    if (ok)
        return 0;
    text expected = {.used = 0};
    add(&expected, "a contiguous%s %s [", writable ? " writable" : "", code == 'f' ? "float32" : "uint8");
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0)
            add(&expected, i ? ", any" : "any");
        else
            add(&expected, i ? ", %lld" : "%lld", (long long)shape[i]);
    add(&expected, "]");
    wrong(view, name, expected.bytes);
    PyBuffer_Release(view);
    return -1;
}

static int ints_of(PyObject *object, const char *name, const char *expected, int32_t *out, int n) {
    PyObject *list = PySequence_List(object);
    if (list && PyList_Size(list) == n) {
        int ok = 1;
        for (int i = 0; ok && i < n; i++) {
            PyObject *item = PyNumber_Index(PyList_GetItem(list, i));
            const long long v = item ? PyLong_AsLongLong(item) : -1;
            Py_XDECREF(item);
            ok = !PyErr_Occurred() && v >= INT32_MIN && v <= INT32_MAX;
            out[i] = ok ? (int32_t)v : 0;
        }
        Py_DECREF(list);
        if (ok)
            return 0;
    } else {
        Py_XDECREF(list);
    }
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: given %R; expected %s", name, object, expected);
    return -1;
}

static int box_of(PyObject *object, const char *name, vpe_box *box) {
    int32_t v[4];
    if (ints_of(object, name, "whole numbers (x, y, w, h) in pixels", v, 4) < 0)
        return -1;
    *box = (vpe_box){v[0], v[1], v[2], v[3]};
    return 0;
}

static int floats_of(PyObject *object, const char *name, float *out) {
    PyObject *list = PySequence_List(object);
    if (list && PyList_Size(list) == 3) {
        for (int i = 0; i < 3; i++)
            out[i] = (float)PyFloat_AsDouble(PyList_GetItem(list, i));
        Py_DECREF(list);
        if (!PyErr_Occurred())
            return 0;
    } else {
        Py_XDECREF(list);
    }
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s: given %R; expected three numbers (R, G, B)", name, object);
    return -1;
}

static int fit_of(PyObject *mean, PyObject *std, int letterbox, Py_ssize_t size, vpe_fit *fit) {
    fit->size = (int32_t)size;
    fit->letterbox = letterbox;
    if (floats_of(mean, "mean3", fit->mean) < 0 || floats_of(std, "std3", fit->std) < 0)
        return -1;
    for (int c = 0; c < 3; c++)
        if (!(fit->std[c] > 0)) {
            PyErr_Format(PyExc_ValueError, "std3: given %R; expected three numbers above 0", std);
            return -1;
        }
    return 0;
}

static int resample_of(PyObject *object, int32_t *resample) {
    static const char *const words[] = {"area", "bicubic", NULL};
    return word_of(object, "resample", words, resample);
}

static int motion_of(PyObject *object, int32_t *motion) {
    static const char *const words[] = {"exact", "averaged", NULL};
    return word_of(object, "motion", words, motion);
}

static PyObject *raise_status(vpe_status status) {
    PyObject *type = PyExc_ValueError;
    if (status == VPE_ERR_MEMORY)
        return PyErr_NoMemory();
    if (status == VPE_ERR_BUSY)
        type = PyExc_RuntimeError;
    if (status == VPE_ERR_GONE)
        type = PyExc_KeyError;
    PyErr_SetString(type, vpe_status_text(status));
    return NULL;
}

static PyObject *raise_box(vpe_status status, const vpe_box *box, int32_t width, int32_t height, int32_t size) {
    if (status == VPE_ERR_BOX)
        return PyErr_Format(PyExc_ValueError,
                            "box: given (x, y, w, h) = (%d, %d, %d, %d); expected w and h of at least 1 and a box "
                            "inside the frame of width %d, height %d",
                            box->x, box->y, box->w, box->h, width, height);
    if (status == VPE_ERR_SCALE)
        return PyErr_Format(PyExc_ValueError,
                            "box: given (x, y, w, h) = (%d, %d, %d, %d) for an output of %d pixels; expected at most "
                            "128 source pixels to one output pixel",
                            box->x, box->y, box->w, box->h, size);
    return raise_status(status);
}

#endif
