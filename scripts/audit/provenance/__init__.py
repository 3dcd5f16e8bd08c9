"""What a paper or an archive asks for: RO-Crate, in-toto statement, checklist."""
