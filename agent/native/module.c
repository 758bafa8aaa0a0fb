/* The module hf_agent._native: loops over bytes that Python would be slow at. Built for the limited
 * API of Python 3.11, so one build serves all versions from there on. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "json_lines.h"
#include "newlines.h"

#ifndef KEPT_BYTES /* none in tests: nothing is then written into room that a call did not make */
#define KEPT_BYTES (4 << 20)
#endif
#define WORTH_THE_LOCK (32 << 10) /* bytes; for less, the lock is not given away and taken again */

static PyObject *
count_newlines_of(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start, end;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nn:count_newlines", &data, &start, &end))
        return NULL;
    if (start < 0 || end < start || end > data.len) {
        PyBuffer_Release(&data);
        PyErr_SetString(PyExc_ValueError, "start and end must lie in the data");
        return NULL;
    }
    size_t count = count_newlines((const unsigned char *)data.buf + start, (size_t)(end - start));
    PyBuffer_Release(&data);
    return PyLong_FromSize_t(count);
}

/* Messages of entries, held while they are read. */
struct messages {
    Py_buffer *buffers;
    size_t *counts;
    Py_ssize_t number, held;
    size_t bytes;
};

static void
release(struct messages *messages)
{
    while (messages->held)
        PyBuffer_Release(&messages->buffers[--messages->held]);
    PyMem_Free(messages->buffers);
    PyMem_Free(messages->counts);
}

static int
hold(struct messages *messages, PyObject *buffers, PyObject *counts)
{
    *messages = (struct messages){.number = PyList_Size(buffers)};
    if (messages->number != PyList_Size(counts)) {
        PyErr_SetString(PyExc_ValueError, "there must be a count for each message");
        return -1;
    }
    messages->buffers = PyMem_Calloc((size_t)messages->number, sizeof *messages->buffers);
    messages->counts = PyMem_Calloc((size_t)messages->number, sizeof *messages->counts);
    if (messages->buffers == NULL || messages->counts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (; messages->held < messages->number; messages->held++) {
        Py_buffer *buffer = &messages->buffers[messages->held];
        size_t count = PyLong_AsSize_t(PyList_GetItem(counts, messages->held));
        if (count == (size_t)-1 && PyErr_Occurred())
            return -1;
        if (PyObject_GetBuffer(PyList_GetItem(buffers, messages->held), buffer, PyBUF_SIMPLE) < 0)
            return -1;
        messages->counts[messages->held] = count;
        messages->bytes += (size_t)buffer->len;
    }
    return 0;
}

static enum outcome
write_messages(struct output *output, struct line_format *format, const struct messages *messages)
{
    enum outcome outcome = DONE;
    for (Py_ssize_t index = 0; index < messages->number && outcome == DONE; index++) {
        const Py_buffer *buffer = &messages->buffers[index];
        struct bytes entries = {buffer->buf, (size_t)buffer->len};
        outcome = write_lines(output, format, entries, messages->counts[index]);
    }
    return outcome;
}

/* What the last call wrote into: memory that was just used is faster than new memory. Whoever has
 * the interpreter's lock may take it. */
static struct output kept;

static PyObject *
json_lines(PyObject *module, PyObject *args)
{
    PyObject *buffers, *counts, *own_keys, *text = NULL;
    struct messages messages;
    struct line_format format = {.last = NO_SECOND};
    const char *head, *tail;
    Py_ssize_t head_length, tail_length;
    int has_time;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!y#py#O!:json_lines", &PyList_Type, &buffers, &PyList_Type,
                          &counts, &head, &head_length, &has_time, &tail, &tail_length,
                          &PyTuple_Type, &own_keys))
        return NULL;
    format.head = (struct bytes){(const unsigned char *)head, (size_t)head_length};
    format.tail = (struct bytes){(const unsigned char *)tail, (size_t)tail_length};
    format.has_time = has_time;
    format.own_key_count = (size_t)PyTuple_Size(own_keys);
    if (format.own_key_count > MAX_OWN_KEYS) {
        PyErr_SetString(PyExc_ValueError, "too many keys of its own");
        return NULL;
    }
    for (size_t index = 0; index < format.own_key_count; index++) {
        char *key;
        Py_ssize_t length;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(own_keys, (Py_ssize_t)index), &key, &length) < 0)
            return NULL;
        format.own_keys[index] = (struct bytes){(const unsigned char *)key, (size_t)length};
    }
    if (hold(&messages, buffers, counts) < 0) {
        release(&messages);
        return NULL;
    }

    struct output output = kept;
    kept = (struct output){NULL, NULL, NULL};
    output.end = output.bytes;
    enum outcome outcome;
    if (messages.bytes < WORTH_THE_LOCK) {
        outcome = write_messages(&output, &format, &messages);
    } else {
        Py_BEGIN_ALLOW_THREADS
        outcome = write_messages(&output, &format, &messages);
        Py_END_ALLOW_THREADS
    }
    release(&messages);

    if (outcome == DONE) {
        text = PyBytes_FromStringAndSize((const char *)output.bytes, output.end - output.bytes);
    } else if (outcome == UNUSUAL) {
        Py_INCREF(Py_None);
        text = Py_None;
    } else {
        PyErr_NoMemory();
    }
    if (kept.bytes == NULL && output.limit - output.bytes <= KEPT_BYTES)
        kept = output;
    else
        free(output.bytes);
    return text;
}

static PyMethodDef methods[] = {
    {"count_newlines", count_newlines_of, METH_VARARGS, "How many newlines data[start:end] has."},
    {"json_lines", json_lines, METH_VARARGS, "Entries of protocol forward as lines of JSON."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "hf_agent._native",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModule_Create(&definition);
}
