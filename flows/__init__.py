"""The order of things: one file a flow; its body reads as a table of contents."""
