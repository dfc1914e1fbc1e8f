"""The shop as one thing: its command line, the start of everything in one process, the demo, the checks from outside.

The only package that imports all the others; none of them imports it.
"""
