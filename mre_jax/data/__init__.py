"""Training data: triplets from the public sets, and their rewards."""
