"""Containers for code that is not asynchronous: files in the sense of `io`.

The work is done on an event loop in a thread of its own, one for the process.
"""
