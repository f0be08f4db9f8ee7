"""The order of things: one file a flow; its body reads as a table of contents."""

from darkroom.orchestrator.quiet import hide_noise

hide_noise()
