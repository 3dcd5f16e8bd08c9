"""GPT-NeoX: the model, its checkpoints on disk in every form, and what foreign configurations say of it."""
