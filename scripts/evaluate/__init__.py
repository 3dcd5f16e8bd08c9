"""Scores by lm-eval: the study's own tasks, and one process a batch of checkpoints."""
