"""What plugs into other people's trainers, so that ponder can watch them; each file imports nothing of theirs.

Deliberately left out: telling itself (`ponder.telling`).
"""
