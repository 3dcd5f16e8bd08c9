"""What people look at: figures, findings in words, pages, model cards."""
