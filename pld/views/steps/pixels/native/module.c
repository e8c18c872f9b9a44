// pld.views.steps.pixels._pixels: operations on pixels, bit for bit Pillow's; compiled_ops.py is how they are used.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "affine.h"
#include "blend.h"

// The arguments that every function begins with: an image's height, width and pixels, and where the result goes.
typedef struct {
    int height, width;
    Py_buffer in, out;
} Images;

static bool fits(Images *images, Py_ssize_t out_size) {
    Py_ssize_t height = images->height, width = images->width;
    // No overflow: sides are below 2^31 and memory holds fewer than 2^62 bytes.
    bool good = height > 0 && width > 0 && images->in.len / 3 / width == height && images->in.len == 3 * height * width &&
                images->out.len == (out_size ? out_size : images->in.len);
    if (!good) PyErr_SetString(PyExc_ValueError, "the memory is not as large as the image");
    return good;
}

static PyObject *finish(Images *images, bool good) {
    PyBuffer_Release(&images->in);
    PyBuffer_Release(&images->out);
    if (!good) return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *affine(PyObject *Py_UNUSED(module), PyObject *args) {
    Images a;
    double m[6];
    unsigned char fill[4] = {0};
    if (!PyArg_ParseTuple(args, "(ii)y*w*(dddddd)(bbb)", &a.height, &a.width, &a.in, &a.out, m, m + 1, m + 2, m + 3, m + 4,
                          m + 5, fill, fill + 1, fill + 2))
        return NULL;
    bool good = fits(&a, 0);
    if (good) {
        int32_t pixel;
        memcpy(&pixel, fill, 4);
        Py_BEGIN_ALLOW_THREADS
        good = transform(a.in.buf, a.height, a.width, m, pixel, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    return finish(&a, good);
}

static PyObject *blend_level(PyObject *Py_UNUSED(module), PyObject *args) {
    Images a;
    int level;
    float factor;
    if (!PyArg_ParseTuple(args, "(ii)y*w*if", &a.height, &a.width, &a.in, &a.out, &level, &factor)) return NULL;
    bool good = fits(&a, 0);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        blend_with_level(a.in.buf, (size_t)a.in.len, level, factor, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    return finish(&a, good);
}

typedef void (*Blend)(const uint8_t *in, int height, int width, float factor, uint8_t *out);

static PyObject *blend_with(Blend blend, PyObject *args) {
    Images a;
    float factor;
    if (!PyArg_ParseTuple(args, "(ii)y*w*f", &a.height, &a.width, &a.in, &a.out, &factor)) return NULL;
    bool good = fits(&a, 0);
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        blend(a.in.buf, a.height, a.width, factor, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    return finish(&a, good);
}

static PyObject *blend_grey(PyObject *Py_UNUSED(module), PyObject *args) { return blend_with(blend_with_grey, args); }

static PyObject *blend_smooth(PyObject *Py_UNUSED(module), PyObject *args) { return blend_with(blend_with_smooth, args); }

static PyObject *count(PyObject *Py_UNUSED(module), PyObject *args) {
    Images a;
    if (!PyArg_ParseTuple(args, "(ii)y*w*", &a.height, &a.width, &a.in, &a.out)) return NULL;
    bool good = fits(&a, sizeof(uint32_t[3][256]));
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        count_levels(a.in.buf, (size_t)a.in.len, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    return finish(&a, good);
}

static PyObject *grey_sum(PyObject *Py_UNUSED(module), PyObject *args) {
    Py_buffer in;
    if (!PyArg_ParseTuple(args, "y*", &in)) return NULL;
    uint64_t total;
    Py_BEGIN_ALLOW_THREADS
    total = sum_of_grey(in.buf, (size_t)(in.len - in.len % 3));
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&in);
    return PyLong_FromUnsignedLongLong(total);
}

static PyObject *replace(PyObject *Py_UNUSED(module), PyObject *args) {
    Images a;
    Py_buffer tables;
    if (!PyArg_ParseTuple(args, "(ii)y*w*y*", &a.height, &a.width, &a.in, &a.out, &tables)) return NULL;
    bool good = fits(&a, 0);
    if (good && tables.len != 3 * 256) {
        PyErr_SetString(PyExc_ValueError, "wanted three tables of 256 bytes");
        good = false;
    }
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        replace_levels(a.in.buf, (size_t)a.in.len, tables.buf, a.out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&tables);
    return finish(&a, good);
}

#define IMAGES "((height, width), pixels, out"

static PyMethodDef methods[] = {
    {"affine", affine, METH_VARARGS, "affine" IMAGES ", matrix, fill): bicubic affine transform."},
    {"blend_level", blend_level, METH_VARARGS, "blend_level" IMAGES ", level, factor): blend with one grey level."},
    {"blend_grey", blend_grey, METH_VARARGS, "blend_grey" IMAGES ", factor): blend with the grey image."},
    {"blend_smooth", blend_smooth, METH_VARARGS, "blend_smooth" IMAGES ", factor): blend with the smoothed image."},
    {"count", count, METH_VARARGS, "count" IMAGES "): how often each level comes in each channel, uint32 [3, 256]."},
    {"grey_sum", grey_sum, METH_VARARGS, "grey_sum(pixels): the sum of the grey image."},
    {"replace", replace, METH_VARARGS, "replace" IMAGES ", tables): each channel's levels by a table of its own."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_pixels", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__pixels(void) {
    if (__builtin_cpu_supports("avx2")) return PyModule_Create(&definition);
    PyErr_SetString(PyExc_ImportError, "this processor lacks AVX2");
    return NULL;
}
