"""What the frozen encoders say of each record, kept beside it."""
