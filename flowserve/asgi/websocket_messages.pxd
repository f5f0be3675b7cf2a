from flowserve.http.messages cimport as_bytes

cpdef list header_fields(headers)
cpdef send_payload(dict message)
cpdef check_close(code, reason)
