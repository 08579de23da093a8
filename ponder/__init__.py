"""The words everyone shares, and the front door.

The ground floor of the house: knobs, metrics, events, requests and errors are declared here once and read by every
other package. Deliberately left out: anything heavy. Nothing below imports torch, transformers, textual or a database,
so that a command answers in a blink.
"""
