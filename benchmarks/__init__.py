"""What Izvor is measured by, each runnable alone: `python -m benchmarks.NAME`. See docs/."""
