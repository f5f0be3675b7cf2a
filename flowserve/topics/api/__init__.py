"""The functions of `flowserve.topics`, but for `serve()`."""
