"""Prompt templates as other tools publish them, read as text and never run."""
