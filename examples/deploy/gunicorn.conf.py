"""gunicorn with flowserve as its worker: gunicorn -c gunicorn.conf.py myapp:app"""

bind = "127.0.0.1:8000"
workers = 4
worker_class = "flowserve.gunicorn.Worker"
graceful_timeout = 30
accesslog = "-"

# Options of flowserve that gunicorn has no setting for.
raw_env = [
    "FLOWSERVE_TIMEOUT_DRAIN=20s",  # must leave something of graceful_timeout
    "FLOWSERVE_HEALTH_PATH=/-/health",
]
