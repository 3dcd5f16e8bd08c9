"""From raw text to rows: sources, documents, clusters, tokenizer, tokens, order."""
