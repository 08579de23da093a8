"""The verbs of the `ponder` command; the table of them is in `ponder.commands.app`."""
