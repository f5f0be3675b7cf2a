cimport cython

cdef extern from *:
    """
    /* Not yet filled, and never one of the shared objects that stand for a single byte. */
    static PyObject *flowserve_new_bytes(Py_ssize_t size) {
        return PyBytes_FromStringAndSize(NULL, size);
    }
    """
    bytes new_bytes "flowserve_new_bytes"(Py_ssize_t size)

cdef bint COMPILED
cdef Py_ssize_t _POOL
cdef list _masks

@cython.locals(pool=bytes, at=Py_ssize_t)
cpdef bytes new_mask()

@cython.locals(size=Py_ssize_t, at=Py_ssize_t, i=Py_ssize_t, result=bytes, pattern=bytes,
               source="const unsigned char *", target="unsigned char *", key="const unsigned char *")
cpdef bytes apply_mask(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask)
