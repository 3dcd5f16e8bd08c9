"""Megatron's token files and index maps, whole and in shards."""
