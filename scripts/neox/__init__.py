"""What foreign configurations say of a GPT-NeoX: one check for conversion, adoption, export, scoring and audit."""
