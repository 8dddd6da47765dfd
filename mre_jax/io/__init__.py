"""Files, pictures, memory and devices of the machine, for every room."""
