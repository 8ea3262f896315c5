"""The admin's first page: what is running, what waits, what failed and why, and what needs a look.

A fixed number of queries, whatever there is; Proxmox is not asked.
"""
