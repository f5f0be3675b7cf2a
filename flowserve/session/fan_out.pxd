cimport cython

from flowserve.session.session cimport Session

@cython.locals(frame=bytes, compressed=bytes, text=bint, size="long long", index=Py_ssize_t, session=Session, others=list)
cpdef list fan_out(list sessions, message)
