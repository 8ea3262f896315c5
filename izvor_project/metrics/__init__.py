"""What Prometheus reads: the rows' state from any web process, and each process's own counts."""

from prometheus_client import disable_created_metrics

# A second series for each counter, saying when it was made: nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]
