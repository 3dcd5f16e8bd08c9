"""Results that others published, and what their names and twins say."""
