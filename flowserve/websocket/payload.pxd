cimport cython

cdef extern from *:
    """
    /* Uninitialised, and never one of the shared objects for a single byte. */
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
    /* The memory of a bytes object, or of a str of ASCII. It may be written to until others refer to the object. */
    static unsigned char *flowserve_memory(PyObject *object) {
        return PyBytes_CheckExact(object) ? (unsigned char *)PyBytes_AS_STRING(object)
                                          : (unsigned char *)PyUnicode_1BYTE_DATA(object);
    }
    static PyObject *flowserve_new_memory(Py_ssize_t size, int text) {
        return text ? PyUnicode_New(size, 127) : flowserve_new_bytes(size);
    }
    /* Like memoryview(), but also of a str, and writable if asked for. It keeps the object alive. */
    static PyObject *flowserve_view_memory(PyObject *object, Py_ssize_t start, Py_ssize_t end, int writable) {
        char *memory = (char *)flowserve_memory(object) + start;
        PyObject *view = PyMemoryView_FromMemory(memory, end - start, writable ? PyBUF_WRITE : PyBUF_READ);
        if (view != NULL)
            ((PyMemoryViewObject *)view)->mbuf->master.obj = Py_NewRef(object);
        return view;
    }
    """
    void repeat "flowserve_repeat"(unsigned char *pattern, const unsigned char *mask)
    bytes join_bytes "flowserve_join_bytes"(bytes head, bytes payload)
    object new_memory "flowserve_new_memory"(Py_ssize_t size, bint text)
    unsigned char *memory "flowserve_memory"(object object)
    object view_memory "flowserve_view_memory"(object object, Py_ssize_t start, Py_ssize_t end, bint writable)
    void copy "memcpy"(void *target, const void *source, size_t size)
    void fill "memset"(void *target, int octet, size_t size)
    bytes new_bytes "flowserve_new_bytes"(Py_ssize_t size)

cdef bint COMPILED
cdef Py_ssize_t _POOL_SIZE
cdef list _masks
cdef bytes _NO_MASK
cdef Py_ssize_t _GROWTH, _MIN_CAPACITY

@cython.locals(data=bytes, pool="const unsigned char *", at=Py_ssize_t)
cpdef bytes new_mask()

@cython.locals(size=Py_ssize_t, lead=Py_ssize_t, done=Py_ssize_t, i=Py_ssize_t, result=bytes,
               pattern="unsigned char[64]", front="const unsigned char *", source="const unsigned char *",
               target="unsigned char *", key="const unsigned char *")
cpdef bytes apply_mask(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at=*, bytes head=*)

cpdef text_bytes(str text)

cpdef bytes join(bytes head, bytes payload)

@cython.final
cdef class PayloadBuffer:
    cdef readonly long long size
    cdef readonly Py_ssize_t filled, ascii_size
    cdef readonly bint ascii
    cdef bint _text
    cdef Py_ssize_t _capacity
    cdef object _memory

    cpdef get_buffer(self)
    @cython.locals(size=Py_ssize_t)
    cpdef put(self, bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at)
    cpdef unmask(self, Py_ssize_t size, bytes mask, Py_ssize_t at)
    @cython.locals(begin=Py_ssize_t, done=Py_ssize_t, i=Py_ssize_t, key="const unsigned char *",
                   source="const unsigned char *", target="unsigned char *", pattern="unsigned char[64]",
                   block="unsigned char[64]", or_of_bytes="unsigned char[64]")
    cdef _unmask(self, bytes data, Py_ssize_t start, Py_ssize_t size, bytes mask, Py_ssize_t at)
    cpdef bytes contents(self, Py_ssize_t start=*)
    cpdef message(self)
    @cython.locals(capacity=Py_ssize_t)
    cdef _grow(self, Py_ssize_t size)
