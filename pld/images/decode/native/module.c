// pld.images.decode._box: pixels of one box of an ordinary JPEG; box.h is how, jpeg_box.py what of it is promised.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "box.h"

static PyObject *decode(PyObject *Py_UNUSED(module), PyObject *args) {
    const char *data;
    Py_ssize_t size;
    Py_buffer out;
    int height, width;
    Box box;
    if (!PyArg_ParseTuple(args, "y#(ii)(iiii)w*", &data, &size, &height, &width, &box.top, &box.left, &box.height, &box.width,
                          &out))
        return NULL;
    bool fits = is_inside(box, height, width) && out.len == 3 * (Py_ssize_t)box.height * box.width, good = false;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        good = read_box((const uint8_t *)data, (size_t)size, height, width, box, out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&out);
    if (fits) return PyBool_FromLong(good);
    PyErr_SetString(PyExc_ValueError, "the box is not inside the image, or the memory is not as large as the box");
    return NULL;
}

static PyMethodDef methods[] = {
    {"decode", decode, METH_VARARGS,
     "decode(data, (height, width), (top, left, height, width), out): write a box's RGB to `out`; False where the image "
     "is of another kind or damaged."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_box", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__box(void) {
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2"))
        return PyModule_Create(&definition);
    PyErr_SetString(PyExc_ImportError, "this processor lacks AVX2 or BMI2");
    return NULL;
}
