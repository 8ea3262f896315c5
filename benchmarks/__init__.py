"""What Izvor is measured by: `make bench`. See docs/performance.md."""
