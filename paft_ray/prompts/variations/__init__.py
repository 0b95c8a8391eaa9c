"""What a suite does to a template and an example before it asks: one file per axis, each change a pure function of
(template, example, key)."""
