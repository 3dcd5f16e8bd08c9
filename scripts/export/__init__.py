"""Export: Transformers models to GGUF files for llama.cpp, and what they cost in memory and quality."""
