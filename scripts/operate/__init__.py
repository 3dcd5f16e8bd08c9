"""What a person does with a study: start it, see how it stands, ask why something runs."""
