"""Conversion: native NeoX checkpoints to Transformers models."""
