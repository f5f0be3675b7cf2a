cimport cython

cdef extern from *:
    """
    /* Not yet filled, and never one of the shared objects that stand for a single byte. */
    static PyObject *flowserve_new_bytes(Py_ssize_t size) {
        return PyBytes_FromStringAndSize(NULL, size);
    }
    static PyObject *flowserve_join_bytes(PyObject *head, PyObject *payload) {
        Py_ssize_t size = PyBytes_GET_SIZE(head);
        PyObject *result = PyBytes_FromStringAndSize(NULL, size + PyBytes_GET_SIZE(payload));
        if (result != NULL) {
            memcpy(PyBytes_AS_STRING(result), PyBytes_AS_STRING(head), size);
            memcpy(PyBytes_AS_STRING(result) + size, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload));
        }
        return result;
    }
    static void flowserve_repeat(unsigned char *pattern, const unsigned char *mask) {
        for (int i = 0; i < 64; i += 4)
            memcpy(pattern + i, mask, 4);
    }
    """
    void repeat "flowserve_repeat"(unsigned char *pattern, const unsigned char *mask)
    bytes join_bytes "flowserve_join_bytes"(bytes head, bytes payload)
    bytes new_bytes "flowserve_new_bytes"(Py_ssize_t size)

cdef bint COMPILED
cdef Py_ssize_t _POOL
cdef list _masks

@cython.locals(data=bytes, pool="const unsigned char *", at=Py_ssize_t)
cpdef bytes new_mask()

@cython.locals(size=Py_ssize_t, lead=Py_ssize_t, done=Py_ssize_t, i=Py_ssize_t, result=bytes,
               pattern="unsigned char[64]", front="const unsigned char *", source="const unsigned char *",
               target="unsigned char *", key="const unsigned char *")
cpdef bytes apply_mask(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at=*, bytes head=*)

cpdef bytes join(bytes head, bytes payload)
