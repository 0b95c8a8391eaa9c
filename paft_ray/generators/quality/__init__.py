"""Which of the templates that models wrote ask for their task: signals, their calibration, what it allows."""
