cimport cython

@cython.locals(upgrades=bint, connects=bint, has_body=bint, extensions=list, keys=list, versions=list, subprotocols=list)
cpdef tuple check_request(str method, str http_version, headers)
cpdef bytes accept_key(bytes key)
@cython.locals(fields=list)
cpdef list response_fields(bytes key, subprotocol, extensions, extra=*)
@cython.locals(lower=bytes)
cdef bint _has_token(bytes value, bytes token) except -1
cdef list _parse_subprotocols(list values)
