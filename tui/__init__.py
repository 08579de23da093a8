"""The screens; knows ponder's words and client only."""
