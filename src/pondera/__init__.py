"""Thinking time as a third scaling axis for any language model."""
