"""An InstructPix2Pix of the toy world, small enough to ship, from nothing."""
