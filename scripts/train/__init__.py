"""Training: the GPT-NeoX model, Pythia's recipe, exact resume, checkpoints in NeoX layout."""
