"""Starts everything Izvor needs on one machine, and ends it again.

Standard library only, and no import of Izvor: what it runs are processes. `python -m launcher
--help` lists the commands.
"""
