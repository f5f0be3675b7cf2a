cimport cython

cdef extern from *:
    """
    #include <stdint.h>

    /* Uninitialised, and never one of the shared objects for a single byte. */
    static PyObject *flowserve_new_bytes(Py_ssize_t size) {
        return PyBytes_FromStringAndSize(NULL, size);
    }
    /* XOR bytes with a mask of 4; the target may be the source. Returns whether all of the result are ASCII. */
    static int flowserve_xor(unsigned char *target, const unsigned char *source, Py_ssize_t size,
                             const unsigned char *mask) {
        uint64_t key, word, seen = 0;
        memcpy(&key, mask, 4);
        memcpy((unsigned char *)&key + 4, mask, 4);
    #ifdef __GNUC__
        typedef uint64_t lane __attribute__((vector_size(16), aligned(1), may_alias));  /* a register, on any machine */
        lane keys = {key, key}, all = {0, 0};
        for (; size >= 64; size -= 64, source += 64, target += 64) {
            const lane *from = (const lane *)source;
            lane *to = (lane *)target, a = from[0] ^ keys, b = from[1] ^ keys, c = from[2] ^ keys, d = from[3] ^ keys;
            all |= a | b | c | d;
            to[0] = a, to[1] = b, to[2] = c, to[3] = d;
        }
        seen = all[0] | all[1];
    #endif
        for (; size >= 8; size -= 8, source += 8, target += 8) {
            memcpy(&word, source, 8);
            word ^= key;
            seen |= word;
            memcpy(target, &word, 8);
        }
        for (Py_ssize_t i = 0; i < size; i++)
            seen |= target[i] = source[i] ^ mask[i & 3];
        return (seen & 0x8080808080808080u) == 0;
    }
    /* The memory of a bytes object, or of a str of ASCII. It may be written to until others refer to the object. */
    static unsigned char *flowserve_memory(PyObject *object) {
        return PyBytes_CheckExact(object) ? (unsigned char *)PyBytes_AS_STRING(object)
                                          : (unsigned char *)PyUnicode_1BYTE_DATA(object);
    }
    static PyObject *flowserve_join_bytes(PyObject *head, PyObject *payload) {
        Py_ssize_t lead = PyBytes_GET_SIZE(head);
        Py_ssize_t size = PyBytes_CheckExact(payload) ? PyBytes_GET_SIZE(payload) : PyUnicode_GET_LENGTH(payload);
        PyObject *result = PyBytes_FromStringAndSize(NULL, lead + size);
        if (result != NULL) {
            memcpy(PyBytes_AS_STRING(result), PyBytes_AS_STRING(head), lead);
            memcpy(PyBytes_AS_STRING(result) + lead, flowserve_memory(payload), size);
        }
        return result;
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
    bint xor "flowserve_xor"(unsigned char *target, const unsigned char *source, Py_ssize_t size, const unsigned char *mask)
    bytes join_bytes "flowserve_join_bytes"(bytes head, object payload)
    object new_memory "flowserve_new_memory"(Py_ssize_t size, bint text)
    unsigned char *memory "flowserve_memory"(object object)
    object view_memory "flowserve_view_memory"(object object, Py_ssize_t start, Py_ssize_t end, bint writable)
    void copy "memcpy"(void *target, const void *source, size_t size)
    bytes new_bytes "flowserve_new_bytes"(Py_ssize_t size)

cdef bint COMPILED
cdef Py_ssize_t _POOL_SIZE
cdef list _masks
cdef bytes _NO_MASK
cdef Py_ssize_t _GROWTH, _MIN_CAPACITY

@cython.locals(data=bytes, pool="const unsigned char *", at=Py_ssize_t)
cpdef bytes new_mask()

@cython.locals(size=Py_ssize_t, lead=Py_ssize_t, result=bytes, front="const unsigned char *",
               source="const unsigned char *", target="unsigned char *", key="const unsigned char *")
cpdef bytes apply_mask(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at=*, bytes head=*)

cdef int _check(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at) except -1

@cython.locals(size=Py_ssize_t, text=str, source="const unsigned char *", target="unsigned char *",
               key="const unsigned char *")
cpdef str unmask_text(bytes data, Py_ssize_t start, Py_ssize_t end, bytes mask, Py_ssize_t at)

cpdef text_bytes(str text)

cpdef bytes join(bytes head, bytes payload)
cpdef bytes join_ascii(bytes head, str text)

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
    @cython.locals(begin=Py_ssize_t, key="const unsigned char *", source="const unsigned char *",
                   target="unsigned char *")
    cdef _unmask(self, bytes data, Py_ssize_t start, Py_ssize_t size, bytes mask, Py_ssize_t at)
    cpdef bytes contents(self, Py_ssize_t start=*)
    cpdef message(self)
    @cython.locals(capacity=Py_ssize_t)
    cdef _grow(self, Py_ssize_t size)
