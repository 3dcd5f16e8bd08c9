"""Make sampled parts a second time and compare them."""
