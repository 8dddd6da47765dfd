"""From records to the batch that one step reads."""
